"""Stopping a run with signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import aocr
from aocr.training.signals import GRACE_SECONDS, stop_on_signal

SCRIPT = """
import hashlib, logging, os, signal, subprocess, threading, time
from aocr.training import signals
logging.basicConfig(format="%(message)s")
signals.GRACE_SECONDS = {grace}
with signals.stop_on_signal() as stop:
    {body}
print("finished")
"""
BETWEEN_INSTRUCTIONS = """os.kill(os.getpid(), signal.SIGTERM)
    assert stop.signal == signal.SIGTERM
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(60)"""
# Python runs no signal handler while this function computes, which takes a minute.
WITHIN_ONE = """kill = f"sleep 0.2; kill -{{}} {os.getpid()};"
    subprocess.Popen(["sh", "-c", kill.format("TERM") + kill.format("INT")])
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**8)"""
WHILE_SAVING = """os.kill(os.getpid(), signal.{first})
    with stop.defer_sigterm():
        for number in {then}:
            time.sleep(0.2)
            os.kill(os.getpid(), number)
        time.sleep({seconds})"""


def run_script(body: str, grace: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs a body under `stop_on_signal` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(aocr.__file__).parents[1])}
    return subprocess.run([sys.executable, "-c", SCRIPT.format(body=body, grace=grace)],
                          env=environment, capture_output=True, text=True, check=False)


def save_and_signal(first: str, then: str, seconds: float, grace: float = 60
                    ) -> subprocess.CompletedProcess[str]:
    """Sends one signal, and others while a checkpoint is being written, which takes a while."""
    return run_script(WHILE_SAVING.format(first=first, then=then, seconds=seconds), grace)


def test_the_first_signal_is_noted_and_the_earlier_handlers_are_restored() -> None:
    before, threads = signal.getsignal(signal.SIGTERM), threading.active_count()
    with stop_on_signal() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
    assert signal.set_wakeup_fd(-1) == -1
    assert threading.active_count() == threads


@pytest.mark.parametrize("body", [BETWEEN_INSTRUCTIONS, WITHIN_ONE],
                         ids=["between instructions", "within one"])
def test_a_second_signal_ends_the_process_at_once(body: str) -> None:
    completed = run_script(body)
    assert (completed.stdout, completed.stderr) == ("", "")
    assert completed.returncode == 128 + signal.SIGINT


@pytest.mark.parametrize("first", ["SIGTERM", "SIGINT"])
def test_further_sigterms_wait_for_the_checkpoint_that_is_being_written(first: str) -> None:
    completed = save_and_signal(first, "[signal.SIGTERM, signal.SIGTERM]", seconds=0.5)
    assert (completed.returncode, completed.stdout) == (0, "finished\n")
    assert len(completed.stderr.splitlines()) == 1
    assert "SIGTERM again: waiting up to 60 seconds for the checkpoint" in completed.stderr


def test_further_sigterms_wait_only_for_so_many_seconds() -> None:
    completed = save_and_signal("SIGTERM", "[signal.SIGTERM]", seconds=60, grace=0.5)
    assert (completed.returncode, completed.stdout) == (128 + signal.SIGTERM, "")
    assert "waiting up to 0.5 seconds" in completed.stderr
    assert 1 <= GRACE_SECONDS <= 15


@pytest.mark.parametrize("first", ["SIGTERM", "SIGINT"])
def test_a_further_sigint_ends_the_process_also_while_a_checkpoint_is_being_written(
        first: str) -> None:
    completed = save_and_signal(first, "[signal.SIGINT]", seconds=60)
    assert (completed.returncode, completed.stdout) == (128 + signal.SIGINT, "")
    assert completed.stderr == ""


def test_a_sigterm_after_the_checkpoint_ends_the_process_at_once() -> None:
    body = WHILE_SAVING.format(first="SIGTERM", then="[]", seconds=0) + """
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)"""
    completed = run_script(body)
    assert (completed.returncode, completed.stdout) == (128 + signal.SIGTERM, "")
