"""Details of an evaluation beyond its metrics: confusions, the worst images, sums by character."""

from __future__ import annotations

import heapq
import random
from array import array
from collections import Counter
from typing import NamedTuple

from aocr.evaluation import alignment
from aocr.evaluation.alignment import Segment
from aocr.evaluation.report import EvaluationRow


class KeptImage(NamedTuple):
    """An image whose row is kept, and the position of its record in the index."""

    position: int
    row: EvaluationRow


class Details:
    """Collects details; keeps 32 bytes of each image, and the rows of some.

    Args:
        most_incorrect: Number of incorrect images whose rows are kept, those with most errors.
        most_correct: Number of correct images whose rows are kept, a random sample.

    Attributes:
        characters: How often each character occurs in the labels.
        misread: How often each of them is not read.
        confusions: How often each confusion occurs.
        positions: Positions of the images in the index.
        lengths: Lengths of their labels.
        errors: Edit distances of their predictions.
        probabilities: Probabilities of their predictions.
        correct: The sample of correct images.
    """

    def __init__(self, most_incorrect: int, most_correct: int = 0) -> None:
        self.characters: Counter[str] = Counter()
        self.misread: Counter[str] = Counter()
        self.confusions: Counter[Segment] = Counter()
        self.positions, self.lengths, self.errors = array("q"), array("q"), array("q")
        self.probabilities = array("d")
        self.correct: list[KeptImage] = []
        self._most_correct = most_correct
        self._seen_correct = 0
        self._random = random.Random(0)
        self._most_incorrect = most_incorrect
        self._incorrect: list[tuple[int, float, int, EvaluationRow]] = []

    def add(self, position: int, row: EvaluationRow) -> None:
        """Adds an image.

        Args:
            position: Position of its record in the index.
            row: Its results.
        """
        errors, probability = row.compared.errors, row.result.probability
        self.characters.update(row.label)
        if errors:
            self._add_confusions(alignment.confusions(row.compared.text, row.label))
        self.positions.append(position)
        self.lengths.append(len(row.label))
        self.errors.append(errors)
        self.probabilities.append(probability)
        if errors:
            heapq.heappush(self._incorrect, (errors, probability, -position, row))
            if len(self._incorrect) > self._most_incorrect:
                heapq.heappop(self._incorrect)
        else:
            self._add_correct(KeptImage(position, row))

    def _add_correct(self, image: KeptImage) -> None:
        """Adds an image to the sample by reservoir sampling."""
        self._seen_correct += 1
        if len(self.correct) < self._most_correct:
            self.correct.append(image)
            return
        place = self._random.randrange(self._seen_correct)
        if place < self._most_correct:
            self.correct[place] = image

    def _add_confusions(self, confusions: list[Segment]) -> None:
        self.confusions.update(confusions)
        for segment in confusions:
            self.misread.update(segment.label)

    def worst(self) -> list[KeptImage]:
        """Returns the incorrect images: most errors first, then the highest probability."""
        return [KeptImage(-negative, row)
                for *_, negative, row in sorted(self._incorrect, reverse=True)]
