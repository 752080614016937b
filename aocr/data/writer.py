"""Writes datasets: reads annotations, checks the images, and writes TFRecords."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import tensorflow as tf

from aocr.config import MAX_PIXELS
from aocr.data import example, parallel
from aocr.data.annotation_formats import Annotation, AnnotationOptions, Entry, shorten
from aocr.data.annotations import Annotations, open_annotations
from aocr.data.example import Record
from aocr.data.sharding import Sharding
from aocr.data.stats import DatasetStats, NamedSize
from aocr.errors import AocrError, SkipError, reason
from aocr.images import files, transcoding
from aocr.runtime import filesystem
from aocr.runtime.console import log, printable, progress_bar
from aocr.tokenizer import normalize

VERIFIED_IMAGES = 20_000  # decoding more images would take minutes
_PENDING_LINES = 4  # for each thread
_PARTIAL = ".part"


@dataclass(frozen=True)
class DatasetOptions:
    """Options for converting annotations to records.

    Attributes:
        force_uppercase: Convert the labels to upper case.
        save_filename: Store the path of each image as the comment of its record.
        jobs: Number of files to read in parallel.
        log_step: Number of pairs after which a line is logged.
        max_pixels: Maximum number of pixels that the header of an image may declare.
        sharding: Number of output files, and which of them to write.
        verify: Decode every image; `None` for up to `VERIFIED_IMAGES` lines only.
        annotations: Format and columns of the annotations.
    """

    force_uppercase: bool = True
    save_filename: bool = False
    jobs: int = 1
    log_step: int = 500
    max_pixels: int = MAX_PIXELS
    sharding: Sharding = Sharding()
    verify: bool | None = None
    annotations: AnnotationOptions = AnnotationOptions()


class LabeledImage(NamedTuple):
    """A usable line: the record, size and path of its image, and whether its label changed."""

    record: Record
    size: NamedSize
    upper_cased: bool


def write_dataset(annotations: str, output: str, options: DatasetOptions) -> DatasetStats:
    """Writes the records of annotations, completely or not at all.

    Args:
        annotations: File of annotations, or directory of images and label files. Paths are
            relative to the working directory, or else to the directory of the annotation file.
        output: The TFRecords file, or the name from which those of the shards are derived.
        options: Options of the conversion.

    Returns:
        Statistics of the records and of the skipped lines.

    Raises:
        AocrError: The annotations cannot be read, the output cannot be written, or no line is
            usable.
    """
    source = open_annotations(annotations, options.annotations)
    paths = options.sharding.paths(output)
    _check_paths(annotations, paths)
    stats = DatasetStats()
    partial_paths = [path + _PARTIAL for path in paths]
    try:
        directory = os.path.dirname(output)
        if directory and not directory.endswith(":"):  # the root of a remote file system
            tf.io.gfile.makedirs(directory)
        images = _labeled_images(source, options, stats)
        counts = _write_records(partial_paths, images, stats, options)
        if not stats.pairs:
            raise _nothing_usable_error(annotations, stats, options.sharding)
        _refuse_empty_shards(paths, counts)
        for partial_path, path in zip(partial_paths, paths, strict=True):
            tf.io.gfile.rename(partial_path, path, overwrite=True)
    except tf.errors.OpError as error:
        raise AocrError(f"cannot write {output}: {reason(error)}") from error
    finally:
        for path in filter(tf.io.gfile.exists, partial_paths):
            tf.io.gfile.remove(path)
    return stats


def _check_paths(annotations: str, paths: Sequence[str]) -> None:
    for path in paths:
        if filesystem.is_special(path):
            raise AocrError(f"{path} is not a regular file; name the file to write the records to")
        if path.endswith("/") or tf.io.gfile.isdir(path):
            raise AocrError(f"{path} is a directory; name the file to write the records to")
        if os.path.abspath(annotations) in map(os.path.abspath, (path, path + _PARTIAL)):
            raise AocrError(f"the records would overwrite the annotations {annotations}; name "
                            "another file to write to")


def _refuse_empty_shards(paths: Sequence[str], counts: Counter[int]) -> None:
    """Refuses shards without records, which `aocr train` would refuse later."""
    for n, path in enumerate(paths):
        if not counts[n]:
            raise AocrError(f"no usable line goes to {path}: nothing was written; give fewer "
                            "--shards")


def _labeled_images(annotations: Annotations, options: DatasetOptions, stats: DatasetStats
                    ) -> Iterator[tuple[int, LabeledImage]]:
    """Yields the usable lines with their numbers; logs and counts the others."""
    loader = _ImageLoader(annotations.directory, options, _should_verify(annotations, options))
    results = parallel.ordered_map(
        loader.load_entry, _included_entries(annotations, options.sharding), options.jobs,
        max_pending=options.jobs * _PENDING_LINES)
    position = 0
    with progress_bar(total=annotations.size, unit="B", unit_scale=True) as progress:
        for entry, result in results:
            progress.update(entry.position - position)
            position = entry.position
            stats.lines += 1
            if isinstance(result, SkipError):
                stats.skip(entry.number, result)
                log.warning(f"Skipped line {entry.number} of {annotations.path}: {result}")
            else:
                _count_anomalies(result, entry.number, annotations.path, stats)
                yield entry.number, result


def _included_entries(annotations: Annotations, sharding: Sharding) -> Iterator[Entry]:
    return (entry for entry in annotations.entries() if sharding.includes(entry.number))


def _should_verify(annotations: Annotations, options: DatasetOptions) -> bool:
    if options.verify is not None:
        return options.verify
    # The lines of all shards count, so that each is written as it is by a single run.
    if sum(1 for _ in islice(annotations.entries(), VERIFIED_IMAGES + 1)) <= VERIFIED_IMAGES:
        return True
    log.info(f"Only the headers of the images are checked, because there are more than "
             f"{VERIFIED_IMAGES}: training skips images that cannot be decoded. --verify decodes "
             "all of them now.")
    return False


def _count_anomalies(image: LabeledImage, line: int, annotations: str, stats: DatasetStats
                     ) -> None:
    """Counts repeated paths and control characters in labels, and logs the first of each."""
    path, label = image.size.path, image.record.label
    if hash(path) in stats.paths:
        if not stats.repeated:
            log.warning(f"Line {line} of {annotations} repeats the path {shorten(path)}; both "
                        "lines are used, remove one if this is not intended (further repetitions "
                        "are only counted)")
        stats.repeated += 1
    stats.paths.add(hash(path))
    if any(unicodedata.category(character) == "Cc" for character in label):
        if not stats.control_characters:
            log.warning(f"Line {line} of {annotations} has control characters in its label, "
                        f"{printable(shorten(label))}; it is used, remove them if this is not "
                        "intended (further such labels are only counted)")
        stats.control_characters += 1


class _ImageLoader:
    """Reads and checks the images that annotation lines name.

    Args:
        directory: Directory of the annotation file.
        options: Options of the conversion.
        verify: Whether to decode the images.
    """

    def __init__(self, directory: str, options: DatasetOptions, verify: bool) -> None:
        self._directory, self._options, self._verify = directory, options, verify

    def load_entry(self, entry: Entry) -> tuple[Entry, LabeledImage | SkipError]:
        """Returns the entry with its image and label, or with the reason why it is skipped."""
        try:
            return entry, self._load(*self._choose(entry.parse()))
        except SkipError as error:
            return entry, error

    def _choose(self, annotations: Sequence[Annotation]) -> Annotation:
        """Returns the only annotation, or the first whose image exists."""
        if len(annotations) == 1:
            return annotations[0]
        for annotation in annotations:
            try:
                if _exists(self._resolve(annotation.path)):
                    return annotation
            except OSError as error:
                raise _unopenable(error) from error
        paths = dict.fromkeys(annotation.path for annotation in annotations)
        raise SkipError("missing file", " or ".join(map(shorten, paths)))

    def _load(self, path: str, label: str) -> LabeledImage:
        try:
            stored = self._read(path)
            encoded, size = transcoding.to_decodable(stored, self._options.max_pixels)
            if self._verify and encoded is stored:  # transcoding has decoded the others
                _verify_decodable(encoded)
        except SkipError as error:
            detail = ": ".join(filter(None, (shorten(path), error.detail)))
            raise SkipError(error.reason, detail) from error
        upper = normalize(label.upper()) if self._options.force_uppercase else label
        record = Record(encoded, upper, path if self._options.save_filename else "")
        return LabeledImage(record, NamedSize(*size, path), upper != label)

    def _read(self, path: str) -> bytes:
        try:
            return files.read_image_file(self._resolve(path), self._options.max_pixels)
        except FileNotFoundError as error:
            raise SkipError("missing file") from error
        except (OSError, ValueError) as error:
            raise _unopenable(error) from error

    def _resolve(self, path: str) -> str:
        """Returns a path relative to the working directory, or else to the annotation file."""
        if filesystem.is_remote(path) or _exists(path):
            return path
        return str(tf.io.gfile.join(self._directory, path))


def _unopenable(error: Exception) -> SkipError:
    return SkipError(files.UNOPENABLE, shorten(getattr(error, "strerror", None) or str(error)))


def _exists(path: str) -> bool:
    if filesystem.is_remote(path):
        with filesystem.os_errors():
            return bool(tf.io.gfile.exists(path))
    return os.path.exists(path)  # many times faster, and does not raise for long names


def _verify_decodable(encoded: bytes) -> None:
    """Decodes an image as training does.

    TensorFlow's decoder also refuses images that Pillow decodes, such as a JPEG without its end.

    Raises:
        SkipError: It cannot be decoded.
    """
    try:
        tf.io.decode_image(encoded, expand_animations=False)
    except tf.errors.InvalidArgumentError as error:
        raise SkipError("unreadable image", "its data cannot be decoded") from error


def _write_records(paths: Sequence[str], images: Iterable[tuple[int, LabeledImage]],
                   stats: DatasetStats, options: DatasetOptions) -> Counter[int]:
    """Writes the records to their files; returns the number of records of each file."""
    counts: Counter[int] = Counter()
    with ExitStack() as stack:
        writers = [stack.enter_context(tf.io.TFRecordWriter(path)) for path in paths]
        for line, image in images:
            n = options.sharding.file_of(line)
            writers[n].write(example.encode(image.record))
            counts[n] += 1
            stats.add(image.record.label, image.size, image.upper_cased)
            if stats.pairs % options.log_step == 0:
                log.info(f"Processed {stats.pairs} pairs.")
    return counts


def _nothing_usable_error(annotations: str, stats: DatasetStats, sharding: Sharding) -> AocrError:
    if not stats.lines and sharding.index is not None:
        return AocrError(f"no line of {annotations} goes to shard {sharding.index} of "
                         f"{sharding.count}; give fewer --shards")
    if not stats.lines:
        return AocrError(f"{annotations} is empty; expected one `path label` per line")
    skip_reason, count = stats.skipped.most_common(1)[0]
    return AocrError(f"no line of {annotations} can be used: {count} of {stats.lines} are skipped "
                     f"for {skip_reason!r}; nothing was written")
