"""Annotation files: text files with one `path label` per line."""

from __future__ import annotations

import re
from collections.abc import Iterator

import tensorflow as tf

from aocr.errors import AocrError, SkipError, reason
from aocr.runtime import filesystem
from aocr.tokenizer import normalize

_SEPARATOR = re.compile(r"[ \t\v\f]+")
_MAX_LINE_BYTES = 1 << 20
_SHOWN_CHARACTERS = 80
_BOM = b"\xef\xbb\xbf"


def check_readable(annotations: str) -> int:
    """Checks that an annotation file can be read, and returns its size in bytes.

    Raises:
        AocrError: It cannot be read.
    """
    if filesystem.is_special(annotations):
        raise AocrError(f"{annotations} is not a regular file; write the annotations to one")
    try:
        with tf.io.gfile.GFile(annotations, "rb") as file:
            file.read(1)
        return int(tf.io.gfile.stat(annotations).length)
    except tf.errors.NotFoundError as error:
        raise AocrError(f"no such annotation file: {annotations}") from error
    except tf.errors.OpError as error:
        raise AocrError(f"cannot read the annotations {annotations}: {reason(error)}") from error


def read_lines(annotations: str) -> Iterator[bytes]:
    """Yields the lines of an annotation file without their ends.

    A line that is too long is truncated to one byte more than `parse_line` accepts.

    Raises:
        AocrError: The file cannot be read any further.
    """
    try:
        with tf.io.gfile.GFile(annotations, "rb") as file:
            stream = filesystem.buffered(file)
            if stream.peek(len(_BOM)).startswith(_BOM):
                stream.read(len(_BOM))
            while line := stream.readline(_MAX_LINE_BYTES + 1):
                tail = line
                while tail and not tail.endswith(b"\n"):
                    tail = stream.readline(_MAX_LINE_BYTES)
                yield line.removesuffix(b"\n").removesuffix(b"\r")
    except tf.errors.OpError as error:
        raise AocrError(f"cannot read on in {annotations}: {reason(error)}") from error


def parse_line(line: bytes) -> tuple[str, str]:
    """Returns path and label of a line, the label in NFC and without surrounding white space.

    The path ends at the first white space, and the label is the remainder, which may be empty.

    Raises:
        SkipError: The line has no label field, is not UTF-8, contains NUL, or is too long.
    """
    if len(line) > _MAX_LINE_BYTES:
        raise SkipError("line too long", f"more than {_MAX_LINE_BYTES} bytes, starting with "
                        f"{line[:_SHOWN_CHARACTERS]!r}")
    try:
        text = line.decode("utf-8").lstrip()
    except UnicodeDecodeError as error:
        raise SkipError("not UTF-8", f"byte {error.start} of the line") from error
    if "\0" in text:
        raise SkipError("NUL character", f"in {shorten(text)!r}; annotations are UTF-8 text")
    if not text:
        raise SkipError("blank line")
    path, *label = _SEPARATOR.split(text, maxsplit=1)
    if not label:
        raise SkipError("no label field", f"expected `path label`, got {shorten(text)!r}")
    return path, normalize(label[0].strip())


def shorten(text: str) -> str:
    """Returns a text, or the start of a long one with its length."""
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    return f"{text[:_SHOWN_CHARACTERS]}… ({len(text)} characters)"
