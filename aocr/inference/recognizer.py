"""Python API: recognizes the text of images with a restored checkpoint or a SavedModel."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from PIL import Image

from aocr.checkpoints import config_file, loader
from aocr.checkpoints.loader import DEFAULT_CHOICE, CheckpointChoice
from aocr.config import COLUMN_PIXELS, IMAGE_HEIGHT, MAX_PIXELS, PRECISIONS, ModelConfig
from aocr.errors import AocrError, SkipError
from aocr.images import header_ops, headers
from aocr.inference import sources
from aocr.inference.graph import BatchPrediction, RecognitionGraph
from aocr.inference.saved_model import (
    DETAILS_SIGNATURE,
    EXTRA_ASSETS,
    find_saved_model,
    load_saved_model,
)
from aocr.inference.sources import EncodedImage, Source
from aocr.runtime.devices import disable_tf32

if TYPE_CHECKING:
    from aocr.data.pipeline import Batch

BATCH_SIZE = 32
_MAX_PENDING_BYTES = 1 << 26  # of encoded images that wait for a batch of similar aspect ratios


@dataclass(frozen=True)
class Result:
    """The recognized text of one image.

    Attributes:
        text: The text, which may be empty.
        probability: Probability of the text up to and including EOS, from 0 to 1.
        characters: Each character with its probability.
        attention: `[characters, columns]` float32 if it was requested, otherwise `None`; a column
            covers 4 pixels of the network's input, which is 32 x `width`.
        width: Width of that input in pixels: the resized image and, for models of the original
            aocr, its padding.
    """

    text: str
    probability: float
    characters: tuple[tuple[str, float], ...]
    attention: np.ndarray | None = field(compare=False)
    width: int


class Recognizer(ABC):
    """A model that recognizes images; `Recognizer.load` creates one.

    Attributes:
        source: Path of the checkpoint or SavedModel.
        config: The model's settings.
    """

    def __init__(self, source: str, config: ModelConfig, max_pixels: int) -> None:
        self.source = source
        self.config = config
        self._max_pixels = max_pixels

    @classmethod
    def load(cls, model_dir: str | os.PathLike[str], choice: CheckpointChoice = DEFAULT_CHOICE,
             max_pixels: int = MAX_PIXELS, precision: str = PRECISIONS[0], **settings: object
             ) -> Recognizer:
        """Loads a model.

        Args:
            model_dir: A model directory of this aocr or of the original aocr, or the directory of
                a SavedModel or of its numbered versions, of which the newest is loaded.
            choice: Which checkpoint of the directory to load, and how.
            max_pixels: Largest number of pixels of an image; larger images are refused before
                they are decoded. An exported model has its own limit as well.
            precision: One of `aocr.config.PRECISIONS`; applies to checkpoints.
            settings: Fields of `aocr.config.ModelConfig`. A model of the original aocr needs those
                that were set by flags (`max_width=160`, …); others must equal the model's.

        Raises:
            AocrError: There is no model, it is damaged, or an argument does not fit it.
        """
        exported = find_saved_model(os.fspath(model_dir)) is not None
        kind: type[Recognizer] = SavedModelRecognizer if exported else CheckpointRecognizer
        return kind.load(model_dir, choice, max_pixels, precision, **settings)

    def predict(self, images: Source | Iterable[Source], attention: bool = False
                ) -> Result | list[Result]:
        """Recognizes one image or several.

        Args:
            images: Path, encoded image, Pillow image or uint8 array `[height, width]` or
                `[height, width, channels]`; or several of them, also as an array with 4 axes.
            attention: Whether results include the attention.

        Returns:
            One result for one image, a list of results for several.

        Raises:
            AocrError: An image cannot be read; the message names it.
        """
        if isinstance(images, np.ndarray) and images.ndim == 4:
            return self._predict_all(list(images), attention)
        if isinstance(images, str | os.PathLike | bytes | Image.Image | np.ndarray):
            return self._predict_all([images], attention)[0]
        return self._predict_all(list(images), attention)

    def predict_each(self, images: Sequence[Source], attention: bool = False
                     ) -> list[Result | SkipError]:
        """Recognizes several images, and returns an error for each that cannot be read."""
        results: dict[int, Result | SkipError] = {}
        pending: dict[int, EncodedImage] = {}
        pending_bytes = 0
        for n, image in enumerate(images):
            try:
                pending[n] = sources.encode(image, self._max_pixels)
            except SkipError as error:
                results[n] = error
                continue
            pending_bytes += len(pending[n].encoded)
            if pending_bytes > _MAX_PENDING_BYTES:
                results.update(self._predict_pending(pending, attention))
                pending, pending_bytes = {}, 0
        results.update(self._predict_pending(pending, attention))
        return [results[n] for n in range(len(images))]

    @abstractmethod
    def _run(self, encoded: tf.Tensor) -> BatchPrediction:
        """Runs the model on encoded images, `[batch]` string."""

    def _predict_all(self, images: Sequence[Source], attention: bool) -> list[Result]:
        results = []
        for n, result in enumerate(self.predict_each(images, attention)):
            if isinstance(result, SkipError):
                raise AocrError(f"image {n} ({sources.describe(images[n])}): {result}") from result
            results.append(result)
        return results

    def _predict_pending(self, pending: Mapping[int, EncodedImage], attention: bool
                         ) -> Iterator[tuple[int, Result | SkipError]]:
        """Recognizes images in batches of similar aspect ratios."""
        order = sorted(pending, key=lambda n: (pending[n].aspect_ratio, n))
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start:start + BATCH_SIZE]
            results = self._predict_batch([pending[n].encoded for n in batch], attention)
            yield from zip(batch, results, strict=True)

    def _predict_batch(self, encoded: list[bytes], attention: bool) -> list[Result | SkipError]:
        """Recognizes a batch at once, or image by image if one of them turns out to be damaged."""
        try:
            return list(_results(self._run(tf.constant(encoded)), attention))
        except tf.errors.InvalidArgumentError as error:
            if len(encoded) == 1:
                return [_skip_error(error.message)]
            return [self._predict_batch([image], attention)[0] for image in encoded]


class CheckpointRecognizer(Recognizer):
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
    def load(cls, model_dir: str | os.PathLike[str], choice: CheckpointChoice = DEFAULT_CHOICE,
             max_pixels: int = MAX_PIXELS, precision: str = PRECISIONS[0], **settings: object
             ) -> CheckpointRecognizer:
        """Restores a checkpoint; see `Recognizer.load`."""
        _check_precision(precision)
        disable_tf32()
        loaded = loader.load(os.fspath(model_dir), settings, choice)
        graph = RecognitionGraph(loaded.config, loaded.model, max_pixels, precision)
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


class SavedModelRecognizer(Recognizer):
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
    def load(cls, model_dir: str | os.PathLike[str], choice: CheckpointChoice = DEFAULT_CHOICE,
             max_pixels: int = MAX_PIXELS, precision: str = PRECISIONS[0], **settings: object
             ) -> SavedModelRecognizer:
        """Loads a SavedModel; see `Recognizer.load`."""
        _check_precision(precision)
        disable_tf32()
        path = find_saved_model(os.fspath(model_dir))
        if path is None:
            raise AocrError(f"{os.fspath(model_dir)} holds no SavedModel; name the directory that "
                            "`aocr export` has written")
        if precision != PRECISIONS[0]:
            raise AocrError(f"{path} is an exported model, which computes in {PRECISIONS[0]}; "
                            f"leave out --precision {precision}")
        if choice.which is not None or choice.debias:
            raise AocrError(f"{path} is an exported model; --checkpoint and --debias apply to "
                            "directories with checkpoints: leave them out")
        recognizer = cls(path, max_pixels)
        config_file.check_flags(path, recognizer.config, settings)
        return recognizer

    def _run(self, encoded: tf.Tensor) -> BatchPrediction:
        return BatchPrediction(**self._loaded.signatures[DETAILS_SIGNATURE](input=encoded))


def _check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise AocrError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")


def _results(prediction: BatchPrediction, attention: bool) -> Iterator[Result]:
    arrays = [part.numpy() for part in prediction]
    for output, probability, characters, probabilities, weights, width in zip(*arrays, strict=True):
        printed = [n for n, character in enumerate(characters) if character]
        columns = -(-int(width) // COLUMN_PIXELS)
        yield Result(
            text=output.decode(), probability=float(probability),
            characters=tuple((characters[n].decode(), float(probabilities[n])) for n in printed),
            attention=weights[printed, :columns] if attention else None, width=int(width))


def _skip_error(message: str) -> SkipError:
    """Returns the reason why the graph refused an image."""
    if header_ops.TOO_LARGE in message:
        return SkipError(header_ops.TOO_LARGE, "it declares more pixels than this model was "
                         "exported for; export it again with a larger --max-pixels")
    return SkipError("unreadable image", "its data cannot be decoded")
