"""Python API: recognizes the text of images with a model of any format.

The classes that run a model are in modules of their own, which are imported when a model of their
format is loaded: TensorFlow is not needed for ONNX models and for compact models with a graph for
ONNX Runtime.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from aocr.checkpoints import built_in
from aocr.checkpoints.choice import DEFAULT_CHOICE, CheckpointChoice
from aocr.config import FLOAT32, MAX_PIXELS, PRECISIONS, ModelConfig
from aocr.errors import AocrError, SkipError
from aocr.inference import onnx_model, sources
from aocr.inference.options import DecodingOptions, split_settings
from aocr.inference.sources import EncodedImage, Source
from aocr.runtime import startup

BATCH_SIZE = 32
_MAX_WIDTH_RATIO = 1.5  # of the images of a batch
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
        candidates: The most probable texts with their probabilities, if `n_best` was given.
    """

    text: str
    probability: float
    characters: tuple[tuple[str, float], ...]
    attention: np.ndarray | None = field(compare=False)
    width: int
    candidates: tuple[tuple[str, float], ...] = ()


class Recognizer(ABC):
    """A model that recognizes images; `Recognizer.load` creates one.

    Attributes:
        source: Path of the checkpoint, weights, SavedModel or ONNX file.
        config: The model's settings.
    """

    def __init__(self, source: str, config: ModelConfig, max_pixels: int) -> None:
        self.source = source
        self.config = config
        self._max_pixels = max_pixels

    @classmethod
    def load(cls, model_dir: str | os.PathLike[str] = built_in.DEFAULT_DIRECTORY,
             choice: CheckpointChoice = DEFAULT_CHOICE, max_pixels: int = MAX_PIXELS,
             precision: str = FLOAT32, **settings: object) -> Recognizer:
        """Loads a model.

        Args:
            model_dir: The name of a built-in model; a model directory of this aocr or of the
                original aocr; the directory of a SavedModel or of its numbered versions, of which
                the newest is loaded; or an ONNX file that `aocr export` wrote, or its directory.
            choice: Which checkpoint of the directory to load, and how.
            max_pixels: Largest number of pixels of an image; larger images are refused before
                they are decoded. An exported model has its own limit as well.
            precision: One of `aocr.config.PRECISIONS`; applies to checkpoints.
            settings: What to return and how many candidates (`pattern`, `lexicon`, `beam`,
                `n_best`, see `aocr.inference.options.DecodingOptions`), for checkpoints; and
                fields of `aocr.config.ModelConfig`. A model of the original aocr needs those
                that were set by flags (`max_width=160`, …); others must equal the model's.

        Raises:
            AocrError: There is no model, it is damaged, or an argument does not fit it.
        """
        path = built_in.resolve(os.fspath(model_dir))
        recognizer = (tensorflow_class(path) if needs_tensorflow(path, precision, settings)
                      else _onnx_class(path))
        return recognizer.load(path, choice, max_pixels, precision, **settings)

    def predict(self, images: Source | Iterable[Source], attention: bool = False
                ) -> Result | list[Result]:
        """Recognizes one image or several.

        Args:
            images: Path, bytes of an image file, Pillow image or uint8 array `[height, width]`
                or `[height, width, channels]`; or several of them, also as an array with 4 axes.
            attention: Whether results include the attention.

        Returns:
            One result for one image, a list of results for several.

        Raises:
            AocrError: An image cannot be read; the message names it.
            TypeError: An image is of another type, such as an open file.
        """
        if isinstance(images, np.ndarray) and images.ndim == 4:
            return self._predict_all(list(images), attention)
        if isinstance(images, sources.SOURCE_TYPES):
            return self._predict_all([images], attention)[0]
        if hasattr(images, "read"):  # Python would take its lines for images
            raise sources.wrong_type(images)
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

    def predict_records(self, images: Sequence[bytes]) -> list[Result | SkipError]:
        """Recognizes encoded images as records hold them, without EXIF rotation, as `aocr test`."""
        batches = (list(images[n:n + BATCH_SIZE]) for n in range(0, len(images), BATCH_SIZE))
        return [result for batch in batches for result in self._predict_batch(batch, False)]

    @abstractmethod
    def _predict_batch(self, encoded: list[bytes], attention: bool) -> list[Result | SkipError]:
        """Recognizes a batch of images, which TensorFlow decodes correctly."""

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
        for batch in similar_batches({n: image.aspect_ratio for n, image in pending.items()}):
            results = self._predict_batch([pending[n].encoded for n in batch], attention)
            yield from zip(batch, results, strict=True)


def similar_batches(aspect_ratios: Mapping[int, float]) -> list[list[int]]:
    """Returns the keys of images in batches of at most `BATCH_SIZE`, narrow images first.

    All images of a batch cost as much as its widest one: batches end where images become much
    wider. Below a square, widths hardly differ in cost.
    """
    batches: list[list[int]] = [[]]
    widest = 0.0
    for n in sorted(aspect_ratios, key=lambda n: (aspect_ratios[n], n)):
        if aspect_ratios[n] > widest or len(batches[-1]) == BATCH_SIZE:
            batches.append([])
            widest = _MAX_WIDTH_RATIO * max(1.0, aspect_ratios[n])
        batches[-1].append(n)
    return batches[1:]


def check_precision(precision: str) -> None:
    """Checks the name of a precision.

    Raises:
        AocrError: It is not one of `aocr.config.PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise AocrError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")


def refuse_checkpoint_options(path: str, choice: CheckpointChoice, precision: str) -> None:
    """Refuses options that apply to checkpoints where an exported model is loaded.

    Raises:
        AocrError: An option is not the default.
    """
    if precision != FLOAT32:
        raise AocrError(f"{path} is an exported model, which computes in {FLOAT32}; "
                        f"leave out --precision {precision}")
    if choice.which is not None or choice.debias:
        raise AocrError(f"{path} is an exported model; --checkpoint and --debias apply to "
                        "directories with checkpoints: leave them out")


def needs_tensorflow(model_dir: str, precision: str, settings: Mapping[str, object],
                     gpu: bool = False) -> bool:
    """Returns whether TensorFlow runs a model.

    Args:
        model_dir: As for `Recognizer.load`.
        precision: As for `Recognizer.load`.
        settings: As for `Recognizer.load`.
        gpu: Whether the user named a GPU, which exported ONNX models do not use.

    Raises:
        AocrError: A decoding option is out of its range.
    """
    path = built_in.resolve(model_dir)
    if onnx_model.find(path) is not None:
        return False
    options, _ = split_settings(dict(settings))
    return (gpu or precision != FLOAT32 or options != DecodingOptions()
            or not onnx_model.has_graph(path) or not _onnx_runtime_is_available())


def tensorflow_class(model_dir: str) -> type[Recognizer]:
    """Returns the class that runs the checkpoint or SavedModel that a path names."""
    startup.import_tensorflow()
    from aocr.inference import saved_model
    from aocr.inference.tensorflow_recognizer import CheckpointRecognizer, SavedModelRecognizer

    exported = saved_model.find_saved_model(model_dir) is not None
    return SavedModelRecognizer if exported else CheckpointRecognizer


def _onnx_class(model_dir: str) -> type[Recognizer]:
    from aocr.inference.onnx_recognizer import CompactRecognizer, OnnxRecognizer

    return CompactRecognizer if onnx_model.find(model_dir) is None else OnnxRecognizer


def _onnx_runtime_is_available() -> bool:
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        return False
    return True
