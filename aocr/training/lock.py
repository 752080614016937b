"""One training a folder: the lock that a second one meets."""

from __future__ import annotations

import json
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import tensorflow as tf

from aocr.errors import AocrError
from aocr.runtime import filesystem

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
LOCK_FILE = "training.lock"
BEAT_SECONDS = 60.0
STALE_SECONDS = 5 * BEAT_SECONDS
_HELD: set[str] = set()  # the heartbeats of this process


@contextmanager
def held(model_dir: str) -> Iterator[Callable[[], None]]:
    """Keeps the folder for this training; the folder must exist.

    On a local disk the operating system holds the lock and drops it with the process. On other
    file systems a file is written anew every minute, and counts for five.

    Yields:
        What raises an `AocrError` once another training has taken the folder over.

    Raises:
        AocrError: Another training has it; names its host and process.
    """
    path = tf.io.gfile.join(model_dir, LOCK_FILE)
    if filesystem.is_remote(model_dir) or fcntl is None:
        with _beating(path, model_dir) as check:
            yield check
        return
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise _taken(model_dir, _parsed(file.read())) from error
        file.truncate(0)
        file.write(json.dumps(_owner()))
        file.flush()
        yield lambda: None
        file.truncate(0)


@contextmanager
def _beating(path: str, model_dir: str) -> Iterator[Callable[[], None]]:
    owner = _owner()
    found = _read(path)
    if found and not _is_over(found):
        raise _taken(model_dir, found)
    filesystem.write(path, json.dumps(owner))
    # Of two that start at once, both have written by now, and one of them has written last.
    if _read(path).get("id") != owner["id"]:
        raise _taken(model_dir, _read(path))
    _HELD.add(owner["id"])
    ended = threading.Event()

    def ours() -> bool:
        return bool(_read(path).get("id", owner["id"]) == owner["id"])

    def check() -> None:
        if not ours():
            raise AocrError(f"{_taken(model_dir, _read(path))}; this training was not heard of for "
                            "minutes, and ends without writing more")

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            with suppress(tf.errors.OpError):  # the next beat may get through
                if not ours():
                    return
                filesystem.write(path, json.dumps({**owner, "time": time.time()}))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield check
    finally:
        ended.set()
        thread.join()
        _HELD.discard(owner["id"])
        with suppress(tf.errors.OpError):
            if ours():
                tf.io.gfile.remove(path)


def _owner() -> dict[str, Any]:
    return {"host": socket.gethostname(), "process": os.getpid(), "time": time.time(),
            "id": uuid.uuid4().hex}


def _is_over(owner: dict[str, Any]) -> bool:
    process = int(_number(owner.get("process")))
    if owner.get("host") == socket.gethostname():
        # A container that starts again has the host and the number that it had before.
        if process == os.getpid():
            return owner.get("id") not in _HELD
        if not _runs(process):
            return True
    return time.time() - _number(owner.get("time")) > STALE_SECONDS


def _number(value: object) -> float:
    """0 for what a damaged file holds in place of one."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def _runs(process: int) -> bool:
    if os.name == "nt":  # there, signal 0 would interrupt the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def _taken(model_dir: str, owner: dict[str, Any]) -> AocrError:
    who = f"process {owner.get('process', '?')} on {owner.get('host', 'an unknown host')}"
    return AocrError(f"{model_dir} is being trained by {who}; wait for its end, or name another "
                     "--model-dir")


def _read(path: str) -> dict[str, Any]:
    try:
        with tf.io.gfile.GFile(path, "r") as file:
            return _parsed(file.read())
    except tf.errors.NotFoundError:
        return {}


def _parsed(text: str) -> dict[str, Any]:
    try:
        owner = json.loads(text)
    except ValueError:  # it is being written just now
        return {}
    return owner if isinstance(owner, dict) else {}
