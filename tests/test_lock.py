"""One training a folder."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tensorflow as tf

import aocr
from aocr.errors import AocrError
from aocr.runtime import filesystem
from aocr.training import lock

HOLDER = """
import sys
from aocr.training import lock
with lock.directory_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the folder until it is told to end."""
    environment = {**os.environ, "PYTHONPATH": str(Path(aocr.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], env=environment,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    process = holder(tmp_path)
    with pytest.raises(AocrError) as caught, lock.directory_lock(str(tmp_path)):
        pass
    assert f"process {process.pid} on {socket.gethostname()}" in str(caught.value)
    process.kill()
    process.communicate()
    with lock.directory_lock(str(tmp_path)):
        pass


@pytest.fixture
def remote() -> str:
    """A folder on a file system that has no locks."""
    folder = f"ram://locks/{time.monotonic_ns()}"
    tf.io.gfile.makedirs(folder)
    return folder


def leave(folder: str, **owner: object) -> None:
    """A heartbeat file, as another process would have left it."""
    filesystem.write(f"{folder}/{lock.LOCK_FILE}",
                json.dumps({"host": "elsewhere", "process": 7, "id": "x", **owner}))


def test_a_heartbeat_refuses_a_second_training_and_goes_with_the_first(remote: str) -> None:
    with (lock.directory_lock(remote),
          pytest.raises(AocrError, match=f"process {os.getpid()} on "),
          lock.directory_lock(remote)):
        pass
    with lock.directory_lock(remote):
        pass
    assert not tf.io.gfile.exists(f"{remote}/{lock.LOCK_FILE}")


def test_a_heartbeat_lock_of_another_machine_holds_until_it_is_stale(remote: str) -> None:
    leave(remote, time=time.time() - lock.STALE_SECONDS / 2)
    with pytest.raises(AocrError, match="process 7 on elsewhere"), lock.directory_lock(remote):
        pass
    leave(remote, time=time.time() - lock.STALE_SECONDS * 2)
    with lock.directory_lock(remote):
        pass


def test_a_heartbeat_of_a_dead_process_of_this_machine_does_not_count(remote: str) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    leave(remote, host=socket.gethostname(), process=ended.pid, time=time.time())
    with lock.directory_lock(remote):
        pass


def test_a_former_life_of_this_process_does_not_count(remote: str) -> None:
    leave(remote, host=socket.gethostname(), process=os.getpid(), time=time.time())
    with lock.directory_lock(remote):
        pass


def test_a_run_whose_lock_was_taken_over_writes_nothing_more(remote: str) -> None:
    with lock.directory_lock(remote) as check:
        check()
        leave(remote, time=time.time())
        with pytest.raises(AocrError, match="process 7 on elsewhere.* stops without writing more"):
            check()
    assert tf.io.gfile.exists(f"{remote}/{lock.LOCK_FILE}")


@pytest.mark.parametrize("owner", [{"time": "x"}, {"process": []}, {"time": float("inf")}])
def test_a_heartbeat_of_other_types_does_not_block(remote: str, owner: dict[str, object]) -> None:
    leave(remote, **{"time": 0, **owner})
    with lock.directory_lock(remote):
        pass


def test_a_heartbeat_that_somebody_removed_is_no_fault(remote: str) -> None:
    with lock.directory_lock(remote) as check:
        tf.io.gfile.remove(f"{remote}/{lock.LOCK_FILE}")
        check()


def test_a_heartbeat_beats(remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.01)
    path = f"{remote}/{lock.LOCK_FILE}"

    def beat() -> float:
        try:
            with tf.io.gfile.GFile(path) as file:
                return float(json.loads(file.read() or "{}").get("time", 0))
        except ValueError:  # it was being written
            return 0.0

    with lock.directory_lock(remote):
        first = beat()
        while beat() <= first:
            time.sleep(0.001)


def test_a_file_that_is_no_heartbeat_does_not_block(remote: str) -> None:
    filesystem.write(f"{remote}/{lock.LOCK_FILE}", "[")
    with lock.directory_lock(remote):
        pass
