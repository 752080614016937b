"""Loss and error rates under their field's names; nothing here logs or keeps state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import distance


def perplexity(loss: float) -> float:
    """`exp(loss)`; infinite where that is too large for a number."""
    return math.inf if loss >= 700 else math.exp(loss)


def edit_distance(text: str, label: str) -> int:
    """Levenshtein distance in code points."""
    return int(distance.levenshtein(text, label))


def accuracy(text: str, label: str, use_distance: bool = True) -> float:
    """The original's accuracy of one image: edit-distance credit, 0…1.

    Args:
        text: What was read.
        label: The truth; an empty one counts 1 when nothing was read, else 0.
        use_distance: Give credit for a part; `--no-distance` counts full matches only.
    """
    if text == label:
        return 1.0
    if not label or not use_distance:
        return 0.0
    return 1.0 - min(1.0, edit_distance(text, label) / len(label))


def character_error_rate(errors: int, characters: int) -> float:
    """CER: sum of edit distances / sum of label lengths (NFC code points); may pass 1."""
    return errors / characters if characters else float(errors > 0)


def one_minus_ned(text: str, label: str) -> float:
    """1-NED of one image: 1 minus edit distance / length of the longer of the two.

    Source: the ICDAR 2019 competitions (ReCTS, ArT, LSVT); a set's figure is the mean.
    """
    return 1.0 - edit_distance(text, label) / max(len(text), len(label), 1)


@dataclass
class Totals:
    """Sums over the rows, from which the rates follow."""

    images: int = 0
    words: int = 0
    words_ignoring_case: int = 0
    errors: int = 0
    characters: int = 0
    one_minus_ned: float = 0.0
    accuracy: float = 0.0
    loss: float = 0.0

    def add(self, text: str, label: str, loss: float, accuracy: float = 0.0) -> None:
        """Counts one more image: what was read, the truth, the original's accuracy."""
        self.images += 1
        self.words += text == label
        self.words_ignoring_case += text.casefold() == label.casefold()
        self.errors += edit_distance(text, label)
        self.characters += len(label)
        self.one_minus_ned += one_minus_ned(text, label)
        self.accuracy += accuracy
        self.loss += loss

    def summary(self) -> dict[str, Any]:
        """The rates, 0…1, except loss and perplexity."""
        loss = self.loss / self.images
        return {
            "images": self.images,
            "word_accuracy": self.words / self.images,
            "word_accuracy_ignoring_case": self.words_ignoring_case / self.images,
            "cer": character_error_rate(self.errors, self.characters),
            "one_minus_ned": self.one_minus_ned / self.images,
            "accuracy": self.accuracy / self.images,
            "loss": loss, "perplexity": perplexity(loss)}
