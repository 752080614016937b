"""The one exception whose text is meant for the user."""

from __future__ import annotations

import re


class AocrError(Exception):
    """Something the user can mend; the text says what was expected, what came, and what to do."""


class DamagedError(AocrError):
    """The files of a checkpoint are damaged or not there; an earlier one may do.

    Args:
        path: The checkpoint, without ending.
        error: What TensorFlow said of it.
    """

    def __init__(self, path: str, error: BaseException) -> None:
        super().__init__(f"cannot read the checkpoint {path}: {reason(error)}; its files .index "
                         "and .data-… must both be there, and whole")


# Lines that TensorFlow puts before and around what went wrong in a graph.
_AROUND = re.compile(
    r"Graph execution error:|Detected at node |<stack traces? |File \"|\d+ root error|\[\[|\s*$")


def reason(error: BaseException) -> str:
    """The line of TensorFlow's that tells, without its notes on nodes, ops and our own class."""
    text = re.sub(r"\{\{.*?\}\}|\[Op:\w*\]|^AocrError: ", "", str(error))
    lines = [line.strip() for line in text.splitlines()]
    telling = [line for line in lines if not _AROUND.match(line)]
    return re.sub(r"^\(\d+\) [A-Z_]+: ", "", telling[0]) if telling else type(error).__name__


class SkipError(AocrError):
    """One line, file or record cannot be used; the rest of the work goes on.

    Args:
        reason: Short name of the reason, the same for all cases of its kind ("missing file").
        detail: What exactly was met ("No such file: a.png").
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
