"""Image bytes → text: the one path that test, predict, export and the Python API share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from aocr import checkpoint, formats, image, metrics
from aocr.charmap import EOS_ID, CharMap
from aocr.config import COLUMN_PIXELS, IMAGE_HEIGHT, ModelConfig
from aocr.errors import AocrError, SkipError
from aocr.model import AttentionOCR, Decoded

BATCH_SIZE = 32
_SAVED_MODEL = "saved_model.pb"
_DETAILS = "serving_details"
EXTRA = "assets.extra"  # where TensorFlow Serving lets a SavedModel carry files of its own
_BLANK = formats.from_pillow(Image.new("L", (1, 1)))

Source = str | os.PathLike[str] | bytes | Image.Image | np.ndarray


@dataclass(frozen=True)
class Result:
    """What was read in one image.

    Attributes:
        text: The characters, empty when there are none.
        probability: Product of the probabilities of the characters and of the end, 0…1.
        characters: Each character with its probability.
        attention: `[characters, columns]` float32 when it was asked for, else `None`; a column
            stands for 4 pixels of the image scaled to 32 x `width`.
        width: Width of the scaled image in pixels.
    """

    text: str
    probability: float
    characters: tuple[tuple[str, float], ...]
    attention: np.ndarray | None = field(compare=False)
    width: int


class Reading(NamedTuple):
    """The same for a batch, as tensors.

    Attributes:
        output: `[batch]` string, UTF-8.
        probability: `[batch]` float64.
        characters: `[batch, S]` string, empty where a step prints nothing.
        character_probabilities: `[batch, S]` float64, of the same steps.
        attention: `[batch, S, time]` float32.
        widths: `[batch]` int32, pixels after scaling.
    """

    output: tf.Tensor
    probability: tf.Tensor
    characters: tf.Tensor
    character_probabilities: tf.Tensor
    attention: tf.Tensor
    widths: tf.Tensor


class Reader:
    """The graph from bytes, or from scaled images, to a `Reading`.

    Args:
        config: How images are read, and the alphabet.
        model: The network.
    """

    def __init__(self, config: ModelConfig, model: AttentionOCR) -> None:
        self.config = config
        self.model = model
        self._symbols = [symbol.encode() for symbol in CharMap(config.alphabet).symbols()]

    def read(self, encoded: tf.Tensor) -> Reading:
        """Reads encoded images, `[batch]` string; the batch may be empty."""
        # Convolutions may fail on an empty batch: a blank image stands in, and is cut off again.
        some = tf.cond(tf.size(encoded) > 0, lambda: encoded, lambda: tf.constant([_BLANK]))
        reading = self.read_images(*image.load_batch(some, self.config))
        return Reading(*(part[:tf.size(encoded)] for part in reading))

    def read_images(self, images: tf.Tensor, widths: tf.Tensor) -> Reading:
        """Reads scaled images `[batch, 32, width, channels]` with their own widths `[batch]`."""
        return self._reading(self.model.greedy(self.model.encode(images, widths)), widths)

    def examine(self, images: tf.Tensor, widths: tf.Tensor, targets: tf.Tensor
                ) -> tuple[Reading, tf.Tensor]:
        """Reads scaled images, and scores them against labels.

        Args:
            images: `[batch, 32, width, channels]`.
            widths: `[batch]` int32.
            targets: `[batch, S]` int32: characters, EOS, PAD.

        Returns:
            The reading, and the teacher-forced loss of each image, `[batch]`.
        """
        memory = self.model.encode(images, widths)
        loss = metrics.sequence_loss(self.model.teacher_forced(memory, targets), targets)
        return self._reading(self.model.greedy(memory), widths), loss

    def _reading(self, decoded: Decoded, widths: tf.Tensor) -> Reading:
        chances = tf.nn.log_softmax(tf.cast(decoded.logits, tf.float64))
        chances = tf.reduce_max(chances, -1)
        ended = tf.cast(decoded.ids == EOS_ID, tf.int32)
        counts = tf.cumsum(ended, axis=1, exclusive=True) == 0
        symbols = tf.gather(tf.constant(self._symbols), decoded.ids)
        characters = tf.where(counts, symbols, "")
        total = tf.reduce_sum(tf.where(counts, chances, tf.zeros_like(chances)), -1)
        return Reading(tf.strings.reduce_join(characters, -1), tf.exp(total), characters,
                       tf.exp(chances), decoded.attention, widths)


class Recognizer:
    """A model that is ready to read; `Recognizer.load` makes one.

    Attributes:
        source: The checkpoint or SavedModel it came from.
        config: The model's settings.
        reader: Its graph; `None` for a SavedModel.
    """

    def __init__(self, source: str, config: ModelConfig, read: Callable[[tf.Tensor], Reading],
                 reader: Reader | None = None) -> None:
        self.source = source
        self.config = config
        self.reader = reader
        self._read = read
        if reader is not None:
            channels = reader.config.channels
            self._examine = tf.function(reader.examine, autograph=False, input_signature=[
                tf.TensorSpec([None, IMAGE_HEIGHT, None, channels], tf.float32),
                tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, None], tf.int32)])

    @classmethod
    def load(cls, model_dir: str | os.PathLike[str]) -> Recognizer:
        """Restores a model.

        Args:
            model_dir: A folder of checkpoints, or an exported SavedModel (or the folder of its
                numbered versions, of which the newest is taken).

        Raises:
            AocrError: There is no model, or it is damaged.
        """
        folder = os.fspath(model_dir)
        exported = _exported(folder)
        if exported is not None:
            read = _read_exported(exported)
            config = checkpoint.load_config(tf.io.gfile.join(exported, EXTRA))
            return cls(exported, config, read)
        loaded = checkpoint.load(folder)
        reader = Reader(loaded.config, loaded.model)
        compiled = tf.function(reader.read, autograph=False,
                               input_signature=[tf.TensorSpec([None], tf.string)])
        return cls(loaded.path, loaded.config, compiled, reader)

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
        good: dict[int, bytes] = {}
        shapes: dict[int, float] = {}
        for n, source in enumerate(images):
            try:
                good[n], (width, height) = formats.readable(_encoded(source))
                shapes[n] = width / height
            except SkipError as error:
                answers[n] = error
        order = sorted(good, key=lambda n: (shapes[n], n))
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start:start + BATCH_SIZE]
            found = self._read_batch([good[n] for n in batch], attention)
            answers.update(zip(batch, found, strict=True))
        return [answers[n] for n in range(len(images))]

    def examine(self, batch: Mapping[str, tf.Tensor], attention: bool = False
                ) -> Iterator[tuple[Result, float]]:
        """Results and teacher-forced losses of a batch from `aocr.batches`."""
        reading, losses = self._examine(batch["images"], batch["widths"], batch["targets"])
        return zip(_results(reading, attention), losses.numpy().tolist(), strict=True)

    def _strictly(self, images: Sequence[Source], attention: bool) -> list[Result]:
        results = []
        for n, answer in enumerate(self.predict_each(images, attention)):
            if isinstance(answer, SkipError):
                raise AocrError(f"image {n} ({_name(images[n])}): {answer}") from answer
            results.append(answer)
        return results

    def _read_batch(self, encoded: list[bytes], attention: bool) -> list[Result | SkipError]:
        """One call for all; one for each where an image turns out to be damaged."""
        try:
            return list(_results(self._read(tf.constant(encoded)), attention))
        except tf.errors.InvalidArgumentError:
            if len(encoded) == 1:
                return [SkipError("unreadable image", "its data cannot be decoded")]
            return [self._read_batch([one], attention)[0] for one in encoded]


def _results(reading: Reading, attention: bool) -> Iterator[Result]:
    values = [part.numpy() for part in reading]
    for output, probability, characters, chances, looks, width in zip(*values, strict=True):
        printing = [n for n, character in enumerate(characters) if character]
        columns = -(-int(width) // COLUMN_PIXELS)
        yield Result(
            text=output.decode(), probability=float(probability),
            characters=tuple((characters[n].decode(), float(chances[n])) for n in printing),
            attention=looks[printing, :columns] if attention else None, width=int(width))


def _encoded(source: Source) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, Image.Image):
        return formats.from_pillow(source)
    if isinstance(source, np.ndarray):
        return formats.from_array(source)
    try:
        with tf.io.gfile.GFile(os.fspath(source), "rb") as file:
            return bytes(file.read())
    except tf.errors.OpError as error:
        raise SkipError("cannot open the file", error.message) from error
    except ValueError as error:  # a name that is no UTF-8
        raise SkipError("cannot open the file", str(error)) from error


def _name(source: Source) -> str:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else type(source).__name__


def _exported(folder: str) -> str | None:
    """The SavedModel in a folder, or in the newest of its numbered versions.

    Checkpoints come first: an export beside them may be older.
    """
    if checkpoint.exists(folder):
        return None
    if tf.io.gfile.exists(tf.io.gfile.join(folder, _SAVED_MODEL)):
        return folder
    if not tf.io.gfile.isdir(folder):
        return None
    names = (name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    versions = [tf.io.gfile.join(folder, name)
                for name in sorted((name for name in names if name.isdecimal()), key=int)]
    found = [version for version in versions
             if tf.io.gfile.exists(tf.io.gfile.join(version, _SAVED_MODEL))]
    return found[-1] if found else None


def _read_exported(folder: str) -> Callable[[tf.Tensor], Reading]:
    try:
        loaded = tf.saved_model.load(folder)
        details = loaded.signatures[_DETAILS]
    except (tf.errors.OpError, OSError, ValueError, KeyError) as error:
        raise AocrError(f"{folder} is not a model that this version of `aocr export` wrote: "
                        f"{str(error).splitlines()[0]}") from error

    def read(encoded: tf.Tensor) -> Reading:
        return Reading(**details(input=encoded))

    read.keeps = loaded  # type: ignore[attr-defined]  # the variables live as long as their owner
    return read
