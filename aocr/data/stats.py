"""Statistics of a dataset: image sizes, characters, skipped lines, and the flags that fit them."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from aocr.config import IMAGE_HEIGHT, MAX_PIXELS, max_bytes
from aocr.data import scan, tfrecord
from aocr.data.example import decode_label
from aocr.errors import AocrError, SkipError

QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
# An outlier is larger than the largest of the other images by more than this factor. The factors
# differ because a wide image is skipped in training, while one of a wide shape is only squeezed.
_WIDTH_OUTLIER, _SHAPE_OUTLIER = 3.0, 1.5
_OUTLIER_SHARE = 0.01
_MIN_IMAGES_WITH_OUTLIER = 10
_NAMED_IMAGES = 3
_HEADROOM = 1.25


class NamedSize(NamedTuple):
    """Size of an image in pixels, and its path; compares by width."""

    width: int
    height: int
    path: str


class SizeProposal(NamedTuple):
    """Flags of `aocr train` that fit the images of a dataset.

    Attributes:
        max_width: Value for `--max-width`.
        max_height: Value for `--max-height`.
        skipped: Number of images that `max_width` skips, because they are outliers.
    """

    max_width: int
    max_height: int
    skipped: int


@dataclass
class ImageSizes:
    """Sizes of all images of a dataset in pixels.

    Attributes:
        widths: Their widths.
        heights: Their heights.
        widest: The few widest of them, as a heap.
    """

    widths: list[int] = field(default_factory=list)
    heights: list[int] = field(default_factory=list)
    widest: list[NamedSize] = field(default_factory=list)

    def add(self, size: NamedSize) -> None:
        """Adds an image."""
        self.widths.append(size.width)
        self.heights.append(size.height)
        if len(self.widest) < _NAMED_IMAGES:
            heapq.heappush(self.widest, size)
        elif size.width > self.widest[0].width:
            heapq.heapreplace(self.widest, size)

    def quantiles(self) -> tuple[list[int], list[int]]:
        """Returns the `QUANTILES` of widths and heights, as values that occur."""
        return _quantiles(self.widths), _quantiles(self.heights)

    def propose(self) -> SizeProposal:
        """Returns flags that fit at least 99 % of the images, with headroom if sizes vary.

        Outliers are ignored: at most 1 % of the images, or one in a small dataset. Without them,
        `max_width` fits every image, and together with `max_height` it makes the network's input
        wide enough to keep the shapes of the images.
        """
        sizes = np.array([self.widths, self.heights])
        fitting = sizes[:, sizes[0] <= _limit_without_outliers(sizes[0], _WIDTH_OUTLIER)]
        widths, heights = fitting
        max_width = with_headroom(int(widths.max()), bool(np.ptp(widths)))
        input_width = _limit_without_outliers(widths / heights * IMAGE_HEIGHT, _SHAPE_OUTLIER)
        if np.ptp(fitting, axis=1).any():
            input_width *= _HEADROOM
        max_height = max(1, math.floor(max_width * IMAGE_HEIGHT / input_width + 1e-9))
        return SizeProposal(max_width, max_height, int((sizes[0] > max_width).sum()))


def with_headroom(largest: int, varies: bool) -> int:
    """Returns a limit for values up to `largest`: a quarter more for unseen data if they vary."""
    return math.ceil(largest * _HEADROOM) if varies else largest


@dataclass
class DatasetStats:
    """Statistics of a run of `write_dataset`.

    Attributes:
        pairs: Records written.
        lines: Lines read; only those of the shard if a single one was written.
        skipped: Number of skipped lines by reason.
        first_skipped: Line number and detail of the first skipped line by reason.
        longest: The longest label.
        characters: Number of occurrences of each character.
        paths: Hashes of the paths read.
        repeated: Records whose path was on an earlier line.
        control_characters: Records with control characters in their label.
        upper_cased: Labels that were changed to upper case.
        label_lengths: The different lengths of labels.
        sizes: Sizes of the images.
    """

    pairs: int = 0
    lines: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    first_skipped: dict[str, tuple[int, str]] = field(default_factory=dict)
    longest: str = ""
    characters: Counter[str] = field(default_factory=Counter)
    paths: set[int] = field(default_factory=set)
    repeated: int = 0
    control_characters: int = 0
    upper_cased: int = 0
    label_lengths: set[int] = field(default_factory=set)
    sizes: ImageSizes = field(default_factory=ImageSizes)

    def add(self, label: str, size: NamedSize, upper_cased: bool) -> None:
        """Counts a record.

        Args:
            label: The label as it is written.
            size: Size and path of the image.
            upper_cased: Whether the label was changed to upper case.
        """
        self.pairs += 1
        self.characters.update(label)
        self.upper_cased += upper_cased
        self.label_lengths.add(len(label))
        self.sizes.add(size)
        if len(label) > len(self.longest):
            self.longest = label

    def skip(self, line: int, error: SkipError) -> None:
        """Counts a skipped line."""
        self.skipped[error.reason] += 1
        self.first_skipped.setdefault(error.reason, (line, error.detail))


def dataset_alphabet(paths: Sequence[str], max_pixels: int = MAX_PIXELS) -> str:
    """Returns all characters that occur in the labels of a dataset, in code point order.

    Raises:
        AocrError: A file is damaged or not a TFRecords file, or all labels are empty.
    """
    files = tfrecord.validate_tfrecords(paths, max_bytes(max_pixels))
    alphabet = alphabet_of(decode_label(label) for metadata in scan.scan_records(files)
                           for label in metadata.labels if label is not None)
    if not alphabet:
        raise AocrError(f"all labels of {', '.join(paths)} are empty: --charset auto finds no "
                        "character; leave it out, or name a file of characters")
    return alphabet


def alphabet_of(labels: Iterable[str]) -> str:
    """Returns the characters that occur in the labels, in code point order."""
    characters: set[str] = set()
    for label in labels:
        characters.update(label)
    return "".join(sorted(characters))


def _limit_without_outliers(values: np.ndarray, factor: float) -> float:
    """Returns the largest value, but at most `factor` times the largest that is no outlier.

    At most `_OUTLIER_SHARE` of the values may be outliers; one in a small set, none in a tiny one.
    """
    outliers = max(int(len(values) * _OUTLIER_SHARE), len(values) >= _MIN_IMAGES_WITH_OUTLIER)
    return float(min(values.max(), factor * np.sort(values)[-1 - outliers]))


def _quantiles(values: list[int]) -> list[int]:
    return [int(value) for value in np.quantile(values, QUANTILES, method="nearest")]
