"""Details of an evaluation beyond its metrics: confusions, the worst images, sums by character."""

from __future__ import annotations

import heapq
from array import array
from collections import Counter

import numpy as np

from aocr.evaluation import alignment, metrics
from aocr.evaluation.alignment import Segment
from aocr.evaluation.report import EvaluationRow


class Details:
    """Collects details; keeps 32 bytes of each image, and rows only of the worst.

    Args:
        worst: Number of the worst images whose rows are kept.

    Attributes:
        characters: How often each character occurs in the labels.
        misread: How often each of them is not read.
        confusions: How often each confusion occurs.
    """

    def __init__(self, worst: int) -> None:
        self.characters: Counter[str] = Counter()
        self.misread: Counter[str] = Counter()
        self.confusions: Counter[Segment] = Counter()
        self._numbers = array("q"), array("q"), array("q")
        self._probabilities = array("d")
        self._worst_count = worst
        self._worst: list[tuple[int, float, int, EvaluationRow]] = []

    def add(self, position: int, row: EvaluationRow) -> None:
        """Adds an image.

        Args:
            position: Position of its record in the index.
            row: Its results.
        """
        text, label, probability = row.result.text, row.label, row.result.probability
        self.characters.update(label)
        errors = 0 if row.correct else self._add_errors(text, label)
        for column, number in zip(self._numbers, (position, len(label), errors), strict=True):
            column.append(number)
        self._probabilities.append(probability)
        if errors:
            heapq.heappush(self._worst, (errors, probability, -position, row))
            if len(self._worst) > self._worst_count:
                heapq.heappop(self._worst)

    def _add_errors(self, text: str, label: str) -> int:
        confusions = alignment.confusions(text, label)
        self.confusions.update(confusions)
        for segment in confusions:
            self.misread.update(segment.label)
        return metrics.edit_distance(text, label)

    def worst(self) -> list[EvaluationRow]:
        """Returns the worst images: most errors first, then the highest probability."""
        return [row for *_, row in sorted(self._worst, reverse=True)]

    @property
    def positions(self) -> np.ndarray:
        """Positions of the images in the index, `[images]` int64."""
        return np.array(self._numbers[0])

    @property
    def lengths(self) -> np.ndarray:
        """Lengths of their labels, `[images]` int64."""
        return np.array(self._numbers[1])

    @property
    def errors(self) -> np.ndarray:
        """Edit distances of their predictions, `[images]` int64."""
        return np.array(self._numbers[2])

    @property
    def probabilities(self) -> np.ndarray:
        """Probabilities of their predictions, `[images]` float64."""
        return np.array(self._probabilities)
