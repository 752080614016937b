"""Ending a run from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import aocr
from aocr.stopping import stoppable

STUBBORN = """
import os, signal
from aocr.stopping import stoppable
with stoppable() as stop:
    os.kill(os.getpid(), signal.SIGTERM)
    print(stop.signal, flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    print("still there", flush=True)
"""


def test_the_first_signal_is_noted_and_the_earlier_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stoppable() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_signal_ends_the_process_at_once() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(aocr.__file__).parents[1])}
    found = subprocess.run([sys.executable, "-c", STUBBORN], env=environment, capture_output=True,
                           text=True, check=False)
    assert found.stdout == "15\n"
    assert found.returncode == -signal.SIGINT
