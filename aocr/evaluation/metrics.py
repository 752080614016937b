"""Metrics of recognition: accuracies, error rates and their totals over a dataset."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import distance


def perplexity(loss: float) -> float:
    """Returns `exp(loss)`, or infinity where that is too large for a float."""
    return math.inf if loss >= 700 else math.exp(loss)


def edit_distance(text: str, label: str) -> int:
    """Returns the Levenshtein distance in code points."""
    return int(distance.levenshtein(text, label))


def accuracy(text: str, label: str, use_distance: bool = True) -> float:
    """Returns the accuracy of one image as the original aocr defines it, from 0 to 1.

    Args:
        text: The prediction.
        label: The label; for an empty one the accuracy is 1 if the prediction is empty, else 0.
        use_distance: Whether a partial match counts `1 - edit distance / length of the label`
            instead of 0 (`--no-distance`).
    """
    if text == label:
        return 1.0
    if not label or not use_distance:
        return 0.0
    return 1.0 - min(1.0, edit_distance(text, label) / len(label))


def character_error_rate(errors: int, characters: int) -> float:
    """Returns the character error rate (CER), which may exceed 1.

    Args:
        errors: Sum of the edit distances of all images.
        characters: Sum of the lengths of all labels, in NFC code points.
    """
    return errors / characters if characters else float(errors > 0)


def one_minus_ned(text: str, label: str) -> float:
    """Returns 1-NED of one image: 1 minus edit distance / length of the longer text.

    The 1-NED of a dataset is the mean over its images.

    Source: the ICDAR 2019 competitions (ReCTS, ArT, LSVT).
    """
    return 1.0 - edit_distance(text, label) / max(len(text), len(label), 1)


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

    def add(self, text: str, label: str, loss: float, accuracy: float = 0.0) -> None:
        """Adds one image.

        Args:
            text: The prediction.
            label: The label.
            loss: Teacher-forced loss.
            accuracy: The original's accuracy; see `accuracy` in this module.
        """
        self.images += 1
        self.words += text == label
        self.words_ignoring_case += text.casefold() == label.casefold()
        self.errors += edit_distance(text, label)
        self.characters += len(label)
        self.one_minus_ned += one_minus_ned(text, label)
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
