"""Files of TFRecords before TensorFlow reads them: their records are measured, gzip is undone.

TensorFlow trusts the length that a record promises and takes memory for it: one crafted record
ends the process. So every file is gone over first, without its data being looked at.
"""

from __future__ import annotations

import functools
import gzip
import io
import struct
import tempfile
import zlib
from collections.abc import Callable, Sequence
from typing import IO, BinaryIO, NamedTuple

import tensorflow as tf

from aocr.errors import AocrError, reason
from aocr.runtime.console import log

# A record in the file: length (8 bytes), its checksum (4), the data, its checksum (4).
BYTES_BEFORE, _BYTES_AFTER = 12, 4
BYTES_AROUND = BYTES_BEFORE + _BYTES_AFTER
_EMPTY_RECORD = bytes(8) + b"\x29\x03\x98\x07"
_GZIP = b"\x1f\x8b\x08"
_PIECE = 1 << 20
_LENGTH = struct.Struct("<Q").unpack_from


class TFRecordFile(NamedTuple):
    """One file of records that can be read by byte offset.

    Attributes:
        path: Its name.
        records: Their number.
        longest: Bytes of the longest of them.
        unpacked: The temporary copy of a gzip file, without compression; else `None`.
    """

    path: str
    records: int
    longest: int
    unpacked: IO[bytes] | None

    @property
    def plain(self) -> str:
        """Name of the file without compression, there as long as this object is."""
        return self.path if self.unpacked is None else self.unpacked.name


def validate_tfrecord(path: str, limit: int) -> TFRecordFile:
    """Goes over the lengths of all records.

    Args:
        path: A TFRecords file, plain or in gzip.
        limit: Most bytes of a record.

    Raises:
        AocrError: The file cannot be read, is cut, holds no record or one above the limit.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            packed = file.read(len(_GZIP)) == _GZIP
            file.seek(0)
            if packed:
                return _unpacked(path, file, limit)
            raw: io.RawIOBase = _Raw(file)
            stream: BinaryIO = io.BufferedReader(raw, _PIECE)
            size = tf.io.gfile.stat(path).length
            return TFRecordFile(path, *_lengths(path, stream, _Skipping(stream, size), limit), None)
    except tf.errors.OpError as error:
        raise AocrError(f"cannot read the dataset {path}: {reason(error)}") from error


def damage(path: str, number: int) -> AocrError:
    """The error for a file that cannot be read on after its record `number`."""
    where = f"damaged after record {number}" if number else "not a TFRecords file, or damaged"
    return AocrError(f"{path} is {where}; write it again with `aocr dataset`")


class _Raw(io.RawIOBase):
    """A TensorFlow file as Python's buffered reader wants it."""

    def __init__(self, file: tf.io.gfile.GFile) -> None:
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        found = self._file.read(len(buffer))
        buffer[:len(found)] = found
        return len(found)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._file.seek(offset, whence)
        return self.tell()

    def tell(self) -> int:
        return int(self._file.tell())


class _Skipping:
    """Passes over the data of a file that tells its size."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._left = size

    def __call__(self, _head: bytes, length: int) -> bool:
        """Whether that many bytes are there."""
        self._left -= BYTES_BEFORE + length
        if self._left < 0:
            return False
        self._stream.seek(length, io.SEEK_CUR)
        return True


def _unpacked(path: str, file: tf.io.gfile.GFile, limit: int) -> TFRecordFile:
    """Undoes gzip into a temporary file, which goes with the last reference to it."""
    log.info(f"Unpacking {path} to the folder for temporary files, {tempfile.gettempdir()}.")
    try:
        copy = tempfile.NamedTemporaryFile(  # noqa: SIM115  # it goes with its last reference
            prefix="aocr-", suffix=".tfrecords")
        with gzip.GzipFile(fileobj=file, mode="rb") as stream:
            lengths = _lengths(path, stream, _copying(stream, copy), limit)
        copy.flush()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise AocrError(f"{path} is damaged: its gzip compression cannot be undone ({error}); "
                        "write it again") from error
    except OSError as error:
        raise AocrError(f"cannot unpack {path} to {tempfile.gettempdir()}: {error.strerror}; "
                        "the environment variable TMPDIR names another folder") from error
    return TFRecordFile(path, *lengths, copy)


def _copying(stream: BinaryIO | gzip.GzipFile, copy: IO[bytes]) -> Callable[[bytes, int], bool]:
    def skip(head: bytes, length: int) -> bool:
        copy.write(head)
        while length and (piece := stream.read(min(length, _PIECE))):
            copy.write(piece)
            length -= len(piece)
        return not length

    return skip


def _lengths(path: str, stream: BinaryIO | gzip.GzipFile,
             skip: Callable[[bytes, int], bool], limit: int) -> tuple[int, int]:
    """Goes from record to record.

    Args:
        path: The file's name.
        stream: The file.
        skip: Passes over the data and its checksum; whether they are whole.
        limit: Most bytes of a record.

    Returns:
        The number of records, and the most bytes of one.
    """
    number = longest = 0
    while head := stream.read(BYTES_BEFORE):
        if len(head) < BYTES_BEFORE:
            raise damage(path, number)
        (length,) = _LENGTH(head)
        if not length and head != _EMPTY_RECORD:
            raise damage(path, number)
        # The first record of what is no such file seems too long more often than not.
        if length > limit and number:
            raise _too_long(path, number + 1, length, limit)
        if length > limit or not skip(head, length + _BYTES_AFTER):
            raise damage(path, number)
        number += 1
        if length > longest:
            longest = length
    if not number:
        raise AocrError(f"{path} holds no record; write it again with `aocr dataset`")
    return number, longest


def _too_long(path: str, number: int, length: int, limit: int) -> AocrError:
    return AocrError(f"record {number} of {path} promises {length} bytes, at most {limit} are "
                     "read; write it again with `aocr dataset`, or give a larger --max-pixels")


def damage_error(files: Sequence[TFRecordFile]) -> AocrError:
    """Finds the record that cannot be read, one by one."""
    for file in files:
        path, number = file.path, 0
        try:
            for _ in tf.data.TFRecordDataset(file.plain):
                number += 1
        except tf.errors.DataLossError:
            return damage(path, number)
    return changed(files)


def changed(files: Sequence[TFRecordFile]) -> AocrError:
    """The error for files of which one is no longer what it was when it was measured."""
    return AocrError(f"cannot read {', '.join(file.path for file in files)}: a file changed "
                     "while it was read; give the command again once it is at rest")


_READS_AT_A_TIME = 16


@functools.cache
def record_fetcher() -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
    """The graph that reads records `[n]` at places `[n]` of files `[n]`, several at a time.

    A record costs its own bytes; a file object of TensorFlow reads half a megabyte for each, and
    one after the other, which remote files make one wait for.
    """
    def one(name: tf.Tensor, place: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        following = tf.raw_ops.TFRecordDatasetV2(
            filenames=name[None], compression_type="", buffer_size=length + BYTES_AROUND,
            byte_offsets=place[None])
        return tf.data.experimental.from_variant(
            following, tf.TensorSpec([], tf.string)).take(1).get_single_element()

    def fetch(names: tf.Tensor, places: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        each = tf.data.Dataset.from_tensor_slices((names, places, lengths)).map(
            one, _READS_AT_A_TIME, deterministic=True)
        return each.batch(tf.size(lengths, tf.int64)).get_single_element()

    return tf.function(fetch, autograph=False, input_signature=[
        tf.TensorSpec([None], kind) for kind in (tf.string, tf.int64, tf.int64)])
