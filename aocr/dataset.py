"""The `dataset` command: annotation lines → checked images → records, and what they need."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import tensorflow as tf

from aocr import charmap, formats, records
from aocr.console import bar, log
from aocr.errors import AocrError, SkipError
from aocr.records import Record
from aocr.sizes import Sizes

_FIELDS = re.compile(r"[ \t\v\f]+")
_CHUNK = 256
_BOM = b"\xef\xbb\xbf"
_PART = ".part"


@dataclass(frozen=True)
class Options:
    """How annotations become records.

    Attributes:
        force_uppercase: Upper-case the labels.
        save_filename: Keep the image's path as the record's comment.
        jobs: Files read at the same time.
        log_step: A line in the log every so many pairs.
    """

    force_uppercase: bool = True
    save_filename: bool = False
    jobs: int = 1
    log_step: int = 500


class Pair(NamedTuple):
    """A line that can be used."""

    record: Record
    size: tuple[int, int]
    changed: bool


@dataclass
class Summary:
    """What a run of `generate` has met.

    Attributes:
        pairs: Records written.
        skipped: Lines left out, by reason.
        longest: The longest label.
        characters: How often each character occurs.
        upper_cased: Labels that upper-casing changed.
        sizes: Widths and heights of the images.
    """

    pairs: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    longest: str = ""
    characters: Counter[str] = field(default_factory=Counter)
    upper_cased: int = 0
    label_lengths: set[int] = field(default_factory=set)
    sizes: Sizes = field(default_factory=Sizes)

    def add(self, pair: Pair) -> None:
        """Counts one more record."""
        label = pair.record.label
        self.pairs += 1
        self.characters.update(label)
        self.upper_cased += pair.changed
        self.label_lengths.add(len(label))
        self.sizes.add(*pair.size)
        if len(label) > len(self.longest):
            self.longest = label


def generate(annotations: str, output: str, options: Options) -> Summary:
    """Writes the records of an annotation file, whole or not at all.

    Args:
        annotations: Text file, one `path label` a line; paths hold from the working directory,
            or else from the annotation file's own folder.
        output: The TFRecords file.
        options: How.

    Returns:
        What was written and what was skipped.

    Raises:
        AocrError: The annotations cannot be read, the output cannot be written, or no line of
            the annotations can be used.
    """
    lines = _read_lines(annotations)
    if tf.io.gfile.isdir(output):
        raise AocrError(f"{output} is a folder; name the file to write the records to")
    summary = Summary()
    part = output + _PART
    if os.path.abspath(annotations) in (os.path.abspath(output), os.path.abspath(part)):
        raise AocrError(f"the records would overwrite the annotations {annotations}; name "
                        "another file to write to")
    try:
        folder = os.path.dirname(output)
        if folder:
            tf.io.gfile.makedirs(folder)
        _write(part, _pairs(lines, annotations, options, summary), summary, options)
        if not summary.pairs:
            raise AocrError(_nothing(annotations, len(lines), summary))
        tf.io.gfile.rename(part, output, overwrite=True)
    except tf.errors.OpError as error:
        raise AocrError(f"cannot write {output}: {error.message}") from error
    finally:
        if tf.io.gfile.exists(part):
            tf.io.gfile.remove(part)
    return summary


def parse(line: bytes) -> tuple[str, str]:
    """Path and label of a line, the label in NFC without blanks around it.

    Raises:
        SkipError: The line has no label field, or is not UTF-8.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SkipError("not UTF-8", f"byte {error.start} of the line") from error
    text = text.lstrip()
    if not text:
        raise SkipError("blank line")
    path, *label = _FIELDS.split(text, maxsplit=1)
    if not label:
        raise SkipError("no label field", f"expected `path label`, got {text[:80]!r}")
    return path, charmap.normalize(label[0].strip())


def _read_lines(annotations: str) -> list[bytes]:
    try:
        with tf.io.gfile.GFile(annotations, "rb") as file:
            content: bytes = file.read()
    except tf.errors.NotFoundError as error:
        raise AocrError(f"no such annotation file: {annotations}") from error
    except tf.errors.OpError as error:
        raise AocrError(f"cannot read the annotations {annotations}: {error.message}") from error
    lines = content.removeprefix(_BOM).replace(b"\r\n", b"\n").split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _pairs(lines: list[bytes], annotations: str, options: Options, summary: Summary
           ) -> Iterator[Pair]:
    """The usable lines in order, read by several threads; the others are counted and named."""
    folder = os.path.dirname(annotations)

    def one(line: bytes) -> Pair | SkipError:
        try:
            return _pair(line, folder, options)
        except SkipError as error:
            return error

    progress = bar(total=len(lines), unit="line")
    with progress, ThreadPoolExecutor(options.jobs) as pool:
        for n, answer in enumerate(_in_order(pool, one, lines), start=1):
            progress.update()
            if isinstance(answer, SkipError):
                summary.skipped[answer.reason] += 1
                log.warning(f"Skipped line {n} of {annotations}: {answer}")
            else:
                yield answer


def _in_order(pool: ThreadPoolExecutor, function: object, lines: Iterable[bytes]
              ) -> Iterator[Pair | SkipError]:
    """`pool.map` a chunk at a time, so that only so many images are in memory."""
    remaining = iter(lines)
    while chunk := list(islice(remaining, _CHUNK)):
        yield from pool.map(function, chunk)  # type: ignore[arg-type]


def _pair(line: bytes, folder: str, options: Options) -> Pair:
    path, truth = parse(line)
    encoded, size = formats.readable(_read_image(path, folder))
    label = charmap.normalize(truth.upper()) if options.force_uppercase else truth
    record = Record(encoded, label, path if options.save_filename else "")
    return Pair(record, size, label != truth)


def _read_image(path: str, folder: str) -> bytes:
    if "\0" in path:
        raise SkipError("cannot open the file", f"{path!r} holds a NUL character")
    for candidate in dict.fromkeys((path, os.path.join(folder, path))):
        try:
            with tf.io.gfile.GFile(candidate, "rb") as file:
                return bytes(file.read())
        except tf.errors.NotFoundError:
            continue
        except (tf.errors.OpError, ValueError) as error:
            raise SkipError("cannot open the file", f"{path}: {_reason(error)}") from error
    raise SkipError("missing file", path)


def _write(path: str, pairs: Iterable[Pair], summary: Summary, options: Options) -> None:
    with tf.io.TFRecordWriter(path) as writer:
        for pair in pairs:
            writer.write(records.encode(pair.record))
            summary.add(pair)
            if summary.pairs % options.log_step == 0:
                log.info(f"Processed {summary.pairs} pairs.")


def _nothing(annotations: str, lines: int, summary: Summary) -> str:
    if not lines:
        return f"{annotations} is empty; expected one `path label` a line"
    reason, number = summary.skipped.most_common(1)[0]
    return (f"no line of {annotations} can be used: {number} of {lines} are skipped for "
            f"{reason!r}; nothing was written")


def _reason(error: Exception) -> str:
    return str(getattr(error, "message", error)).split(";")[-1].strip()
