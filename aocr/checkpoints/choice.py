"""The user's choice of a checkpoint, which `directory.candidates` applies."""

from __future__ import annotations

from typing import NamedTuple


class CheckpointChoice(NamedTuple):
    """Which checkpoint of a model directory to load, and how.

    Attributes:
        which: "latest", "best" or the number of a step; `None` for the best if there is one.
        strict: Refuse a damaged checkpoint instead of using the one before it.
        debias: Remove the start values from the batch-norm averages of a model of the original
            aocr.
    """

    which: str | None = None
    strict: bool = False
    debias: bool = False


DEFAULT_CHOICE = CheckpointChoice()
