"""One training a folder: the lock that a second one meets."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import tensorflow as tf

from aocr import files
from aocr.errors import AocrError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = "training.lock"
BEAT_SECONDS = 60.0
STALE_SECONDS = 5 * BEAT_SECONDS


@contextmanager
def held(model_dir: str) -> Iterator[None]:
    """Keeps the folder for this training; the folder must exist.

    On a local disk the operating system holds the lock and drops it with the process. On other
    file systems a file is written anew every minute, and counts for five.

    Raises:
        AocrError: Another training has it; names its host and process.
    """
    path = tf.io.gfile.join(model_dir, LOCK_FILE)
    if files.is_remote(model_dir) or fcntl is None:
        with _beating(path, model_dir):
            yield
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
        yield
        file.truncate(0)


@contextmanager
def _beating(path: str, model_dir: str) -> Iterator[None]:
    owner = _owner()
    found = _read(path)
    if found and not _is_over(found):
        raise _taken(model_dir, found)
    files.write(path, json.dumps(owner))
    # Of two that start at once, both have written by now, and one of them has written last.
    if _read(path).get("id") != owner["id"]:
        raise _taken(model_dir, _read(path))
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            with suppress(tf.errors.OpError):  # the next beat may get through
                files.write(path, json.dumps({**owner, "time": time.time()}))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        tf.io.gfile.remove(path)


def _owner() -> dict[str, Any]:
    return {"host": socket.gethostname(), "process": os.getpid(), "time": time.time(),
            "id": uuid.uuid4().hex}


def _is_over(owner: dict[str, Any]) -> bool:
    if owner.get("host") == socket.gethostname() and not _runs(int(owner.get("process", 0))):
        return True
    return time.time() - float(owner.get("time", 0)) > STALE_SECONDS


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
