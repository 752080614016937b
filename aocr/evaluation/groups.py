"""Accuracy of groups of images, such as those whose labels have a certain length."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

_QUANTILE = 1.959963984540054  # of the standard normal distribution, for intervals of 95 %


class Group(NamedTuple):
    """The images for which a value is in a range.

    Attributes:
        first: Smallest of their values.
        last: Largest of their values.
        images: Number of images.
        correct: Number of images that are read without an error.
    """

    first: int
    last: int
    images: int
    correct: int

    @property
    def accuracy(self) -> float:
        """Share of the images that is read without an error."""
        return self.correct / self.images


def accuracy_by_value(values: np.ndarray, correct: np.ndarray, max_groups: int) -> list[Group]:
    """Divides images into groups by ranges of a value.

    A value weighs as the square root of the number of its images, and groups have similar weights:
    between ranges of equal width and groups of equal size.

    Args:
        values: A value of each image, `[images]` integer; there must be at least one.
        correct: Whether each is read without an error, `[images]` bool.
        max_groups: Maximum number of groups.
    """
    distinct, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    weights = np.sqrt(counts)
    middles = (np.cumsum(weights) - weights / 2) / weights.sum()
    numbers = np.arange(len(distinct))
    if len(distinct) > max_groups:
        numbers = (middles * max_groups).astype(int)
    groups = []
    for number in np.unique(numbers):
        inside = numbers == number
        members = inside[places]
        groups.append(Group(int(distinct[inside][0]), int(distinct[inside][-1]),
                            int(members.sum()), int(correct[members].sum())))
    return groups


def proportion_interval(successes: int, trials: int) -> tuple[float, float]:
    """Returns the 95 % confidence interval of a proportion, of at least one trial.

    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
    """
    share, square = successes / trials, _QUANTILE ** 2
    center = share + square / (2 * trials)
    margin = _QUANTILE * math.sqrt(share * (1 - share) / trials + square / (4 * trials ** 2))
    scale = 1 + square / trials
    # The interval ends at 0 and at 1 there, which rounding would miss.
    low = (center - margin) / scale if successes else 0.0
    high = (center + margin) / scale if successes < trials else 1.0
    return low, high
