"""The `dataset` command: annotation lines → checked images → records, and what they need."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from aocr.config import MAX_PIXELS
from aocr.data import example, parallel
from aocr.data.annotations import Line, lines, parse, readable_size, short
from aocr.data.example import Record
from aocr.data.sharding import Sharding
from aocr.data.stats import DatasetStats
from aocr.errors import AocrError, SkipError, reason
from aocr.images import files, transcoding
from aocr.runtime import filesystem
from aocr.runtime.console import bar, log
from aocr.tokenizer import normalize

_AHEAD = 4  # lines on the way for each thread
_PART = ".part"


@dataclass(frozen=True)
class DatasetOptions:
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


class Pair(NamedTuple):
    """A line that can be used."""

    record: Record
    path: str
    size: tuple[int, int]
    changed: bool


_Answer = tuple[Line, Pair | SkipError]


def write_dataset(annotations: str, output: str, options: DatasetOptions) -> DatasetStats:
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
    size = readable_size(annotations)
    paths = options.sharding.paths(output)
    _refuse_obstacles(annotations, paths)
    summary = DatasetStats()
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
        if filesystem.is_special(path):
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


def _pairs(annotations: str, size: int, options: DatasetOptions, summary: DatasetStats
           ) -> Iterator[tuple[int, Pair]]:
    """The usable lines with their numbers, read by several threads; others are told and counted."""
    images = _Images(os.path.dirname(annotations), options.max_pixels)

    def one(line: Line) -> _Answer:
        try:
            return line, _pair(line.content, images, options)
        except SkipError as error:
            return line, error

    progress = bar(total=size, unit="B", unit_scale=True)
    dealt = _dealt(lines(annotations), options.sharding)
    with progress, ThreadPoolExecutor(options.jobs) as pool:
        answers = map(one, dealt) if options.jobs == 1 else parallel.adaptive_ordered_map(
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


def _note_repetition(path: str, line: int, annotations: str, summary: DatasetStats) -> None:
    place = hash(path)
    if place in summary.paths:
        if not summary.repeated:
            log.warning(f"Line {line} of {annotations} names {short(path)} again; both "
                        "lines are used, remove one if that is not meant (further ones are only "
                        "counted)")
        summary.repeated += 1
    summary.paths.add(place)


def _pair(line: bytes, images: _Images, options: DatasetOptions) -> Pair:
    path, truth = parse(line)
    encoded, size = transcoding.to_decodable(images.load(path), options.max_pixels)
    label = normalize(truth.upper()) if options.force_uppercase else truth
    record = Record(encoded, label, path if options.save_filename else "")
    return Pair(record, path, size, label != truth)


class _Images:
    """The image files that annotations name.

    A path holds from the working directory, or else from the annotations' own folder.
    """

    def __init__(self, folder: str, max_pixels: int) -> None:
        self._folder, self._max_pixels = folder, max_pixels
        self._places: dict[str, list[str]] = {}

    def load(self, path: str) -> bytes:
        """The bytes of an image.

        Raises:
            SkipError: There is none, or it cannot be read.
        """
        folder, slash, name = path.rpartition("/")
        for place in self._places_of(folder + slash):
            try:
                return files.read_image_file(place + name, self._max_pixels)
            except tf.errors.NotFoundError:
                continue
            except (tf.errors.OpError, ValueError) as error:
                raise SkipError("cannot open the file", f"{short(path)}: {_reason(error)}"
                                ) from error
        raise SkipError("missing file", short(path))

    def _places_of(self, folder: str) -> list[str]:
        """Where a folder may be: asking once for all its files is faster than for each."""
        if folder not in self._places:
            candidates = dict.fromkeys((folder, tf.io.gfile.join(self._folder, folder)))
            self._places[folder] = [place for place in candidates if filesystem.is_remote(place)
                                    or os.path.isdir(place or ".")]
        return self._places[folder]


def _write(paths: Sequence[str], pairs: Iterable[tuple[int, Pair]], summary: DatasetStats,
           options: DatasetOptions) -> Counter[int]:
    """Deals the records to the files; returns how many went to each."""
    written: Counter[int] = Counter()
    with ExitStack() as stack:
        writers = [stack.enter_context(tf.io.TFRecordWriter(path)) for path in paths]
        for line, pair in pairs:
            place = options.sharding.place(line)
            writers[place].write(example.encode(pair.record))
            written[place] += 1
            summary.add(pair.record.label, pair.size, pair.changed)
            if summary.pairs % options.log_step == 0:
                log.info(f"Processed {summary.pairs} pairs.")
    return written


def _nothing(annotations: str, summary: DatasetStats) -> str:
    if not summary.lines:
        return f"{annotations} is empty; expected one `path label` a line"
    reason, number = summary.skipped.most_common(1)[0]
    return (f"no line of {annotations} can be used: {number} of {summary.lines} are skipped for "
            f"{reason!r}; nothing was written")


def _reason(error: Exception) -> str:
    return short(str(getattr(error, "message", error)).split(";")[-1].strip())
