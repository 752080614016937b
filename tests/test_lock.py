"""The lock on a model directory."""

from __future__ import annotations

import errno
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

LOCK_SCRIPT = """
import sys
from aocr.training import lock
with lock.directory_lock(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.readline()
"""


def lock_in_process(directory: Path) -> subprocess.Popen[str]:
    """Starts a process that has locked a directory, until it reads a line."""
    environment = {**os.environ, "PYTHONPATH": str(Path(aocr.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", LOCK_SCRIPT, str(directory)], env=environment,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_a_second_run_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    process = lock_in_process(tmp_path)
    with pytest.raises(AocrError) as caught, lock.directory_lock(str(tmp_path)):
        pass
    assert f"process {process.pid} on {socket.gethostname()}" in str(caught.value)
    process.kill()
    process.communicate()
    with lock.directory_lock(str(tmp_path)):
        pass


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> str:
    """A directory on a file system that has no locks."""
    monkeypatch.setattr(lock, "SETTLE_SECONDS", 0.0)
    directory = f"ram://locks/{time.monotonic_ns()}"
    tf.io.gfile.makedirs(directory)
    return directory


def write_lock(directory: str, **owner: object) -> None:
    """Writes a lock file as another process would."""
    filesystem.write(f"{directory}/{lock.LOCK_FILE}",
                     json.dumps({"host": "elsewhere", "process": 7, "id": "x", **owner}))


def test_a_heartbeat_lock_refuses_a_second_run_and_is_removed_by_the_first(remote: str) -> None:
    with (lock.directory_lock(remote),
          pytest.raises(AocrError, match=f"process {os.getpid()} on "),
          lock.directory_lock(remote)):
        pass
    with lock.directory_lock(remote):
        pass
    assert not tf.io.gfile.exists(f"{remote}/{lock.LOCK_FILE}")


def test_a_heartbeat_lock_of_another_machine_holds_until_it_is_stale(remote: str) -> None:
    write_lock(remote, time=time.time() - lock.STALE_SECONDS / 2)
    with pytest.raises(AocrError, match="process 7 on elsewhere"), lock.directory_lock(remote):
        pass
    write_lock(remote, time=time.time() - lock.STALE_SECONDS * 2)
    with lock.directory_lock(remote):
        pass


def test_a_heartbeat_lock_of_a_dead_process_of_this_machine_does_not_hold(remote: str) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    write_lock(remote, host=socket.gethostname(), process=dead.pid, time=time.time())
    with lock.directory_lock(remote):
        pass


def test_a_heartbeat_lock_of_an_earlier_process_with_the_same_number_does_not_hold(
        remote: str) -> None:
    write_lock(remote, host=socket.gethostname(), process=os.getpid(), time=time.time())
    with lock.directory_lock(remote):
        pass


def test_a_run_whose_lock_was_taken_over_writes_nothing_more(remote: str) -> None:
    with lock.directory_lock(remote) as check:
        check()
        write_lock(remote, time=time.time())
        with pytest.raises(AocrError, match="process 7 on elsewhere.* without writing anything"):
            check()
    assert tf.io.gfile.exists(f"{remote}/{lock.LOCK_FILE}")


def test_of_two_runs_that_lock_at_once_the_first_is_refused(
        remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aocr.training.lock.time.sleep",
                        lambda _: write_lock(remote, time=time.time()))
    with pytest.raises(AocrError, match="process 7 on elsewhere"), lock.directory_lock(remote):
        pass


def test_a_lock_that_cannot_be_read_for_a_moment_still_holds(
        remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise tf.errors.UnavailableError(None, None, "try again")

    with lock.directory_lock(remote) as check, monkeypatch.context() as patch:
        patch.setattr(lock, "_read", fail)
        check()


def test_a_file_system_without_locks_has_a_heartbeat_lock(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "SETTLE_SECONDS", 0.0)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("aocr.training.lock.fcntl.flock", fail)
    with (lock.directory_lock(str(tmp_path)), pytest.raises(AocrError, match=f"{os.getpid()} on "),
          lock.directory_lock(str(tmp_path))):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("owner", [{"time": "x"}, {"process": []}, {"time": float("inf")}])
def test_a_lock_file_with_values_of_other_types_does_not_hold(
        remote: str, owner: dict[str, object]) -> None:
    write_lock(remote, **{"time": 0, **owner})
    with lock.directory_lock(remote):
        pass


def test_a_removed_lock_file_is_no_error(remote: str) -> None:
    with lock.directory_lock(remote) as check:
        tf.io.gfile.remove(f"{remote}/{lock.LOCK_FILE}")
        check()


def test_a_heartbeat_lock_is_renewed(remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.01)
    path = f"{remote}/{lock.LOCK_FILE}"

    def read_time() -> float:
        try:
            with tf.io.gfile.GFile(path) as file:
                return float(json.loads(file.read() or "{}").get("time", 0))
        except ValueError:  # it is being written
            return 0.0

    with lock.directory_lock(remote):
        first = read_time()
        while read_time() <= first:
            time.sleep(0.001)


def test_a_lock_file_that_is_not_json_does_not_hold(remote: str) -> None:
    filesystem.write(f"{remote}/{lock.LOCK_FILE}", "[")
    with lock.directory_lock(remote):
        pass
