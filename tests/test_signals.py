"""Ending a run from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import aocr
from aocr.training.signals import stop_on_signal

STUBBORN = """
import hashlib, os, signal, subprocess, threading
from aocr.training.signals import stop_on_signal
with stop_on_signal() as stop:
    {}
print("still there")
"""
BETWEEN = """os.kill(os.getpid(), signal.SIGTERM); assert stop.signal == signal.SIGTERM
    os.kill(os.getpid(), signal.SIGINT); threading.Event().wait(60)"""
# No handler of Python's runs while such a function computes, which it does for a minute.
WITHIN = """kill = f"sleep 0.2; kill -{{}} {os.getpid()};"
    subprocess.Popen(["sh", "-c", kill.format("TERM") + kill.format("INT")])
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**8)"""


def test_the_first_signal_is_noted_and_the_earlier_handlers_come_back() -> None:
    before, threads = signal.getsignal(signal.SIGTERM), threading.active_count()
    with stop_on_signal() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
    assert signal.set_wakeup_fd(-1) == -1
    assert threading.active_count() == threads


@pytest.mark.parametrize("busy", [BETWEEN, WITHIN], ids=["between instructions", "within one"])
def test_a_second_signal_ends_the_process_at_once(busy: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(aocr.__file__).parents[1])}
    found = subprocess.run([sys.executable, "-c", STUBBORN.format(busy)], env=environment,
                           capture_output=True, text=True, check=False)
    assert (found.stdout, found.stderr) == ("", "")
    assert found.returncode == 128 + signal.SIGINT
