"""The `dataset` command: annotation lines → checked images → records, and what they need."""

from __future__ import annotations

import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

import tensorflow as tf

from aocr import charmap, files, formats, records
from aocr.config import MAX_PIXELS
from aocr.console import bar, log
from aocr.errors import AocrError, SkipError, reason
from aocr.records import Record
from aocr.shards import Sharding
from aocr.sizes import Sizes

_FIELDS = re.compile(r"[ \t\v\f]+")
_AHEAD = 4  # lines on the way for each thread
_PIECE = 1 << 20
_LONGEST_LINE = 1 << 20
_SHOWN = 80
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
        max_pixels: Most pixels that an image may promise.
        sharding: Into which files.
    """

    force_uppercase: bool = True
    save_filename: bool = False
    jobs: int = 1
    log_step: int = 500
    max_pixels: int = MAX_PIXELS
    sharding: Sharding = Sharding()


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


class Pair(NamedTuple):
    """A line that can be used."""

    record: Record
    path: str
    size: tuple[int, int]
    changed: bool


_Answer = tuple[Line, Pair | SkipError]


@dataclass
class Summary:
    """What a run of `generate` has met.

    Attributes:
        pairs: Records written.
        lines: Lines seen; of those dealt to one file, if only that one was made.
        skipped: Lines left out, by reason.
        longest: The longest label.
        characters: How often each character occurs.
        paths: Hashes of the paths seen.
        repeated: Records whose path an earlier line has named.
        upper_cased: Labels that upper-casing changed.
        sizes: Widths and heights of the images.
    """

    pairs: int = 0
    lines: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    longest: str = ""
    characters: Counter[str] = field(default_factory=Counter)
    paths: set[int] = field(default_factory=set)
    repeated: int = 0
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
        output: The TFRecords file, or the name from which several make theirs.
        options: How.

    Returns:
        What was written and what was skipped.

    Raises:
        AocrError: The annotations cannot be read, the output cannot be written, or no line of
            the annotations can be used.
    """
    size = _readable_size(annotations)
    paths = options.sharding.paths(output)
    _refuse_obstacles(annotations, paths)
    summary = Summary()
    parts = [path + _PART for path in paths]
    try:
        folder = os.path.dirname(output)
        if folder and not folder.endswith(":"):  # the root of a remote file system
            tf.io.gfile.makedirs(folder)
        written = _write(parts, _pairs(annotations, size, options, summary), summary, options)
        if not summary.pairs:
            raise AocrError(_nothing(annotations, summary))
        _refuse_empty(paths, written)
        for part, path in zip(parts, paths, strict=True):
            tf.io.gfile.rename(part, path, overwrite=True)
    except tf.errors.OpError as error:
        raise AocrError(f"cannot write {output}: {reason(error)}") from error
    finally:
        for part in filter(tf.io.gfile.exists, parts):
            tf.io.gfile.remove(part)
    return summary


def _refuse_obstacles(annotations: str, paths: Sequence[str]) -> None:
    for path in paths:
        if files.is_special(path):
            raise AocrError(f"{path} is no plain file; name the file to write the records to")
        if path.endswith("/") or tf.io.gfile.isdir(path):
            raise AocrError(f"{path} is a folder; name the file to write the records to")
        if os.path.abspath(annotations) in (os.path.abspath(path), os.path.abspath(path + _PART)):
            raise AocrError(f"the records would overwrite the annotations {annotations}; name "
                            "another file to write to")


def _refuse_empty(paths: Sequence[str], written: Counter[int]) -> None:
    """Refuses a file without any record, which `aocr train` would refuse."""
    for n, path in enumerate(paths):
        if not written[n]:
            raise AocrError(f"no line that can be used is dealt to {path}: nothing was written; "
                            "give fewer --shards")


def parse(line: bytes) -> tuple[str, str]:
    """Path and label of a line, the label in NFC without blanks around it.

    Raises:
        SkipError: The line has no label field, is not UTF-8, or is too long.
    """
    if len(line) > _LONGEST_LINE:
        raise SkipError("line too long", f"more than {_LONGEST_LINE} bytes, it begins "
                        f"{line[:_SHOWN]!r}")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SkipError("not UTF-8", f"byte {error.start} of the line") from error
    text = text.lstrip()
    if not text:
        raise SkipError("blank line")
    path, *label = _FIELDS.split(text, maxsplit=1)
    if not label:
        raise SkipError("no label field", f"expected `path label`, got {_short(text)!r}")
    return path, charmap.normalize(label[0].strip())


def _readable_size(annotations: str) -> int:
    """Bytes of the annotation file, of which one has been read."""
    try:
        with tf.io.gfile.GFile(annotations, "rb") as file:
            file.read(1)
        return int(tf.io.gfile.stat(annotations).length)
    except tf.errors.NotFoundError as error:
        raise AocrError(f"no such annotation file: {annotations}") from error
    except tf.errors.OpError as error:
        raise AocrError(f"cannot read the annotations {annotations}: {reason(error)}") from error


def _lines(annotations: str) -> Iterator[bytes]:
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


def _pairs(annotations: str, size: int, options: Options, summary: Summary
           ) -> Iterator[tuple[int, Pair]]:
    """The usable lines with their numbers, read by several threads; others are told and counted."""
    folder = os.path.dirname(annotations)

    def one(line: Line) -> _Answer:
        try:
            return line, _pair(line.content, folder, options)
        except SkipError as error:
            return line, error

    progress = bar(total=size, unit="B", unit_scale=True)
    dealt = _dealt(_lines(annotations), options.sharding)
    with progress, ThreadPoolExecutor(options.jobs) as pool:
        # A thread beside this one would only take its turns from it.
        answers = map(one, dealt) if options.jobs == 1 else _in_order(
            pool, one, dealt, options.jobs * _AHEAD)
        for line, answer in answers:
            progress.update(line.passed)
            summary.lines += 1
            if isinstance(answer, SkipError):
                summary.skipped[answer.reason] += 1
                log.warning(f"Skipped line {line.number} of {annotations}: {answer}")
            else:
                _note_repetition(answer.path, line.number, annotations, summary)
                yield line.number, answer


def _dealt(lines: Iterable[bytes], sharding: Sharding) -> Iterator[Line]:
    """The lines that this run makes into records."""
    passed = 0
    for number, content in enumerate(lines, 1):
        passed += len(content) + 1
        if sharding.takes(number):
            yield Line(number, content, passed)
            passed = 0


def _in_order(pool: ThreadPoolExecutor, function: Callable[[Line], _Answer],
              lines: Iterable[Line], ahead: int) -> Iterator[_Answer]:
    """`pool.map`, so far ahead and no further: only so many images are in memory."""
    waiting: deque[Future[_Answer]] = deque()
    for line in lines:
        waiting.append(pool.submit(function, line))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _note_repetition(path: str, line: int, annotations: str, summary: Summary) -> None:
    place = hash(path)
    if place in summary.paths:
        if not summary.repeated:
            log.warning(f"Line {line} of {annotations} names {_short(path)} again; both "
                        "lines are used, remove one if that is not meant (further ones are only "
                        "counted)")
        summary.repeated += 1
    summary.paths.add(place)


def _pair(line: bytes, folder: str, options: Options) -> Pair:
    path, truth = parse(line)
    encoded, size = formats.readable(_read_image(path, folder, options.max_pixels),
                                     options.max_pixels)
    label = charmap.normalize(truth.upper()) if options.force_uppercase else truth
    record = Record(encoded, label, path if options.save_filename else "")
    return Pair(record, path, size, label != truth)


def _read_image(path: str, folder: str, max_pixels: int) -> bytes:
    if "\0" in path:
        raise SkipError("cannot open the file", f"{_short(path)!r} holds a NUL character")
    for candidate in dict.fromkeys((path, tf.io.gfile.join(folder, path))):
        try:
            formats.check_length(tf.io.gfile.stat(candidate).length, max_pixels)
            with tf.io.gfile.GFile(candidate, "rb") as file:
                return bytes(file.read())
        except tf.errors.NotFoundError:
            continue
        except (tf.errors.OpError, ValueError) as error:
            raise SkipError("cannot open the file", f"{_short(path)}: {_reason(error)}") from error
    raise SkipError("missing file", _short(path))


def _write(paths: Sequence[str], pairs: Iterable[tuple[int, Pair]], summary: Summary,
           options: Options) -> Counter[int]:
    """Deals the records to the files; returns how many went to each."""
    written: Counter[int] = Counter()
    with ExitStack() as stack:
        writers = [stack.enter_context(tf.io.TFRecordWriter(path)) for path in paths]
        for line, pair in pairs:
            place = options.sharding.place(line)
            writers[place].write(records.encode(pair.record))
            written[place] += 1
            summary.add(pair)
            if summary.pairs % options.log_step == 0:
                log.info(f"Processed {summary.pairs} pairs.")
    return written


def _nothing(annotations: str, summary: Summary) -> str:
    if not summary.lines:
        return f"{annotations} is empty; expected one `path label` a line"
    reason, number = summary.skipped.most_common(1)[0]
    return (f"no line of {annotations} can be used: {number} of {summary.lines} are skipped for "
            f"{reason!r}; nothing was written")


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"


def _reason(error: Exception) -> str:
    return _short(str(getattr(error, "message", error)).split(";")[-1].strip())
