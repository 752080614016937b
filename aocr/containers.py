"""Files of TFRecords before TensorFlow reads them: their records are measured, gzip is undone.

TensorFlow trusts the length that a record promises and takes memory for it: one crafted record
ends the process. So every file is gone over first, without its data being looked at.
"""

from __future__ import annotations

import gzip
import io
import struct
import tempfile
import zlib
from collections.abc import Callable
from typing import IO, BinaryIO, NamedTuple

import tensorflow as tf

from aocr.console import log
from aocr.errors import AocrError, reason

# A record in the file: length (8 bytes), its checksum (4), the data, its checksum (4).
BYTES_BEFORE, _BYTES_AFTER = 12, 4
BYTES_AROUND = BYTES_BEFORE + _BYTES_AFTER
_EMPTY_RECORD = bytes(8) + b"\x29\x03\x98\x07"
_GZIP = b"\x1f\x8b\x08"
_PIECE = 1 << 20
_LENGTH = struct.Struct("<Q").unpack_from


class Container(NamedTuple):
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


def measured(path: str, limit: int) -> Container:
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
            return Container(path, *_lengths(path, stream, _Skipping(stream, size), limit), None)
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


def _unpacked(path: str, file: tf.io.gfile.GFile, limit: int) -> Container:
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
    return Container(path, *lengths, copy)


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
