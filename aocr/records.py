"""The TFRecords format: one `tf.train.Example` an image, with bytes features.

`image` holds the encoded file, `label` its text (UTF-8, NFC; the original wrote latin-1, which is
still read), and `comment`, optionally, where it came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import six
import tensorflow as tf
from google.protobuf.message import DecodeError

from aocr import charmap, headers, image, scan
from aocr.charmap import CharMap
from aocr.config import MAX_PIXELS, ModelConfig
from aocr.containers import BYTES_BEFORE, Container
from aocr.errors import AocrError, SkipError

_BYTES_AROUND = 16


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
    """Where the usable records are; the arrays are int64.

    Attributes:
        paths: The files.
        file: Number of its file in `paths`, `[n]`.
        number: Place in its file, counted from 1, `[n]`.
        offset: Byte at which its data begin, `[n]`.
        length: Bytes of data, `[n]`.
        width: Width of the image in the network's input, without padding, `[n]`.
        bucket: Hash of the image's bytes, 0…`scan.BUCKETS` - 1, the same in every run, `[n]`.
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
        return replace(self, **{name: getattr(self, name)[chosen] for name in _COLUMNS})

    def skip(self, n: int, reason: str, detail: str) -> Skipped:
        """The entry for usable record `n` that turned out not to be."""
        return Skipped(self.paths[self.file[n]], int(self.number[n]), reason, detail)


_COLUMNS = ("file", "number", "offset", "length", "width", "bucket")


def split(index: Index, share: float) -> tuple[Index, Index]:
    """Two parts of the records: the rest, and about this share.

    An image is always on the same side, whatever stands beside it.
    """
    chosen = index.bucket < share * scan.BUCKETS
    return index.subset(~chosen), index.subset(chosen)


def grouped(index: Index, wanted: np.ndarray) -> dict[str, list[int]]:
    """The numbers, counted from 1, of records by their file's path."""
    files: dict[str, list[int]] = {}
    for n in wanted:
        files.setdefault(index.paths[index.file[n]], []).append(int(index.number[n]))
    return files


def encode(record: Record) -> bytes:
    """The serialized example; `comment` is left out when empty."""
    features = {"image": record.image, "label": six.ensure_binary(record.label)}
    if record.comment:
        features["comment"] = six.ensure_binary(record.comment)
    return tf.train.Example(features=tf.train.Features(feature={
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in features.items()})).SerializeToString()


def decode(serialized: bytes) -> Record:
    """The record of a serialized example; missing features are empty."""
    try:
        features = tf.train.Example.FromString(serialized).features.feature
    except DecodeError:  # TensorFlow's own parser takes some that protobuf refuses
        parsed = tf.io.parse_single_example(serialized, scan.FEATURES)
        return Record(parsed["image"].numpy(), decode_label(parsed["label"].numpy()), "")

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


def find(patterns: Sequence[str]) -> list[str]:
    """The files that names and globs stand for, in the order given.

    Raises:
        AocrError: A name matches nothing, or is a folder.
    """
    paths: list[str] = []
    for pattern in patterns:
        found = [pattern] if tf.io.gfile.exists(pattern) else sorted(tf.io.gfile.glob(pattern))
        if not found:
            raise AocrError(f"no such dataset: {pattern} (make one with `aocr dataset`)")
        paths += [path for path in found if path not in paths]
    folders = [path for path in paths if tf.io.gfile.isdir(path)]
    if folders:
        raise AocrError(f"{folders[0]} is a folder; a dataset is a file that "
                        "`aocr dataset` has written (a glob takes several)")
    return paths


def characters(paths: Sequence[str], max_pixels: int = MAX_PIXELS) -> str:
    """All characters that occur in the labels, in code point order.

    Raises:
        AocrError: As `index`; or there are none.
    """
    found = scan.scanned(scan.measured(paths, max_pixels), lambda scans: charmap.alphabet_of(
        decode_label(label) for one in scans for label in one.labels if label is not None))
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
    files = scan.measured(paths, max_pixels)
    return scan.scanned(
        files, lambda scans: _indexed(files, scans, config, characters, max_pixels))


def _indexed(files: list[Container], scans: Iterator[scan.Scan], config: ModelConfig,
             characters: CharMap, max_pixels: int) -> Index:
    columns: list[tuple[int, ...]] = []
    skipped: list[Skipped] = []
    paths = [file.path for file in files]
    ends, numbers = [0] * len(paths), [0] * len(paths)
    for one in scans:
        file = int(one.file)
        own_widths = image.scaled_size(one.heights, one.widths, config)[1].numpy()
        rows = zip(*one[1:], own_widths, strict=True)
        for label, length, height, width, pixels, bucket, own in rows:
            numbers[file] += 1
            try:
                _check_features(label)
                _check_size((int(width), int(height)), int(pixels), config, max_pixels)
                _check_label(label, config, characters)
                columns.append((file, numbers[file], ends[file] + BYTES_BEFORE, int(length),
                                int(own), int(bucket)))
            except SkipError as error:
                skipped.append(Skipped(paths[file], numbers[file], error.reason, error.detail))
            ends[file] += int(length) + _BYTES_AROUND
    table = np.array(columns, np.int64).reshape(-1, len(_COLUMNS)).T
    named = dict(zip(_COLUMNS, table, strict=True))
    return Index(paths, skipped=skipped, containers=files, **named)


def read(index: Index, wanted: Sequence[int] | np.ndarray) -> Iterator[Record]:
    """The records with these numbers in the index, in this order."""
    with_file: dict[int, tf.io.gfile.GFile] = {}
    try:
        for n in wanted:
            file = int(index.file[n])
            if file not in with_file:
                with_file[file] = tf.io.gfile.GFile(index.containers[file].plain, "rb")
            with_file[file].seek(int(index.offset[n]))
            yield decode(with_file[file].read(int(index.length[n])))
    finally:
        for opened in with_file.values():
            opened.close()


def _check_features(label: bytes | None) -> None:
    if label is None:
        raise SkipError("not an image with a label", "expected one string of bytes for each")


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
