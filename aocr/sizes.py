"""Sizes of a dataset's images, and the flags of `aocr train` that fit them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from aocr.config import IMAGE_HEIGHT

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
