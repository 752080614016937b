"""The TFRecords format: one `tf.train.Example` an image, with bytes features.

`image` holds the encoded file, `label` its text (UTF-8, NFC; the original wrote latin-1, which is
still read), and `comment`, optionally, where it came from.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from aocr.config import MAX_PIXELS, ModelConfig
from aocr.data import scan, tfrecord
from aocr.data.example import Record, decode
from aocr.data.scan import RecordMetadata
from aocr.data.skipping import SkippedRecord, check_record, suspects
from aocr.data.tfrecord import BYTES_AROUND, BYTES_BEFORE, TFRecordFile, record_fetcher
from aocr.errors import AocrError, SkipError
from aocr.images import preprocessing
from aocr.runtime import filesystem
from aocr.tokenizer import Tokenizer


@dataclass(frozen=True)
class RecordIndex:
    """Where the usable records are: 26 bytes a record, in the order of the files.

    Attributes:
        paths: The files.
        file: Number of its file in `paths`, `[n]` int32.
        number: Place in its file, counted from 1, `[n]` int32.
        offset: Byte at which its data begin, `[n]` int64.
        length: Bytes of data, `[n]` int32.
        width: Width of the image in the network's input, without padding, `[n]` int32.
        bucket: Hash of the image's bytes, 0…`scan.BUCKETS` - 1, the same in every run, `[n]`
            int16.
        skipped: The records left out.
        containers: How each of `paths` is read.
    """

    paths: list[str]
    file: np.ndarray
    number: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    width: np.ndarray
    bucket: np.ndarray
    skipped: list[SkippedRecord]
    containers: list[TFRecordFile]

    def __len__(self) -> int:
        return len(self.file)

    def subset(self, chosen: np.ndarray) -> RecordIndex:
        """The records where `chosen`, `[n]` bool, is true; what is skipped stays."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in TYPES})

    def skip(self, n: int, reason: str, detail: str) -> SkippedRecord:
        """The entry for usable record `n` that turned out not to be."""
        return SkippedRecord(self.paths[self.file[n]], int(self.number[n]), reason, detail)


def index_checksum(index: RecordIndex) -> int:
    """Of the usable records: the same for the same images in the same order, below 2^32."""
    return zlib.crc32(index.bucket.data, zlib.crc32(index.width.data))


def numbers_by_path(index: RecordIndex, wanted: np.ndarray) -> dict[str, list[int]]:
    """The numbers, counted from 1, of records by their file's path."""
    files: dict[str, list[int]] = {}
    for n in wanted:
        files.setdefault(index.paths[index.file[n]], []).append(int(index.number[n]))
    return files


def resolve_paths(patterns: Sequence[str]) -> list[str]:
    """The files that names and globs stand for, in the order given.

    Raises:
        AocrError: A name matches nothing, or is no plain file.
    """
    paths: dict[str, None] = {}
    for pattern in patterns:
        found = [pattern] if tf.io.gfile.exists(pattern) else sorted(tf.io.gfile.glob(pattern))
        if not found:
            raise AocrError(f"no such dataset: {pattern} (make one with `aocr dataset`)")
        paths |= dict.fromkeys(found)
    folders = [path for path in paths if tf.io.gfile.isdir(path)]
    if folders:
        raise AocrError(f"{folders[0]} is a folder; a dataset is a file that "
                        "`aocr dataset` has written (a glob takes several)")
    special = [path for path in paths if filesystem.is_special(path)]
    if special:
        raise AocrError(f"{special[0]} is no plain file; a dataset is one, as it is read at any "
                        "place in any order")
    return list(paths)


def build_index(paths: Sequence[str], config: ModelConfig, tokenizer: Tokenizer,
          max_pixels: int = MAX_PIXELS) -> RecordIndex:
    """Goes over all records once, without decoding the images.

    Args:
        paths: The files, as from `find`.
        config: Limits of width and label.
        tokenizer: The alphabet.
        max_pixels: Most pixels that an image may promise.

    Raises:
        AocrError: A file is damaged or is not TFRecords.
    """
    measured = scan.validate_tfrecords(paths, max_pixels)
    return scan.scanned(
        measured, lambda scans: _indexed(measured, scans, config, tokenizer, max_pixels))


def _indexed(measured: list[TFRecordFile], scans: Iterator[scan.RecordMetadata],
             config: ModelConfig,
             tokenizer: Tokenizer, max_pixels: int) -> RecordIndex:
    found = RecordIndexBuilder(measured)
    skipped: list[tuple[int, SkippedRecord]] = []
    for one in scans:
        file, used = int(one.file), np.ones(len(one.lengths), bool)
        for n in suspects(one, config, tokenizer, max_pixels):
            try:
                check_record(one, n, config, tokenizer, max_pixels)
            except SkipError as error:
                used[n] = False
                skipped.append((file,
                                SkippedRecord(measured[file].path, found.done[file] + int(n) + 1,
                                              error.reason, error.detail)))
        found.add(one, preprocessing.scaled_size(one.heights, one.widths, config)[1].numpy(), used)
    skipped.sort(key=lambda each: each[0])
    return RecordIndex([file.path for file in measured], **found.used(),
                 skipped=[each for _, each in skipped], containers=measured)


def read_records(index: RecordIndex, wanted: Sequence[int] | np.ndarray) -> Iterator[Record]:
    """The records with these numbers in the index, in this order.

    Raises:
        AocrError: A file has gone or changed; names the record.
    """
    if not len(wanted):
        return iter(())
    chosen = np.asarray(wanted, np.int64)
    try:
        return map(decode, _stored(index, chosen))
    except tf.errors.OpError:
        return map(decode, _one_by_one(index, chosen))


def _stored(index: RecordIndex, chosen: np.ndarray) -> np.ndarray:
    names = [index.containers[file].plain for file in index.file[chosen]]
    found = record_fetcher()(tf.constant(names), tf.constant(index.offset[chosen] - BYTES_BEFORE),
                     tf.constant(index.length[chosen], tf.int64))
    return found.numpy()


def _one_by_one(index: RecordIndex, chosen: np.ndarray) -> list[bytes]:
    """Tries again, which helps with remote files, and finds the one that cannot be read."""
    found = []
    for n in chosen:
        try:
            found += list(_stored(index, n[None]))
        except tf.errors.OpError as error:
            raise AocrError(f"record {index.number[n]} of {index.paths[index.file[n]]} is no "
                            "longer there, or no longer whole") from error
    return found


TYPES = {"file": np.int32, "number": np.int32, "offset": np.int64, "length": np.int32,
         "width": np.int32, "bucket": np.int16}


class RecordIndexBuilder:
    """The columns of an index, filled in while several files are read at a time.

    Attributes:
        done: Records of each file that have been added.
    """

    def __init__(self, files: Sequence[TFRecordFile]) -> None:
        self._files = files
        self._begins = np.cumsum([0, *(file.records for file in files)])
        self.done, self._bytes = [0] * len(files), [0] * len(files)
        self._columns = {name: np.zeros(self._begins[-1], kind)
                         for name, kind in TYPES.items()}
        self._used = np.zeros(self._begins[-1], bool)

    def add(self, one: RecordMetadata, widths: np.ndarray, used: np.ndarray) -> None:
        """Takes in the next records of a file, of which some may be used."""
        file, places = int(one.file), np.arange(1, len(used) + 1)
        after = one.lengths.astype(np.int64).cumsum() + BYTES_AROUND * places
        begin = self._begins[file] + self.done[file]
        here = slice(begin, begin + len(used))
        if here.stop > self._begins[file + 1]:
            raise tfrecord.changed([self._files[file]])
        for name, values in {
                "file": file, "number": self.done[file] + places, "length": one.lengths,
                "offset": self._bytes[file] + after - one.lengths - (BYTES_AROUND - BYTES_BEFORE),
                "width": widths, "bucket": one.buckets}.items():
            self._columns[name][here] = values
        self._used[here] = used
        self.done[file] += len(used)
        self._bytes[file] += int(after[-1])

    def used(self) -> dict[str, np.ndarray]:
        """The columns of what may be used; they are given away."""
        gone = [file for file, done in zip(self._files, self.done, strict=True)
                if done < file.records]
        if gone:
            raise tfrecord.changed(gone)
        if not self._used.all():
            for name in TYPES:
                self._columns[name] = self._columns[name][self._used]
        return self._columns
