"""Ending a long run from outside: the first signal asks, a second one ends the process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether somebody has asked for the end.

    Attributes:
        signal: Number of the signal, or `None`.
    """

    def __init__(self) -> None:
        self.signal: int | None = None


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Notes the first SIGINT or SIGTERM; a second one ends the process at once."""
    stop = Stop()
    earlier: dict[signal.Signals, Any] = {}

    def note(number: int, _frame: FrameType | None) -> None:
        stop.signal = number
        for each in earlier:
            signal.signal(each, signal.SIG_DFL)

    for number in SIGNALS:
        earlier[number] = signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
