"""The TFRecords format: one `tf.train.Example` an image, with bytes features.

`image` holds the encoded file, `label` its text (UTF-8, NFC; the original wrote latin-1, which is
still read), and `comment`, optionally, where it came from.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import six
import tensorflow as tf

from aocr import charmap, columns, files, headers, image, scan
from aocr.charmap import CharMap
from aocr.columns import Columns
from aocr.config import MAX_PIXELS, ModelConfig
from aocr.containers import BYTES_AROUND, BYTES_BEFORE, Container
from aocr.errors import AocrError, SkipError

_READS_AT_A_TIME = 16


class Record(NamedTuple):
    """One labelled image as it is stored."""

    image: bytes
    label: str
    comment: str


class Skipped(NamedTuple):
    """One record that is not used, and why; `record` counts from 1 in its file."""

    path: str
    record: int
    reason: str
    detail: str


@dataclass(frozen=True)
class Index:
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
    skipped: list[Skipped]
    containers: list[Container]

    def __len__(self) -> int:
        return len(self.file)

    def subset(self, chosen: np.ndarray) -> Index:
        """The records where `chosen`, `[n]` bool, is true; what is skipped stays."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in columns.TYPES})

    def skip(self, n: int, reason: str, detail: str) -> Skipped:
        """The entry for usable record `n` that turned out not to be."""
        return Skipped(self.paths[self.file[n]], int(self.number[n]), reason, detail)


def checksum(index: Index) -> int:
    """Of the usable records: the same for the same images in the same order, below 2^32."""
    return zlib.crc32(index.bucket.data, zlib.crc32(index.width.data))


def split(index: Index, share: float) -> tuple[Index, Index]:
    """Two parts of the records: the rest with all that is skipped, and about this share.

    An image is always on the same side, whatever stands beside it.
    """
    chosen = index.bucket < share * scan.BUCKETS
    return index.subset(~chosen), replace(index.subset(chosen), skipped=[])


def grouped(index: Index, wanted: np.ndarray) -> dict[str, list[int]]:
    """The numbers, counted from 1, of records by their file's path."""
    files: dict[str, list[int]] = {}
    for n in wanted:
        files.setdefault(index.paths[index.file[n]], []).append(int(index.number[n]))
    return files


def encode(record: Record) -> bytes:
    """The serialized example; `comment` is left out when empty."""
    example = tf.train.Example()
    features = {"image": record.image, "label": six.ensure_binary(record.label),
                "comment": six.ensure_binary(record.comment)}
    for name, value in features.items():
        if value or name != "comment":
            example.features.feature[name].bytes_list.value.append(value)
    # Without this the order of the features differs from process to process.
    serialized: bytes = example.SerializeToString(deterministic=True)
    return serialized


def decode(serialized: bytes) -> Record:
    """The record of a serialized example; missing features are empty.

    Raises:
        DecodeError: It is none.
    """
    features = tf.train.Example.FromString(serialized).features.feature

    def first(name: str) -> bytes:
        values = features[name].bytes_list.value if name in features else ()
        return values[0] if values else b""

    return Record(first("image"), decode_label(first("label")),
                  first("comment").decode("utf-8", "replace"))


def decode_label(label: bytes) -> str:
    """Text of a stored label: UTF-8, or else latin-1, which the original wrote; in NFC."""
    try:
        return charmap.normalize(six.ensure_text(label))
    except UnicodeDecodeError:
        return charmap.normalize(six.ensure_text(label, "latin-1"))


def decode_labels(labels: Sequence[bytes]) -> list[str]:
    """As `decode_label`; all together, which is several times faster than one by one."""
    try:
        # NUL ends whatever a combining mark could join.
        texts = charmap.normalize(b"\0".join(labels).decode()).split("\0")
    except UnicodeDecodeError:
        texts = []
    return texts if len(texts) == len(labels) else [decode_label(label) for label in labels]


def find(patterns: Sequence[str]) -> list[str]:
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
    special = [path for path in paths if files.is_special(path)]
    if special:
        raise AocrError(f"{special[0]} is no plain file; a dataset is one, as it is read at any "
                        "place in any order")
    return list(paths)


def characters(paths: Sequence[str], max_pixels: int = MAX_PIXELS) -> str:
    """All characters that occur in the labels, in code point order.

    Raises:
        AocrError: As `index`; or there are none.
    """
    found = scan.scanned(scan.measured(paths, max_pixels), lambda scans: charmap.alphabet_of(
        text for one in scans
        for text in decode_labels([label for label in one.labels if label is not None])))
    if not found:
        raise AocrError(f"all labels of {', '.join(paths)} are empty: --charset auto finds no "
                        "character; leave it out, or name a file of characters")
    return found


def index(paths: Sequence[str], config: ModelConfig, characters: CharMap,
          max_pixels: int = MAX_PIXELS) -> Index:
    """Goes over all records once, without decoding the images.

    Args:
        paths: The files, as from `find`.
        config: Limits of width and label.
        characters: The alphabet.
        max_pixels: Most pixels that an image may promise.

    Raises:
        AocrError: A file is damaged or is not TFRecords.
    """
    measured = scan.measured(paths, max_pixels)
    return scan.scanned(
        measured, lambda scans: _indexed(measured, scans, config, characters, max_pixels))


def _indexed(measured: list[Container], scans: Iterator[scan.Scan], config: ModelConfig,
             characters: CharMap, max_pixels: int) -> Index:
    found = Columns(measured)
    skipped: list[tuple[int, Skipped]] = []
    for one in scans:
        file, used = int(one.file), np.ones(len(one.lengths), bool)
        for n in _suspects(one, config, characters, max_pixels):
            try:
                _check(one, n, config, characters, max_pixels)
            except SkipError as error:
                used[n] = False
                skipped.append((file, Skipped(measured[file].path, found.done[file] + int(n) + 1,
                                              error.reason, error.detail)))
        found.add(one, image.scaled_size(one.heights, one.widths, config)[1].numpy(), used)
    skipped.sort(key=lambda each: each[0])
    return Index([file.path for file in measured], **found.used(),
                 skipped=[each for _, each in skipped], containers=measured)


def read(index: Index, wanted: Sequence[int] | np.ndarray) -> Iterator[Record]:
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


def _stored(index: Index, chosen: np.ndarray) -> np.ndarray:
    names = [index.containers[file].plain for file in index.file[chosen]]
    found = _fetch()(tf.constant(names), tf.constant(index.offset[chosen] - BYTES_BEFORE),
                     tf.constant(index.length[chosen], tf.int64))
    return found.numpy()


def _one_by_one(index: Index, chosen: np.ndarray) -> list[bytes]:
    """Tries again, which helps with remote files, and finds the one that cannot be read."""
    found = []
    for n in chosen:
        try:
            found += list(_stored(index, n[None]))
        except tf.errors.OpError as error:
            raise AocrError(f"record {index.number[n]} of {index.paths[index.file[n]]} is no "
                            "longer there, or no longer whole") from error
    return found


@functools.cache
def _fetch() -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
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


def _suspects(one: scan.Scan, config: ModelConfig, characters: CharMap, max_pixels: int
              ) -> np.ndarray:
    """Places of all records of a scan that cannot be used, and maybe of others."""
    widest = config.max_width if config.oversize == "skip" else np.inf
    plain = (one.heights > 0) & (one.widths > 0) & (one.pixels <= max_pixels) & (
        one.widths <= widest)
    known = frozenset(characters.alphabet)
    texts = decode_labels([label or b"" for label in one.labels])
    fits = [len(text) <= config.max_prediction and known.issuperset(text) for text in texts]
    there = [label is not None for label in one.labels]
    return np.flatnonzero(~(plain & np.array(fits, bool) & np.array(there, bool)))


def _check(one: scan.Scan, n: int, config: ModelConfig, characters: CharMap, max_pixels: int
           ) -> None:
    """Raises what is wrong with record `n` of a scan."""
    if one.labels[n] is None:
        raise SkipError("not an image with a label", "expected one string of bytes for each")
    size = int(one.widths[n]), int(one.heights[n])
    _check_size(size, int(one.pixels[n]), config, max_pixels)
    _check_label(one.labels[n], config, characters)


def _check_size(size: tuple[int, int], pixels: int, config: ModelConfig, max_pixels: int) -> None:
    if 0 in size:
        raise SkipError("unreadable image", "not PNG, JPEG, GIF, BMP or WebP without animation")
    if pixels > max_pixels:
        raise SkipError(headers.TOO_LARGE, f"{size[0]} x {size[1]}, {pixels} pixels to decode; "
                        f"--max-pixels is {max_pixels}")
    if config.oversize == "skip" and size[0] > config.max_width:
        raise SkipError("image too wide", f"{size[0]} pixels; --max-width is {config.max_width}")


def _check_label(label: bytes, config: ModelConfig, characters: CharMap) -> None:
    text = decode_label(label)
    if len(text) > config.max_prediction:
        shown = repr(text[:40]) + "…" * (len(text) > 40)
        raise SkipError("label too long", f"{len(text)} characters in {shown}; "
                        f"--max-prediction is {config.max_prediction}")
    characters.encode(text)
