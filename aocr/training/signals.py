"""Graceful stop: a signal asks a run to finish, a second one ends the process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from aocr.runtime.console import log

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_SECONDS = 10


class StopRequest:
    """Whether a signal has asked the run to stop.

    Attributes:
        signal: Number of the first signal, or `None`.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._saving = threading.Event()
        self._deadline: threading.Timer | None = None

    @contextmanager
    def defer_sigterm(self) -> Iterator[None]:
        """Lets a further SIGTERM end the process only after `GRACE_SECONDS`.

        Some process managers send SIGTERM several times within seconds; a checkpoint that is being
        written should not be lost because of that.
        """
        self._saving.set()
        try:
            yield
        finally:
            self._saving.clear()

    def handle_repeated(self, number: int) -> None:
        """Ends the process after a further signal, at once or at the deadline."""
        if number != signal.SIGTERM or not self._saving.is_set():
            os._exit(128 + number)
        if self._deadline is None:
            self._deadline = threading.Timer(GRACE_SECONDS, os._exit, (128 + number,))
            self._deadline.daemon = True
            self._deadline.start()
            log.warning(f"SIGTERM again: waiting up to {GRACE_SECONDS} seconds for the checkpoint "
                        "that is being written; SIGINT (Ctrl-C) stops at once.")

    def cancel_deadline(self) -> None:
        """Lets the process continue after the run has finished."""
        if self._deadline is not None:
            self._deadline.cancel()


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turns the first SIGINT or SIGTERM into a stop request.

    A further one ends the process at once with exit code 130 or 143, except for SIGTERM within
    `StopRequest.defer_sigterm`.
    """
    request = StopRequest()
    earlier: dict[signal.Signals, Any] = {}

    def note(number: int, _frame: FrameType | None) -> None:
        request.signal = request.signal or number

    with _count_signals(request):
        for number in SIGNALS:
            earlier[number] = signal.signal(number, note)
        try:
            yield request
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)


@contextmanager
def _count_signals(request: StopRequest) -> Iterator[None]:
    """Starts a thread that ends the process at the second signal.

    Python runs signal handlers between two of its instructions: a TensorFlow step, which may take
    a minute, would have to finish first, and two signals within it would count as one.
    """
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    earlier = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(read_end, request), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(earlier)
        os.close(write_end)
        thread.join()
        os.close(read_end)
        request.cancel_deadline()


def _watch(read_end: int, request: StopRequest) -> None:
    requested = False
    while data := os.read(read_end, 1):
        if data[0] in SIGNALS:
            if requested:
                request.handle_repeated(data[0])
            requested = True
