"""Image bytes → text: the one path that test, predict, export and the Python API share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from aocr.checkpoints import config_file, loader
from aocr.checkpoints.loader import DEFAULT_CHOICE, CheckpointChoice
from aocr.config import COLUMN_PIXELS, IMAGE_HEIGHT, MAX_PIXELS, PRECISIONS, ModelConfig
from aocr.errors import AocrError, SkipError, reason
from aocr.images import files, glance, header_ops, transcoding
from aocr.inference.graph import BatchPrediction, RecognitionGraph
from aocr.inference.saved_model import EXTRA_ASSETS, find_saved_model, load_saved_model
from aocr.runtime.devices import disable_tf32

if TYPE_CHECKING:
    from aocr.data.pipeline import Batch

BATCH_SIZE = 32
_HELD_BYTES = 1 << 26  # of encoded images that wait to be read
Source = str | os.PathLike[str] | bytes | Image.Image | np.ndarray


@dataclass(frozen=True)
class Result:
    """What was read in one image.

    Attributes:
        text: The characters, empty when there are none.
        probability: Product of the probabilities of the characters and of the end, 0…1.
        characters: Each character with its probability.
        attention: `[characters, columns]` float32 when it was asked for, else `None`; a column
            stands for 4 pixels of the network's input, 32 x `width`.
        width: Width of that input in pixels: the scaled image, and, for models of the original,
            its padding.
    """

    text: str
    probability: float
    characters: tuple[tuple[str, float], ...]
    attention: np.ndarray | None = field(compare=False)
    width: int


class Recognizer:
    """A model that is ready to read; `Recognizer.load` makes one.

    Attributes:
        source: The checkpoint or SavedModel it came from.
        config: The model's settings.
        reader: Its graph; `None` for a SavedModel.
    """

    def __init__(self, source: str, config: ModelConfig,
                 read: Callable[[tf.Tensor], BatchPrediction],
                 reader: RecognitionGraph | None = None, max_pixels: int = MAX_PIXELS) -> None:
        self.source = source
        self.config = config
        self.reader = reader
        self._read = read
        self._max_pixels = max_pixels
        self._read_usual = read
        if reader is not None:
            channels = reader.config.channels
            self._read_usual = _of_bytes(reader.read_usual)
            self._examine = tf.function(reader.examine, autograph=False, input_signature=[
                tf.TensorSpec([None, IMAGE_HEIGHT, None, channels], tf.float32),
                tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, None], tf.int32)])

    @classmethod
    def load(cls, model_dir: str | os.PathLike[str], choice: CheckpointChoice = DEFAULT_CHOICE,
             max_pixels: int = MAX_PIXELS, precision: str = PRECISIONS[0], **settings: object
             ) -> Recognizer:
        """Restores a model.

        Args:
            model_dir: A folder of checkpoints, of ours or of the original, or an exported
                SavedModel (or the folder of its numbered versions, of which the newest is taken).
            choice: Which checkpoint of the folder, and how it is read.
            max_pixels: Most pixels that an image may promise; larger ones are refused before
                they take memory. An exported model has a limit of its own as well.
            precision: How checkpoints are computed, one of `aocr.config.PRECISIONS`.
            settings: Fields of `aocr.config.ModelConfig`. A model of the original needs those
                that were its flags (`max_width=160`, …); others must agree with the folder.

        Raises:
            AocrError: There is no model, it is damaged, or a setting contradicts it.
        """
        if precision not in PRECISIONS:
            raise AocrError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        disable_tf32()
        folder = os.fspath(model_dir)
        exported = find_saved_model(folder)
        if exported is not None:
            if precision != PRECISIONS[0]:
                raise AocrError(f"{exported} is an exported model, which computes in "
                                f"{PRECISIONS[0]}; leave out --precision {precision}")
            if choice.which is not None or choice.debias:
                raise AocrError(f"{exported} is an exported model; --checkpoint and --debias are "
                                "for folders of checkpoints: leave them out")
            read = load_saved_model(exported)
            config = config_file.load(tf.io.gfile.join(exported, EXTRA_ASSETS))
            config_file.check_flags(exported, config, settings)
            return cls(exported, config, read, max_pixels=max_pixels)
        loaded = loader.load(folder, settings, choice)
        return cls.around(loaded.path, RecognitionGraph(
            loaded.config, loaded.model, max_pixels, precision))

    @classmethod
    def around(cls, source: str, reader: RecognitionGraph) -> Recognizer:
        """The recognizer of a network, whose weights may go on changing."""
        return cls(source, reader.config, _of_bytes(reader.read), reader, reader.max_pixels)

    def predict(self, images: Source | Iterable[Source], attention: bool = False
                ) -> Result | list[Result]:
        """Reads one image or many.

        Args:
            images: Path, encoded bytes, Pillow image or uint8 array `[height, width]` or
                `[height, width, channels]`, or several of them (also as one array of 4 axes).
            attention: Whether results carry the attention.

        Returns:
            One result for one image, a list for several.

        Raises:
            AocrError: An image cannot be read; the text says which.
        """
        if isinstance(images, np.ndarray) and images.ndim == 4:
            return self._strictly(list(images), attention)
        if isinstance(images, str | os.PathLike | bytes | Image.Image | np.ndarray):
            return self._strictly([images], attention)[0]
        return self._strictly(list(images), attention)

    def predict_each(self, images: Sequence[Source], attention: bool = False
                     ) -> list[Result | SkipError]:
        """As `predict`, with the error in the place of an image that cannot be read."""
        answers: dict[int, Result | SkipError] = {}
        waiting: dict[int, _Waiting] = {}
        held = 0
        for n, source in enumerate(images):
            try:
                waiting[n] = _waiting(source, self._max_pixels)
            except SkipError as error:
                answers[n] = error
                continue
            held += len(waiting[n].encoded)
            if held > _HELD_BYTES:
                answers.update(self._read_all(waiting, attention))
                waiting, held = {}, 0
        answers.update(self._read_all(waiting, attention))
        return [answers[n] for n in range(len(images))]

    def examine(self, batch: Batch, attention: bool = False
                ) -> Iterator[tuple[Result, float]]:
        """Results and teacher-forced losses of a batch from `aocr.data.pipeline`."""
        reading, losses = self._examine(batch.images, batch.widths, batch.targets)
        return zip(_results(reading, attention), losses.numpy().tolist(), strict=True)

    def _read_all(self, waiting: Mapping[int, _Waiting], attention: bool
                  ) -> Iterator[tuple[int, Result | SkipError]]:
        """Reads images of like shapes together."""
        order = sorted(waiting, key=lambda n: (waiting[n].shape, n))
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start:start + BATCH_SIZE]
            found = self._read_batch([waiting[n].encoded for n in batch], attention)
            yield from zip(batch, found, strict=True)

    def _strictly(self, images: Sequence[Source], attention: bool) -> list[Result]:
        results = []
        for n, answer in enumerate(self.predict_each(images, attention)):
            if isinstance(answer, SkipError):
                raise AocrError(f"image {n} ({_name(images[n])}): {answer}") from answer
            results.append(answer)
        return results

    def _read_batch(self, encoded: list[bytes], attention: bool) -> list[Result | SkipError]:
        """One call for all; one for each where an image turns out to be damaged."""
        # Sizes that Python has seen need not be looked for in the graph again: building that part
        # takes a quarter of a second.
        usual = all(glance.header_size(each) for each in encoded)
        read = self._read_usual if usual else self._read
        try:
            return list(_results(read(tf.constant(encoded)), attention))
        except tf.errors.InvalidArgumentError as error:
            if len(encoded) == 1:
                return [_refusal(error.message)]
            return [self._read_batch([one], attention)[0] for one in encoded]


def _of_bytes(read: Callable[[tf.Tensor], BatchPrediction]) -> Callable[[tf.Tensor],
                                                                        BatchPrediction]:
    compiled: Callable[[tf.Tensor], BatchPrediction] = tf.function(
        read, autograph=False, input_signature=[tf.TensorSpec([None], tf.string)])
    return compiled


def _results(reading: BatchPrediction, attention: bool) -> Iterator[Result]:
    values = [part.numpy() for part in reading]
    for output, probability, characters, chances, looks, width in zip(*values, strict=True):
        printing = [n for n, character in enumerate(characters) if character]
        columns = -(-int(width) // COLUMN_PIXELS)
        yield Result(
            text=output.decode(), probability=float(probability),
            characters=tuple((characters[n].decode(), float(chances[n])) for n in printing),
            attention=looks[printing, :columns] if attention else None, width=int(width))


class _Waiting(NamedTuple):
    """An image that can be read, and its width / height."""

    encoded: bytes
    shape: float


def _waiting(source: Source, max_pixels: int) -> _Waiting:
    encoded, (width, height) = transcoding.to_decodable(_encoded(source, max_pixels), max_pixels)
    return _Waiting(encoded, width / height)


def _refusal(message: str) -> SkipError:
    """Why the graph did not take an image."""
    if header_ops.TOO_LARGE in message:
        return SkipError(header_ops.TOO_LARGE, "it promises more pixels than this model was "
                         "exported for; export it again with a larger --max-pixels")
    return SkipError("unreadable image", "its data cannot be decoded")


def _encoded(source: Source, max_pixels: int) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, Image.Image):
        return transcoding.from_pillow(source)
    if isinstance(source, np.ndarray):
        return transcoding.from_array(source)
    path = os.fspath(source)
    try:
        return files.read_image_file(path, max_pixels)
    except tf.errors.OpError as error:
        raise SkipError("cannot open the file", reason(error)) from error
    except (ValueError, TypeError) as error:  # TensorFlow's paths are UTF-8 without NUL
        raise SkipError("cannot open the file", "there is no plain file of that name, or it is "
                        "empty, or it may not be read") from error


def _name(source: Source) -> str:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else type(source).__name__
