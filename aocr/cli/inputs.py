"""Lists the input files of `aocr predict`, from arguments, directories and standard input."""

from __future__ import annotations

import io
import os
import queue
import sys
import threading
from collections.abc import Iterable, Iterator

from aocr.images.transcoding import has_image_extension
from aocr.runtime import filesystem
from aocr.runtime.console import log


def file_names(arguments: Iterable[str]) -> Iterator[str | None]:
    """Yields file names, and `None` at each pause.

    A pause means that standard input has no further line yet. A user who types names, or a program
    that sends one name at a time, therefore gets each result immediately.

    Args:
        arguments: Files, directories, whose images are listed, or `-` for names on standard input.
    """
    for name in arguments:
        if name == "-":
            yield from _standard_input()
        elif filesystem.is_directory(name):
            yield from _images_in(name)
        else:
            yield name


def _images_in(directory: str) -> list[str]:
    """Returns the images in a directory; if there are none, the directory, to report an error."""
    try:
        names = sorted(filesystem.list_directory(directory))
    except OSError:
        return [directory]
    images: list[str] = []
    hidden = others = directories = 0
    for name in names:
        path = os.path.join(directory, name)
        if name.startswith("."):
            hidden += 1
        elif filesystem.is_directory(path):
            directories += 1
        elif has_image_extension(name):
            images.append(path)
        else:
            others += 1
    if hidden or others or directories:
        log.warning(f"Not read in {directory} (hidden files: {hidden}, files without an image "
                    f"extension: {others}, directories: {directories}); name them to read them")
    return images or [directory]


def _standard_input() -> Iterator[str | None]:
    lines: queue.Queue[str | None] = queue.Queue()

    def read_lines() -> None:
        try:
            for line in sys.stdin or ():
                lines.put(line)
        finally:
            lines.put(None)

    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # file names need not be UTF-8

    threading.Thread(target=read_lines, daemon=True).start()
    while True:
        if lines.empty():
            yield None
        line = lines.get()
        if line is None:
            return
        if line.strip():
            yield line.rstrip("\r\n")


def batched(names: Iterable[str | None], size: int) -> Iterator[list[str]]:
    """Yields lists of at most `size` names; a pause ends a list early."""
    batch: list[str] = []
    for name in names:
        if name is not None:
            batch.append(name)
        if batch and (name is None or len(batch) == size):
            yield batch
            batch = []
    if batch:
        yield batch
