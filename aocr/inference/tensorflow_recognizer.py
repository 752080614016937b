"""Recognizers that run a restored checkpoint or a SavedModel in TensorFlow."""

from __future__ import annotations

import itertools
import os
from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

import tensorflow as tf

from aocr.checkpoints import built_in, config_file, loader
from aocr.checkpoints.choice import DEFAULT_CHOICE, CheckpointChoice
from aocr.config import COLUMN_PIXELS, FLOAT32, IMAGE_HEIGHT, MAX_PIXELS
from aocr.errors import AocrError, SkipError
from aocr.images import header_ops, headers
from aocr.inference.decoding import make_decoding
from aocr.inference.graph import BatchPrediction, RecognitionGraph
from aocr.inference.options import refuse_options, split_settings
from aocr.inference.recognizer import (
    Recognizer,
    Result,
    check_precision,
    refuse_checkpoint_options,
)
from aocr.inference.saved_model import (
    DETAILS_SIGNATURE,
    EXTRA_ASSETS,
    find_saved_model,
    load_saved_model,
)
from aocr.runtime.devices import disable_tf32
from aocr.tokenizer import Tokenizer

if TYPE_CHECKING:
    from aocr.data.pipeline import Batch


class TensorFlowRecognizer(Recognizer):
    """A recognizer that runs in TensorFlow."""

    @abstractmethod
    def _run(self, encoded: tf.Tensor) -> BatchPrediction:
        """Runs the model on encoded images, `[batch]` string."""

    def _predict_batch(self, encoded: list[bytes], attention: bool) -> list[Result | SkipError]:
        """Recognizes a batch at once, or image by image if one of them turns out to be damaged."""
        try:
            return list(_results(self._run(tf.constant(encoded)), attention))
        except tf.errors.InvalidArgumentError as error:
            if len(encoded) == 1:
                return [_skip_error(error.message)]
            return [self._predict_batch([image], attention)[0] for image in encoded]


class CheckpointRecognizer(TensorFlowRecognizer):
    """A recognizer around a network, whose weights may change between calls.

    Args:
        source: Path of the checkpoint that the weights come from.
        graph: The graph around the network.

    Attributes:
        graph: The graph around the network.
    """

    def __init__(self, source: str, graph: RecognitionGraph) -> None:
        super().__init__(source, graph.config, graph.max_pixels)
        self.graph = graph
        files = [tf.TensorSpec([None], tf.string)]
        self._read = tf.function(graph.read_trusted, autograph=False, input_signature=files)
        self._check = tf.function(
            lambda encoded: header_ops.refuse_oversized(encoded, graph.max_pixels),
            autograph=False, input_signature=files)
        self._score = tf.function(graph.score, autograph=False, input_signature=[
            tf.TensorSpec([None, IMAGE_HEIGHT, None, graph.config.channels], tf.float32),
            tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, None], tf.int32)])

    @classmethod
    def load(cls, model_dir: str | os.PathLike[str] = built_in.DEFAULT_DIRECTORY,
             choice: CheckpointChoice = DEFAULT_CHOICE, max_pixels: int = MAX_PIXELS,
             precision: str = FLOAT32, **settings: object) -> CheckpointRecognizer:
        """Restores a checkpoint; see `Recognizer.load`."""
        check_precision(precision)
        disable_tf32()
        options, settings = split_settings(settings)
        loaded = loader.load(os.fspath(model_dir), settings, choice)
        tokenizer = Tokenizer(loaded.config.alphabet)
        graph = RecognitionGraph(loaded.config, loaded.model, max_pixels, precision, tokenizer,
                                 make_decoding(options, loaded.config, tokenizer))
        return cls(loaded.path, graph)

    def score(self, batch: Batch, attention: bool = False) -> Iterator[tuple[Result, float]]:
        """Recognizes the images of a batch of records.

        Args:
            batch: A batch that holds at least one image.
            attention: Whether results include the attention.

        Yields:
            The result and the teacher-forced loss of each image.
        """
        prediction, losses = self._score(batch.images, batch.widths, batch.targets)
        return zip(_results(prediction, attention), losses.numpy().tolist(), strict=True)

    def _run(self, encoded: tf.Tensor) -> BatchPrediction:
        # The check is a graph of its own, because building it takes a quarter of a second, and PNG
        # and JPEG files do not need it.
        if not all(map(headers.is_safely_decoded, encoded.numpy())):
            encoded = self._check(encoded)
        prediction: BatchPrediction = self._read(encoded)
        return prediction


class SavedModelRecognizer(TensorFlowRecognizer):
    """A recognizer around a SavedModel that `aocr export` has written.

    Args:
        path: The directory of the SavedModel.
        max_pixels: Largest number of pixels of an image.
    """

    def __init__(self, path: str, max_pixels: int) -> None:
        self._loaded = load_saved_model(path)
        config = config_file.load(tf.io.gfile.join(path, EXTRA_ASSETS))
        super().__init__(path, config, max_pixels)

    @classmethod
    def load(cls, model_dir: str | os.PathLike[str] = built_in.DEFAULT_DIRECTORY,
             choice: CheckpointChoice = DEFAULT_CHOICE, max_pixels: int = MAX_PIXELS,
             precision: str = FLOAT32, **settings: object) -> SavedModelRecognizer:
        """Loads a SavedModel; see `Recognizer.load`."""
        check_precision(precision)
        disable_tf32()
        path = find_saved_model(os.fspath(model_dir))
        if path is None:
            raise AocrError(f"{os.fspath(model_dir)} holds no SavedModel; name the directory that "
                            "`aocr export` has written")
        refuse_checkpoint_options(path, choice, precision)
        settings = refuse_options(path, settings)
        recognizer = cls(path, max_pixels)
        config_file.check_flags(path, recognizer.config, settings)
        return recognizer

    def _run(self, encoded: tf.Tensor) -> BatchPrediction:
        return BatchPrediction(**self._loaded.signatures[DETAILS_SIGNATURE](input=encoded))


def _results(prediction: BatchPrediction, attention: bool) -> Iterator[Result]:
    arrays = [part.numpy() for part in (
        prediction.output, prediction.probability, prediction.characters,
        prediction.character_probabilities, prediction.attention, prediction.widths)]
    candidates = _candidates(prediction)
    for output, probability, characters, probabilities, weights, width in zip(*arrays, strict=True):
        printed = [n for n, character in enumerate(characters) if character]
        columns = -(-int(width) // COLUMN_PIXELS)
        yield Result(
            text=output.decode(), probability=float(probability),
            characters=tuple((characters[n].decode(), float(probabilities[n])) for n in printed),
            attention=weights[printed, :columns] if attention else None, width=int(width),
            candidates=next(candidates))


def _candidates(prediction: BatchPrediction) -> Iterator[tuple[tuple[str, float], ...]]:
    """Yields the candidates of each image, without those that do not exist."""
    if prediction.candidates is None or prediction.candidate_probabilities is None:
        yield from itertools.repeat(())
        return
    for texts, probabilities in zip(prediction.candidates.numpy(),
                                    prediction.candidate_probabilities.numpy(), strict=True):
        yield tuple((text.decode(), float(probability))
                    for text, probability in zip(texts, probabilities, strict=True)
                    if probability > 0)


def _skip_error(message: str) -> SkipError:
    """Returns the reason why the graph refused an image."""
    if headers.TOO_LARGE in message:
        return SkipError(headers.TOO_LARGE, "it declares more pixels than this model was "
                         "exported for; export it again with a larger --max-pixels")
    return SkipError("unreadable image", "its data cannot be decoded")
