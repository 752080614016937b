"""The record index: positions of the usable records of a dataset, and reading them.

A dataset is one or more TFRecords files of `tf.train.Example`, one for each image. Feature `image`
holds the encoded image, `label` its text (UTF-8 in NFC; the original aocr wrote Latin-1, which is
still read) and `comment`, optionally, where the image came from. All three are strings of bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import tensorflow as tf

from aocr.config import MAX_PIXELS, ModelConfig, max_bytes
from aocr.data import example, scan, tfrecord
from aocr.data.example import Record
from aocr.data.scan import RecordMetadata
from aocr.data.skipping import RecordChecker, SkippedRecord
from aocr.data.tfrecord import FRAMING_BYTES, HEADER_BYTES, TFRecordFile
from aocr.errors import AocrError, SkipError
from aocr.images import preprocessing
from aocr.runtime import filesystem
from aocr.tokenizer import Tokenizer

_COLUMN_TYPES = {"file": np.int32, "number": np.int32, "offset": np.int64, "length": np.int32,
                 "width": np.int32, "bucket": np.int16}


@dataclass(frozen=True)
class RecordIndex:
    """Positions and widths of the usable records, in the order of the files; 26 bytes a record.

    Attributes:
        files: The TFRecords files.
        file: Position of a record's file in `files`, `[n]` int32.
        number: Number of the record in its file, from 1, `[n]` int32.
        offset: Byte offset of the record's data in its file, `[n]` int64.
        length: Length of the record's data in bytes, `[n]` int32.
        width: Width of the preprocessed image in pixels, without padding, `[n]` int32.
        bucket: Hash of the encoded image, 0 to `scan.BUCKETS` - 1, the same in every run, `[n]`
            int16.
        skipped: Records that cannot be used.
    """

    files: list[TFRecordFile]
    file: np.ndarray
    number: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    width: np.ndarray
    bucket: np.ndarray
    skipped: list[SkippedRecord]

    def __len__(self) -> int:
        return len(self.file)

    def path(self, n: int) -> str:
        """Returns the path of the file that holds record `n`."""
        return self.files[self.file[n]].path

    def subset(self, mask: np.ndarray) -> RecordIndex:
        """Returns the index of the records where `mask`, `[n]` bool, is true; keeps `skipped`."""
        return replace(self, **{name: getattr(self, name)[mask] for name in _COLUMN_TYPES})

    def first(self, count: int) -> RecordIndex:
        """Returns the index of the first `count` records; keeps `skipped`."""
        return self.subset(np.arange(len(self)) < count)

    def join(self, other: RecordIndex) -> RecordIndex:
        """Returns the index of these records, followed by those of another; keeps `skipped`."""
        columns = {name: np.concatenate([getattr(self, name), getattr(other, name)])
                   for name in _COLUMN_TYPES}
        columns["file"][len(self):] += len(self.files)
        return RecordIndex(self.files + other.files, **columns, skipped=self.skipped)

    def skip(self, n: int, reason: str, detail: str) -> SkippedRecord:
        """Returns the skip entry of record `n`, which turned out to be unusable."""
        return SkippedRecord(self.path(n), int(self.number[n]), reason, detail)


class RecordIndexBuilder:
    """Builds a record index from batches of metadata of several files at a time.

    Args:
        files: The TFRecords files, in the order of the index.
    """

    def __init__(self, files: Sequence[TFRecordFile]) -> None:
        self._files = list(files)
        self._starts = np.cumsum([0, *(file.records for file in files)])
        self._added, self._bytes = [0] * len(files), [0] * len(files)
        self._columns = {name: np.zeros(self._starts[-1], dtype)
                         for name, dtype in _COLUMN_TYPES.items()}
        self._usable = np.ones(self._starts[-1], bool)
        self._skipped: list[list[SkippedRecord]] = [[] for _ in files]

    def add(self, metadata: RecordMetadata, widths: np.ndarray, unusable: Mapping[int, SkipError]
            ) -> None:
        """Adds the next records of a file.

        Args:
            metadata: Metadata of the records.
            widths: Widths of their preprocessed images, `[n]` int32.
            unusable: Why records cannot be used, by position in the batch.

        Raises:
            AocrError: The file holds more records than the framing check counted.
        """
        file, added = int(metadata.file), self._added[int(metadata.file)]
        numbers = np.arange(added + 1, added + 1 + len(widths))
        rows = slice(self._starts[file] + added, self._starts[file] + added + len(widths))
        if rows.stop > self._starts[file + 1]:
            raise tfrecord.changed_error([self._files[file]])
        ends = self._bytes[file] + np.cumsum(metadata.lengths + np.int64(FRAMING_BYTES))
        offsets = ends - metadata.lengths - (FRAMING_BYTES - HEADER_BYTES)
        values = (file, numbers, offsets, metadata.lengths, widths, metadata.buckets)
        for column, value in zip(self._columns.values(), values, strict=True):
            column[rows] = value
        for n, error in unusable.items():
            self._usable[rows.start + n] = False
            self._skipped[file].append(SkippedRecord(
                self._files[file].path, int(numbers[n]), error.reason, error.detail))
        self._added[file] += len(widths)
        self._bytes[file] = int(ends[-1])

    def build(self) -> RecordIndex:
        """Returns the index of the usable records. Call once: the builder gives up its arrays.

        Raises:
            AocrError: A file holds fewer records than the framing check counted.
        """
        shorter = [file for file, added in zip(self._files, self._added, strict=True)
                   if added < file.records]
        if shorter:
            raise tfrecord.changed_error(shorter)
        if not self._usable.all():
            for name in _COLUMN_TYPES:  # one at a time, so that less memory is held at once
                self._columns[name] = self._columns[name][self._usable]
        return RecordIndex(self._files, **self._columns, skipped=list(chain(*self._skipped)))


def build_index(paths: Sequence[str], config: ModelConfig, tokenizer: Tokenizer,
                max_pixels: int = MAX_PIXELS) -> RecordIndex:
    """Builds the index of a dataset in one pass, without decoding the images.

    Args:
        paths: TFRecords files, as returned by `resolve_paths`.
        config: Limits of image width and label length.
        tokenizer: Characters that labels may contain.
        max_pixels: Maximum number of pixels to decode for an image.

    Raises:
        AocrError: A file is damaged or not a TFRecords file.
    """
    files = tfrecord.validate_tfrecords(paths, max_bytes(max_pixels))
    checker = RecordChecker(config, tokenizer, max_pixels)
    builder = RecordIndexBuilder(files)
    for metadata in scan.scan_records(files):
        _, widths = preprocessing.scaled_size(metadata.heights, metadata.widths, config)
        builder.add(metadata, widths.numpy(), dict(checker.unusable(metadata)))
    return builder.build()


def resolve_paths(patterns: Sequence[str]) -> list[str]:
    """Returns the files that names and globs stand for, each once, in the order given.

    Raises:
        AocrError: A pattern matches nothing, or matches something other than a regular file.
    """
    paths: dict[str, None] = {}
    for pattern in patterns:
        matches = [pattern] if tf.io.gfile.exists(pattern) else sorted(tf.io.gfile.glob(pattern))
        if not matches:
            raise AocrError(f"no such dataset: {pattern} (make one with `aocr dataset`)")
        paths |= dict.fromkeys(matches)
    for path in paths:
        if tf.io.gfile.isdir(path):
            raise AocrError(f"{path} is a directory; a dataset is a file that `aocr dataset` has "
                            "written (a glob names several)")
        if filesystem.is_special(path):
            raise AocrError(f"{path} is not a regular file; a dataset must be one, because it is "
                            "read at arbitrary offsets")
    return list(paths)


def read_records(index: RecordIndex, positions: Sequence[int] | np.ndarray) -> Iterator[Record]:
    """Reads the records at some positions of the index, in the order given.

    Raises:
        AocrError: A file was removed or has changed; names the record.
    """
    if not len(positions):
        return iter(())
    selected = np.asarray(positions, np.int64)
    try:
        return map(example.decode, _read_serialized(index, selected))
    except tf.errors.OpError:
        return map(example.decode, _read_one_by_one(index, selected))


def index_checksum(index: RecordIndex) -> int:
    """Returns a 32-bit checksum of the usable records, equal for equal images in equal order."""
    return zlib.crc32(index.bucket.data, zlib.crc32(index.width.data))


def numbers_by_path(index: RecordIndex, positions: np.ndarray) -> dict[str, list[int]]:
    """Returns the numbers of records in their files, from 1, grouped by path."""
    numbers: dict[str, list[int]] = {}
    for n in positions:
        numbers.setdefault(index.path(n), []).append(int(index.number[n]))
    return numbers


def _read_serialized(index: RecordIndex, positions: np.ndarray) -> np.ndarray:
    paths = [index.files[file].readable_path for file in index.file[positions]]
    serialized = tfrecord.record_reader()(
        tf.constant(paths), tf.constant(index.offset[positions] - HEADER_BYTES),
        tf.constant(index.length[positions], tf.int64))
    return serialized.numpy()


def _read_one_by_one(index: RecordIndex, positions: np.ndarray) -> list[bytes]:
    """Retries a failed read record by record, which may help with remote files.

    Raises:
        AocrError: Names the record that cannot be read.
    """
    serialized = []
    for n in positions:
        try:
            serialized += list(_read_serialized(index, n[None]))
        except tf.errors.OpError as error:
            raise AocrError(f"record {index.number[n]} of {index.path(n)} has been removed or "
                            "changed since it was indexed") from error
    return serialized
