"""A lock on the model directory: one training run at a time."""

from __future__ import annotations

import errno
import json
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any

import tensorflow as tf

from aocr.errors import AocrError
from aocr.runtime import filesystem

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
LOCK_FILE = "training.lock"
HEARTBEAT_SECONDS = 60.0
STALE_SECONDS = 5 * HEARTBEAT_SECONDS
SETTLE_SECONDS = 1.0
# Errors of file systems that have no locks, such as some network file systems.
_UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK)
_INSTANCE = uuid.uuid4().hex  # a restarted container has the same host name and process number


@contextmanager
def directory_lock(model_dir: str) -> Iterator[Callable[[], None]]:
    """Locks a directory, which must exist, for one training run.

    The operating system holds the lock and releases it with the process. On remote file systems,
    and where it cannot lock files, the lock is a file that is rewritten every minute and expires
    after five.

    Yields:
        A function that raises an `AocrError` once another run has taken over the directory.

    Raises:
        AocrError: Another run has locked the directory; names its host and process.
    """
    path = tf.io.gfile.join(model_dir, LOCK_FILE)
    file = None if filesystem.is_remote(model_dir) else _open_locked(path, model_dir)
    if file is None:
        with _heartbeat_lock(path, model_dir) as check:
            yield check
        return
    with file:
        file.truncate(0)
        file.write(json.dumps(_new_owner()))
        file.flush()
        yield lambda: None
        file.truncate(0)


def _open_locked(path: str, model_dir: str) -> IO[str] | None:
    """Opens a file and locks it with the operating system; `None` where that cannot lock files."""
    if fcntl is None:
        return None
    with ExitStack() as stack:
        file = stack.enter_context(open(path, "a+", encoding="utf-8"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise _locked_error(model_dir, _parse(file.read())) from error
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return None
            raise
        stack.pop_all()
    return file


@contextmanager
def _heartbeat_lock(path: str, model_dir: str) -> Iterator[Callable[[], None]]:
    owner = _new_owner()
    current = _read(path)
    if current and not _has_expired(current):
        raise _locked_error(model_dir, current)
    filesystem.write(path, json.dumps(owner))
    # Of two runs that start at once, the second to write has written by then, and the first reads
    # its entry.
    time.sleep(SETTLE_SECONDS)
    current = _read(path)
    if current.get("id") != owner["id"]:
        raise _locked_error(model_dir, current)
    stop = threading.Event()

    def is_ours(current: dict[str, Any]) -> bool:
        return bool(current.get("id", owner["id"]) == owner["id"])

    def check() -> None:
        current = owner  # if the file cannot be read, as for a heartbeat
        with suppress(tf.errors.OpError):
            current = _read(path)
        if not is_ours(current):
            raise AocrError(f"{_locked_error(model_dir, current)}; this run could not renew "
                            "its lock for minutes, and stops without writing anything more")

    def beat() -> None:
        while not stop.wait(HEARTBEAT_SECONDS):
            with suppress(tf.errors.OpError):  # the next heartbeat may succeed
                if not is_ours(_read(path)):
                    return
                filesystem.write(path, json.dumps({**owner, "time": time.time()}))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield check
    finally:
        stop.set()
        thread.join()
        with suppress(tf.errors.OpError):
            if is_ours(_read(path)):
                tf.io.gfile.remove(path)


def _new_owner() -> dict[str, Any]:
    return {"host": socket.gethostname(), "process": os.getpid(), "time": time.time(),
            "id": uuid.uuid4().hex, "instance": _INSTANCE}


def _has_expired(owner: dict[str, Any]) -> bool:
    process = int(_number(owner.get("process")))
    if owner.get("host") == socket.gethostname():
        if process == os.getpid():
            return bool(owner.get("instance") != _INSTANCE)
        if not _is_running(process):
            return True
    return time.time() - _number(owner.get("time")) > STALE_SECONDS


def _number(value: object) -> float:
    """Returns a finite number as it is, and 0 for anything else, which a damaged file may hold."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def _is_running(process: int) -> bool:
    if os.name == "nt":  # where signal 0 would interrupt the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # a process of another user
        return True
    return True


def _locked_error(model_dir: str, owner: dict[str, Any]) -> AocrError:
    process = f"process {owner.get('process', '?')} on {owner.get('host', 'an unknown host')}"
    return AocrError(f"{model_dir} is locked by a training run, {process}; wait until it has "
                     "finished, or name another --model-dir")


def _read(path: str) -> dict[str, Any]:
    try:
        with tf.io.gfile.GFile(path, "r") as file:
            return _parse(file.read())
    except tf.errors.NotFoundError:
        return {}


def _parse(text: str) -> dict[str, Any]:
    try:
        owner = json.loads(text)
    except ValueError:  # it is being written at the moment
        return {}
    return owner if isinstance(owner, dict) else {}
