"""The names of the files that `aocr predict` reads: given, in folders, or sent one by one."""

from __future__ import annotations

import io
import os
import queue
import sys
import threading
from collections.abc import Iterable, Iterator

import tensorflow as tf

from aocr.runtime import filesystem
from aocr.runtime.console import log


def file_names(given: Iterable[str]) -> Iterator[str | None]:
    """Files, the files of folders, and names from standard input; `None` after each pause.

    A pause is where standard input has nothing more for now: whoever types names, or sends
    them one by one, gets each answer at once.
    """
    for name in given:
        if name == "-":
            yield from _standard_input()
        elif _is_folder(name):
            yield from _files_of(name)
        else:
            yield name


def _is_folder(name: str) -> bool:
    try:
        return bool(tf.io.gfile.isdir(name))
    except UnicodeEncodeError:  # TensorFlow's paths are UTF-8, those of a disk any bytes
        return False


def _files_of(folder: str) -> list[str]:
    """The files in a folder; itself, which reads as an error, where there are none."""
    listed = tf.io.gfile.listdir if filesystem.is_remote(folder) else os.listdir
    try:
        inside = [tf.io.gfile.join(folder, each) for each in sorted(listed(folder))]
    except (tf.errors.OpError, OSError):
        return [folder]
    found = [each for each in inside if not _is_folder(each)]
    if found and len(found) < len(inside):
        log.warning(f"Left out {len(inside) - len(found)} folders within {folder}; name them "
                    "to read them")
    return found or [folder]


def _standard_input() -> Iterator[str | None]:
    lines: queue.Queue[str | None] = queue.Queue()

    def listen() -> None:
        try:
            for line in sys.stdin or ():
                lines.put(line)
        finally:
            lines.put(None)

    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # file names need not be UTF-8

    threading.Thread(target=listen, daemon=True).start()
    while True:
        if lines.empty():
            yield None
        line = lines.get()
        if line is None:
            return
        if line.strip():
            yield line.rstrip("\r\n")


def batched(names: Iterable[str | None], size: int) -> Iterator[list[str]]:
    """Groups names; a pause ends a group early."""
    group: list[str] = []
    for name in names:
        if name is not None:
            group.append(name)
        if group and (name is None or len(group) == size):
            yield group
            group = []
    if group:
        yield group
