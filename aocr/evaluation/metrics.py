"""Metrics of recognition: accuracies, error rates and their totals over a dataset."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import distance

from aocr.tokenizer import normalize


def perplexity(loss: float) -> float:
    """Returns `exp(loss)`, or infinity where that is too large for a float."""
    return math.inf if loss >= 700 else math.exp(loss)


class Comparison(NamedTuple):
    """A prediction compared with its label.

    Attributes:
        text: The prediction in Unicode form NFC, which the label has.
        label: The label.
        errors: Their Levenshtein distance in code points.
    """

    text: str
    label: str
    errors: int

    @property
    def correct(self) -> bool:
        """Whether the prediction equals the label."""
        return not self.errors

    @property
    def correct_ignoring_case(self) -> bool:
        """Whether they are equal without regard to case."""
        return self.text.casefold() == self.label.casefold()

    @property
    def one_minus_ned(self) -> float:
        """1-NED: 1 minus edit distance / length of the longer text.

        The 1-NED of a dataset is the mean over its images.

        Source: the ICDAR 2019 competitions (ReCTS, ArT, LSVT).
        """
        return 1.0 - self.errors / max(len(self.text), len(self.label), 1)

    def accuracy(self, use_distance: bool = True) -> float:
        """Returns the accuracy as the original aocr defines it, from 0 to 1.

        For an empty label it is 1 if the prediction is empty, else 0.

        Args:
            use_distance: Whether a partial match counts `1 - edit distance / length of the label`
                instead of 0 (`--no-distance`).
        """
        if self.correct:
            return 1.0
        if not self.label or not use_distance:
            return 0.0
        return 1.0 - min(1.0, self.errors / len(self.label))


def compare(text: str, label: str) -> Comparison:
    """Compares a prediction, in any Unicode form, with a label in NFC."""
    normalized = normalize(text)
    return Comparison(normalized, label, int(distance.levenshtein(normalized, label)))


def character_error_rate(errors: int, characters: int) -> float:
    """Returns the character error rate (CER), which may exceed 1.

    Args:
        errors: Sum of the edit distances of all images.
        characters: Sum of the lengths of all labels, in NFC code points.
    """
    return errors / characters if characters else float(errors > 0)


@dataclass
class Totals:
    """Sums over images, from which the metrics of a dataset are computed."""

    images: int = 0
    words: int = 0
    words_ignoring_case: int = 0
    errors: int = 0
    characters: int = 0
    one_minus_ned: float = 0.0
    accuracy: float = 0.0
    loss: float = 0.0

    def add(self, compared: Comparison, loss: float, accuracy: float = 0.0) -> None:
        """Adds one image.

        Args:
            compared: The prediction, compared with the label.
            loss: Teacher-forced loss.
            accuracy: The original's accuracy, see `Comparison.accuracy`.
        """
        self.images += 1
        self.words += compared.correct
        self.words_ignoring_case += compared.correct_ignoring_case
        self.errors += compared.errors
        self.characters += len(compared.label)
        self.one_minus_ned += compared.one_minus_ned
        self.accuracy += accuracy
        self.loss += loss

    def summary(self) -> dict[str, Any]:
        """Returns the number of images and the metrics by name, of at least one image."""
        loss = self.loss / self.images
        return {
            "images": self.images,
            "word_accuracy": self.words / self.images,
            "word_accuracy_ignoring_case": self.words_ignoring_case / self.images,
            "cer": character_error_rate(self.errors, self.characters),
            "one_minus_ned": self.one_minus_ned / self.images,
            "accuracy": self.accuracy / self.images,
            "loss": loss, "perplexity": perplexity(loss)}
