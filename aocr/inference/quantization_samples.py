"""Images of a dataset with which a quantized model is calibrated and compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aocr.data import skipping
from aocr.data.example import Record
from aocr.data.index import build_index, read_records, resolve_paths
from aocr.errors import SkipError
from aocr.images import numpy_preprocessing
from aocr.inference.graph import RecognitionGraph
from aocr.inference.recognizer import Recognizer, Result

_MOST = 1000  # images whose results are compared
_MOST_FOR_CALIBRATION = 128


class Comparison(NamedTuple):
    """Results of a quantized model and of its checkpoint on the same images.

    Attributes:
        images: Number of images.
        words: Images whose text of the quantized model equals the label.
        checkpoint_words: The same for the checkpoint.
        equal: Images for which both give the same text.
        size: Size of the quantized model in bytes.
    """

    images: int
    words: int
    checkpoint_words: int
    equal: int
    size: int

    def __str__(self) -> str:
        """Returns the comparison as a part of a sentence."""
        return (f"{self.size / 1e6:.1f} MB, word accuracy {self.words / self.images:.4f} instead "
                f"of {self.checkpoint_words / self.images:.4f}, the same text for {self.equal} of "
                f"{self.images} images")


class Samples(NamedTuple):
    """Images of a dataset that can be decoded.

    Attributes:
        images: Encoded images.
        labels: Their labels as the model would output them.
    """

    images: Sequence[bytes]
    labels: Sequence[str]

    def for_calibration(self) -> list[bytes]:
        """Returns images at equal distances, at most 128."""
        return [self.images[n] for n in _positions(len(self.images), _MOST_FOR_CALIBRATION)]

    def compare(self, recognizer: Recognizer, quantized: Recognizer, size: int) -> Comparison:
        """Recognizes the images with a model and with its quantized form of a size in bytes."""
        expected, actual = (_texts(model, self.images) for model in (recognizer, quantized))
        return Comparison(len(self.images), _equal(actual, self.labels),
                          _equal(expected, self.labels), _equal(actual, expected), size)


def read(pattern: str, graph: RecognitionGraph) -> Samples:
    """Reads images of a dataset, at most 1000 at equal distances.

    Args:
        pattern: Path or glob of TFRecords files.
        graph: The model that recognizes them.

    Raises:
        AocrError: There is no usable image.
    """
    index = build_index(resolve_paths([pattern]), graph.config, graph.tokenizer, graph.max_pixels)
    skipped = list(index.skipped)
    positions = _positions(len(index), _MOST)
    records: list[Record] = []
    for n, record in zip(positions, read_records(index, positions), strict=True):
        try:
            numpy_preprocessing.decode(record.image, graph.config, graph.max_pixels)
            records.append(record)
        except SkipError as error:
            skipped.append(index.skip(n, error.reason, error.detail))
    skipping.require_usable(len(records), skipped)
    skipping.report(skipped, len(records), "to quantize")
    tokenizer = graph.tokenizer
    return Samples([record.image for record in records],
                   [tokenizer.decode(tokenizer.encode(record.label)) for record in records])


def _positions(available: int, max_count: int) -> list[int]:
    """Returns positions at equal distances."""
    return [int(n) for n in np.linspace(0, available - 1, min(available, max_count))]


def _texts(recognizer: Recognizer, images: Sequence[bytes]) -> list[str | None]:
    """Returns the text of each image, `None` for those that the model cannot decode."""
    return [result.text if isinstance(result, Result) else None
            for result in recognizer.predict_records(images)]


def _equal(texts: Sequence[str | None], others: Sequence[str | None]) -> int:
    return sum(text == other for text, other in zip(texts, others, strict=True))
