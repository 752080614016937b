"""Errors whose text is meant for the user."""

from __future__ import annotations

import re


class AocrError(Exception):
    """An error that the user can fix; it says what was expected, what came, and what to do."""


class DamagedError(AocrError):
    """The files of a checkpoint are damaged or missing; an earlier checkpoint may be usable.

    Args:
        path: Path of the checkpoint, without extension.
        error: TensorFlow's error.
    """

    def __init__(self, path: str, error: BaseException) -> None:
        super().__init__(f"cannot read the checkpoint {path}: {reason(error)}; its files .index "
                         "and .data-… must both exist and be complete")


# Lines that TensorFlow adds around the reason of an error in a graph.
_CONTEXT = re.compile(
    r"Graph execution error:|Detected at node |<stack traces? |File \"|\d+ root error|\[\[|\s*$")


def reason(error: BaseException) -> str:
    """Returns the reason that an error of TensorFlow states, without names of nodes and ops."""
    text = re.sub(r"\{\{.*?\}\}|\[Op:\w*\]( name:.*)?|^AocrError: ", "", str(error))
    lines = [line.strip() for line in text.splitlines()]
    reasons = [line for line in lines if not _CONTEXT.match(line)]
    return re.sub(r"^\(\d+\) [A-Z_]+: ", "", reasons[0]) if reasons else type(error).__name__


class SkipError(AocrError):
    """A line, file or record cannot be used and is skipped.

    Args:
        reason: Name of the reason, the same for all cases of a kind ("missing file").
        detail: What is wrong in this case ("No such file: a.png").
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
