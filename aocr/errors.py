"""The one exception whose text is meant for the user."""

from __future__ import annotations


class AocrError(Exception):
    """Something the user can mend; the text says what was expected, what came, and what to do."""


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
