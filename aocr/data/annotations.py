"""Annotation files: one `path label` a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from aocr.errors import AocrError, SkipError, reason
from aocr.runtime import filesystem
from aocr.tokenizer import normalize

_FIELDS = re.compile(r"[ \t\v\f]+")
_PIECE = 1 << 20
_LONGEST_LINE = 1 << 20
_SHOWN = 80
_BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A line of the annotations.

    Attributes:
        number: Counted from 1.
        content: Its bytes, without the end of line.
        passed: Bytes of the file since the line before it that this run uses.
    """

    number: int
    content: bytes
    passed: int


def readable_size(annotations: str) -> int:
    """Bytes of the annotation file, of which one has been read."""
    if filesystem.is_special(annotations):
        raise AocrError(f"{annotations} is no plain file; write the annotations to one")
    try:
        with tf.io.gfile.GFile(annotations, "rb") as file:
            file.read(1)
        return int(tf.io.gfile.stat(annotations).length)
    except tf.errors.NotFoundError as error:
        raise AocrError(f"no such annotation file: {annotations}") from error
    except tf.errors.OpError as error:
        raise AocrError(f"cannot read the annotations {annotations}: {reason(error)}") from error


def lines(annotations: str) -> Iterator[bytes]:
    """The lines without their ends; of one that is too long, the beginning."""
    try:
        with tf.io.gfile.GFile(annotations, "rb") as file:
            rest, piece = b"", file.read(_PIECE).removeprefix(_BOM)
            while piece:
                *whole, rest = (rest + piece).split(b"\n")
                yield from (line.removesuffix(b"\r") for line in whole)
                rest, piece = rest[:_LONGEST_LINE + 1], file.read(_PIECE)
    except tf.errors.OpError as error:
        raise AocrError(f"cannot read on in {annotations}: {reason(error)}") from error
    if rest:
        yield rest


def parse(line: bytes) -> tuple[str, str]:
    """Path and label of a line, the label in NFC without blanks around it.

    Raises:
        SkipError: The line has no label field, is not UTF-8, holds NUL, or is too long.
    """
    if len(line) > _LONGEST_LINE:
        raise SkipError("line too long", f"more than {_LONGEST_LINE} bytes, it begins "
                        f"{line[:_SHOWN]!r}")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SkipError("not UTF-8", f"byte {error.start} of the line") from error
    text = text.lstrip()
    if "\0" in text:
        raise SkipError("NUL character", f"in {short(text)!r}; annotations are plain UTF-8 text")
    if not text:
        raise SkipError("blank line")
    path, *label = _FIELDS.split(text, maxsplit=1)
    if not label:
        raise SkipError("no label field", f"expected `path label`, got {short(text)!r}")
    return path, normalize(label[0].strip())


def short(text: str) -> str:
    """The text, or the beginning of one that is long."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"
