"""Sizes of a dataset's images, and the flags of `aocr train` that fit them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from aocr.config import IMAGE_HEIGHT, MAX_PIXELS, max_bytes
from aocr.data import scan, tfrecord
from aocr.data.example import decode_label
from aocr.errors import AocrError

QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
# An image wider at height 32 than this many times what 99 % need is squeezed.
_OUTLIER = 1.5
_HEADROOM = 1.25


@dataclass
class Sizes:
    """Widths and heights in pixels."""

    widths: list[int] = field(default_factory=list)
    heights: list[int] = field(default_factory=list)

    def add(self, width: int, height: int) -> None:
        """Notes one more image."""
        self.widths.append(width)
        self.heights.append(height)

    def quantiles(self) -> tuple[list[int], list[int]]:
        """Smallest, 5 %, median, 95 % and largest width, and height."""
        return _quantiles(self.widths), _quantiles(self.heights)

    def max_width(self) -> int:
        """`--max-width` that takes every image, with room for wider ones where widths vary."""
        return with_headroom(max(self.widths), len(set(self.widths)) > 1)

    def max_height(self) -> int:
        """`--max-height` that makes the input wide enough to keep the images' shapes."""
        shapes = np.array(self.widths) / np.array(self.heights) * IMAGE_HEIGHT
        usual = float(np.quantile(shapes, 0.99))
        needed = min(float(shapes.max()), _OUTLIER * usual)
        varies = len(set(zip(self.widths, self.heights, strict=True))) > 1
        needed *= _HEADROOM if varies else 1.0
        return max(1, math.floor(self.max_width() * IMAGE_HEIGHT / needed + 1e-9))


def with_headroom(largest: int, varies: bool) -> int:
    """A limit for `largest`: exact where all are alike, else a quarter more for unseen data."""
    return math.ceil(largest * _HEADROOM) if varies else largest


def _quantiles(values: list[int]) -> list[int]:
    return [int(value) for value in np.quantile(values, QUANTILES, method="nearest")]


@dataclass
class DatasetStats:
    """What a run of `generate` has met.

    Attributes:
        pairs: Records written.
        lines: Lines seen; of those dealt to one file, if only that one was made.
        skipped: Lines left out, by reason.
        longest: The longest label.
        characters: How often each character occurs.
        paths: Hashes of the paths seen.
        repeated: Records whose path an earlier line has named.
        upper_cased: Labels that upper-casing changed.
        sizes: Widths and heights of the images.
    """

    pairs: int = 0
    lines: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    longest: str = ""
    characters: Counter[str] = field(default_factory=Counter)
    paths: set[int] = field(default_factory=set)
    repeated: int = 0
    upper_cased: int = 0
    label_lengths: set[int] = field(default_factory=set)
    sizes: Sizes = field(default_factory=Sizes)

    def add(self, label: str, size: tuple[int, int], upper_cased: bool) -> None:
        """Counts one more record.

        Args:
            label: Its label as it is written.
            size: Width and height of its image in pixels.
            upper_cased: Whether upper-casing has changed the label.
        """
        self.pairs += 1
        self.characters.update(label)
        self.upper_cased += upper_cased
        self.label_lengths.add(len(label))
        self.sizes.add(*size)
        if len(label) > len(self.longest):
            self.longest = label


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


def alphabet_of(labels: Iterable[str] | Sequence[str]) -> str:
    """Returns the characters that occur in the labels, in code point order."""
    characters: set[str] = set()
    for label in labels:
        characters.update(label)
    return "".join(sorted(characters))
