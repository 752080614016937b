"""TFRecords files: framing check, gzip, and reading records at byte offsets.

TensorFlow trusts the length in a record's header and allocates that much memory, so one crafted
record can end the process. Therefore the framing of every file is checked in Python first, without
looking at the data. TensorFlow has no such check, and no reader at offsets other than a raw op.
"""

from __future__ import annotations

import functools
import gzip
import io
import struct
import tempfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, BinaryIO, NamedTuple

import tensorflow as tf

from aocr.errors import AocrError, reason
from aocr.runtime import filesystem
from aocr.runtime.console import log

# Framing of a record: length (8 bytes), CRC of the length (4), data, CRC of the data (4).
HEADER_BYTES, _FOOTER_BYTES = 12, 4
FRAMING_BYTES = HEADER_BYTES + _FOOTER_BYTES
_EMPTY_RECORD = bytes(8) + b"\x29\x03\x98\x07"
_GZIP = b"\x1f\x8b\x08"
_CHUNK_BYTES = 1 << 20
PARALLEL_FILES = 4  # an object store gives one reader only part of its bandwidth
_PARALLEL_READS = 16
_unpack_length = struct.Struct("<Q").unpack_from


class TFRecordFile(NamedTuple):
    """A TFRecords file that has passed the framing check.

    Attributes:
        path: Path of the file.
        records: Number of records.
        longest: Length of the longest record in bytes.
        decompressed: Temporary, decompressed copy of a gzip file; otherwise `None`.
    """

    path: str
    records: int
    longest: int
    decompressed: IO[bytes] | None

    @property
    def readable_path(self) -> str:
        """Path of the uncompressed file, which exists as long as this object does."""
        return self.path if self.decompressed is None else self.decompressed.name


def validate_tfrecords(paths: Sequence[str], max_length: int) -> list[TFRecordFile]:
    """Checks the framing of several files in parallel; see `validate_tfrecord`."""
    with ThreadPoolExecutor(PARALLEL_FILES) as pool:
        return list(pool.map(lambda path: validate_tfrecord(path, max_length), paths))


def validate_tfrecord(path: str, max_length: int) -> TFRecordFile:
    """Checks the lengths of all records of a file, and decompresses gzip.

    Args:
        path: A TFRecords file, plain or compressed with gzip.
        max_length: Maximum length of a record in bytes.

    Raises:
        AocrError: The file cannot be read, is truncated, holds no record, or holds a record that is
            too long.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            compressed = file.read(len(_GZIP)) == _GZIP
            file.seek(0)
            if compressed:
                return _decompress(path, file, max_length)
            stream = filesystem.buffered(file)
            skip = _seek_over(stream, tf.io.gfile.stat(path).length)
            return TFRecordFile(path, *_check_lengths(path, stream, skip, max_length), None)
    except tf.errors.OpError as error:
        raise AocrError(f"cannot read the dataset {path}: {reason(error)}") from error


def damaged_error(path: str, intact: int) -> AocrError:
    """Returns the error for a file that is damaged after its first `intact` records."""
    where = f"damaged after record {intact}" if intact else "not a TFRecords file, or damaged"
    return AocrError(f"{path} is {where}; write it again with `aocr dataset`")


def changed_error(files: Sequence[TFRecordFile]) -> AocrError:
    """Returns the error for files of which one has changed since the framing check."""
    return AocrError(f"cannot read {', '.join(file.path for file in files)}: a file changed while "
                     "it was read; give the same command again when nothing writes to it any more")


def find_damage(files: Sequence[TFRecordFile]) -> AocrError:
    """Reads the files record by record, and returns the error for the first damaged record."""
    for file in files:
        intact = 0
        try:
            for _ in tf.data.TFRecordDataset(file.readable_path):
                intact += 1
        except tf.errors.DataLossError:
            return damaged_error(file.path, intact)
    return changed_error(files)


@functools.cache
def record_reader() -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns the graph that reads records from paths `[n]`, offsets `[n]` and lengths `[n]`.

    Records are read in parallel, which hides the latency of remote files, and only their own bytes
    are read; `tf.io.gfile.GFile` would read half a megabyte for each, one after the other.
    """
    def read_one(path: tf.Tensor, offset: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        records = tf.raw_ops.TFRecordDatasetV2(
            filenames=path[None], compression_type="", buffer_size=length + FRAMING_BYTES,
            byte_offsets=offset[None])
        return tf.data.experimental.from_variant(
            records, tf.TensorSpec([], tf.string)).take(1).get_single_element()

    def read(paths: tf.Tensor, offsets: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        records = tf.data.Dataset.from_tensor_slices((paths, offsets, lengths)).map(
            read_one, _PARALLEL_READS, deterministic=True)
        return records.batch(tf.size(lengths, tf.int64)).get_single_element()

    return tf.function(read, autograph=False, input_signature=[
        tf.TensorSpec([None], dtype) for dtype in (tf.string, tf.int64, tf.int64)])


def _seek_over(stream: BinaryIO, size: int) -> Callable[[bytes, int], bool]:
    """Returns a function that skips the data of a record in a file of `size` bytes."""
    remaining = size

    def skip(header: bytes, length: int) -> bool:
        nonlocal remaining
        remaining -= len(header) + length
        if remaining < 0:
            return False
        stream.seek(length, io.SEEK_CUR)
        return True

    return skip


def _copy_to(copy: IO[bytes], stream: BinaryIO | gzip.GzipFile) -> Callable[[bytes, int], bool]:
    """Returns a function that copies a record's header and data to another file."""
    def skip(header: bytes, length: int) -> bool:
        copy.write(header)
        while length and (chunk := stream.read(min(length, _CHUNK_BYTES))):
            copy.write(chunk)
            length -= len(chunk)
        return not length

    return skip


def _decompress(path: str, file: tf.io.gfile.GFile, max_length: int) -> TFRecordFile:
    """Decompresses a gzip file to a temporary file, which is removed with its last reference."""
    directory = tempfile.gettempdir()
    log.info(f"Decompressing {path} to the directory for temporary files, {directory}.")
    try:
        copy = tempfile.NamedTemporaryFile(  # noqa: SIM115  # TFRecordFile keeps it open
            prefix="aocr-", suffix=".tfrecords")
        with gzip.GzipFile(fileobj=file, mode="rb") as stream:
            lengths = _check_lengths(path, stream, _copy_to(copy, stream), max_length)
        copy.flush()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise AocrError(f"{path} is damaged and cannot be decompressed with gzip ({error}); write "
                        "it again") from error
    except OSError as error:
        raise AocrError(f"cannot decompress {path} to {directory}: {error.strerror}; name "
                        "another directory with the environment variable TMPDIR") from error
    return TFRecordFile(path, *lengths, copy)


def _check_lengths(path: str, stream: BinaryIO | gzip.GzipFile,
                   skip: Callable[[bytes, int], bool], max_length: int) -> tuple[int, int]:
    """Checks the length of every record.

    Args:
        path: Path of the file, for error messages.
        stream: The uncompressed contents.
        skip: Skips the data and its CRC, given the header and their length; returns whether all
            bytes exist.
        max_length: Maximum length of a record in bytes.

    Returns:
        The number of records and the length of the longest.
    """
    count = longest = 0
    while header := stream.read(HEADER_BYTES):
        if len(header) < HEADER_BYTES:
            raise damaged_error(path, count)
        (length,) = _unpack_length(header)
        if not length and header != _EMPTY_RECORD:
            raise damaged_error(path, count)
        # In a file of another format, the first eight bytes usually form a huge number.
        if length > max_length and count:
            raise _too_long_error(path, count + 1, length, max_length)
        if length > max_length or not skip(header, length + _FOOTER_BYTES):
            raise damaged_error(path, count)
        count += 1
        longest = max(longest, length)
    if not count:
        raise AocrError(f"{path} holds no record; write it again with `aocr dataset`")
    return count, longest


def _too_long_error(path: str, number: int, length: int, max_length: int) -> AocrError:
    return AocrError(
        f"record {number} of {path} declares a length of {length} bytes, and the limit is "
        f"{max_length}; write it again with `aocr dataset`, or give a larger --max-pixels")
