"""Alignment of predictions with labels by edit distance: which characters are read as which."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, zip_longest
from typing import NamedTuple

_LONGEST_CONFUSION = 3


class Segment(NamedTuple):
    """A part of a prediction and the part of the label that is aligned with it.

    Attributes:
        text: Part of the prediction; empty where characters of the label are missing.
        label: Part of the label; empty where the prediction has additional characters.
    """

    text: str
    label: str

    @property
    def correct(self) -> bool:
        """Whether both parts are equal."""
        return self.text == self.label


def align(text: str, label: str) -> list[Segment]:
    """Aligns a prediction with its label by the fewest edits, in code points.

    Returns:
        Equal parts and confusions in turn; several confusions may follow each other. A confusion is
        one character for another, one too many or one too few, or, where these are adjacent, up
        to three characters for fewer or more, such as `m` for `rn`.
    """
    from rapidfuzz.distance import Levenshtein  # evaluations without a report start faster

    segments: list[Segment] = []
    edits = Levenshtein.opcodes(text, label)
    for correct, run in groupby(edits, lambda edit: edit.tag == "equal"):
        parts = [Segment(text[edit.src_start:edit.src_end], label[edit.dest_start:edit.dest_end])
                 for edit in run]
        joined = Segment("".join(part.text for part in parts),
                         "".join(part.label for part in parts))
        segments += [joined] if correct or _is_confusion(joined) else _characters(parts)
    return segments


def confusions(text: str, label: str) -> list[Segment]:
    """Returns the segments of a prediction and its label that are not equal."""
    return [segment for segment in align(text, label) if not segment.correct]


def _is_confusion(segment: Segment) -> bool:
    shorter, longer = sorted(map(len, segment))
    return 0 < shorter < longer <= _LONGEST_CONFUSION


def _characters(parts: list[Segment]) -> Iterator[Segment]:
    for part in parts:
        yield from (Segment(*pair) for pair in zip_longest(part.text, part.label, fillvalue=""))
