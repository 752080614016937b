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


def reason(error: BaseException) -> str:
    """The first line of what TensorFlow said, without its notes on nodes, ops and our own class."""
    lines = re.sub(r"\{\{.*?\}\}|\[Op:\w*\]|^AocrError: ", "", str(error)).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


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
