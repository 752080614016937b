"""Ending a long run from outside: the first signal asks, a second one ends the process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether somebody has asked for the end.

    Attributes:
        signal: Number of the signal, or `None`.
    """

    def __init__(self) -> None:
        self.signal: int | None = None


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Notes the first SIGINT or SIGTERM; a second one ends the process at once, with 130 or 143."""
    stop = StopRequest()
    earlier: dict[signal.Signals, Any] = {}

    def note(number: int, _frame: FrameType | None) -> None:
        stop.signal = number

    with _counted():
        for number in SIGNALS:
            earlier[number] = signal.signal(number, note)
        try:
            yield stop
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)


@contextmanager
def _counted() -> Iterator[None]:
    """Lets a thread of its own end the process at the second signal.

    Python's handlers run between two of its instructions: a step of TensorFlow would have to end
    first, which may take a minute, and two signals within it would count as one.
    """
    heard, told = os.pipe()
    os.set_blocking(told, False)
    earlier = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    thread = threading.Thread(target=_end_at_second, args=(heard,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(earlier)
        os.close(told)
        thread.join()
        os.close(heard)


def _end_at_second(heard: int) -> None:
    asked = False
    while told := os.read(heard, 1):
        if told[0] in SIGNALS:
            if asked:
                os._exit(128 + told[0])
            asked = True
