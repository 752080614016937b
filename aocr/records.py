"""The TFRecords format: one `tf.train.Example` an image, with bytes features.

`image` holds the encoded file, `label` its text (UTF-8, NFC; the original wrote latin-1, which is
still read), and `comment`, optionally, where it came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import six
import tensorflow as tf

from aocr import charmap, image
from aocr.charmap import CharMap
from aocr.config import ModelConfig
from aocr.errors import AocrError, SkipError

# A record in the file: length (8 bytes), its checksum (4), the data, its checksum (4).
_BYTES_BEFORE, _BYTES_AROUND = 12, 16
_SCAN_BATCH = 512
_SCAN_THREADS = 2
_FEATURES = {name: tf.io.FixedLenFeature([], tf.string, default_value="")
             for name in ("image", "label")}


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


class Index(NamedTuple):
    """Where the usable records are.

    Attributes:
        paths: The files.
        file: Number of its file in `paths`, `[n]` int32.
        number: Place in its file, counted from 1, `[n]` int64.
        offset: Byte at which its data begin, `[n]` int64.
        length: Bytes of data, `[n]` int64.
        width: Width in the network's input, `[n]` int32.
        skipped: The records left out.
    """

    paths: list[str]
    file: np.ndarray
    number: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    width: np.ndarray
    skipped: list[Skipped]

    def __len__(self) -> int:
        return len(self.file)

    def skip(self, n: int, reason: str, detail: str) -> Skipped:
        """The entry for usable record `n` that turned out not to be."""
        return Skipped(self.paths[self.file[n]], int(self.number[n]), reason, detail)


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


def characters(paths: Sequence[str]) -> str:
    """All characters that occur in the labels, in code point order."""
    return charmap.alphabet_of(
        decode_label(label) for scan in _scan(paths) for label in scan.labels)


def index(paths: Sequence[str], config: ModelConfig, characters: CharMap) -> Index:
    """Goes over all records once, without decoding the images.

    Args:
        paths: The files, as from `find`.
        config: Limits of width and label.
        characters: The alphabet.

    Raises:
        AocrError: A file is damaged or is not TFRecords.
    """
    columns: list[tuple[int, int, int, int, int]] = []
    skipped: list[Skipped] = []
    ends, numbers = [0] * len(paths), [0] * len(paths)
    for scan in _scan(paths):
        file = int(scan.file)
        for label, length, height, width, own in zip(*scan[1:], strict=True):
            numbers[file] += 1
            try:
                _check(label, (int(width), int(height)), config, characters)
                columns.append((file, numbers[file], ends[file] + _BYTES_BEFORE, int(length),
                                int(own)))
            except SkipError as error:
                skipped.append(Skipped(paths[file], numbers[file], error.reason, error.detail))
            ends[file] += int(length) + _BYTES_AROUND
    _check_ends(paths, ends, numbers)
    table = np.array(columns, np.int64).reshape(-1, 5)
    return Index(list(paths), table[:, 0].astype(np.int32), table[:, 1], table[:, 2], table[:, 3],
                 np.minimum(table[:, 4], config.input_width).astype(np.int32), skipped)


def read(index: Index, wanted: Sequence[int] | np.ndarray) -> Iterator[Record]:
    """The records with these numbers in the index, in this order."""
    with_file: dict[int, tf.io.gfile.GFile] = {}
    try:
        for n in wanted:
            file = int(index.file[n])
            if file not in with_file:
                with_file[file] = tf.io.gfile.GFile(index.paths[file], "rb")
            with_file[file].seek(int(index.offset[n]))
            yield decode(with_file[file].read(int(index.length[n])))
    finally:
        for opened in with_file.values():
            opened.close()


def without_autotuning(data: tf.data.Dataset) -> tf.data.Dataset:
    """The same pipeline without its autotuner.

    Its thread sleeps ever longer, up to a minute, and taking the pipeline down waits for it
    (measured with TensorFlow 2.21: 5 s after 5 s of work, 50 s after a few minutes).
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


class _Scan(NamedTuple):
    """What one batch of records of one file tells without decoding."""

    file: np.ndarray
    labels: np.ndarray
    lengths: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    own_widths: np.ndarray


def _scan(paths: Sequence[str]) -> Iterator[_Scan]:
    def look(file: tf.Tensor, serialized: tf.Tensor) -> _Scan:
        features = tf.io.parse_example(serialized, _FEATURES)
        heights, widths = image.header_sizes(features["image"])
        own = image.own_width(heights, widths, np.iinfo(np.int32).max)
        return _Scan(file, features["label"], tf.strings.length(serialized), heights, widths, own)

    def batches(file: tf.Tensor, path: tf.Tensor) -> tf.data.Dataset:
        whole = tf.data.TFRecordDataset(path, buffer_size=1 << 20).batch(_SCAN_BATCH)
        return whole.map(lambda serialized: (file, serialized))

    # One pipeline for all files: a graph for each would take longer than reading a small one.
    files = tf.data.Dataset.from_tensor_slices(list(paths)).enumerate()
    try:
        scans = files.flat_map(batches).map(look, _SCAN_THREADS).prefetch(_SCAN_THREADS)
        yield from without_autotuning(scans).as_numpy_iterator()
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise _damage(paths) from error
    except tf.errors.OpError as error:
        raise AocrError(f"cannot read the dataset: {error.message}") from error


def _damage(paths: Sequence[str]) -> AocrError:
    """Finds the record that cannot be read, one by one."""
    for path in paths:
        number = 0
        try:
            for serialized in tf.data.TFRecordDataset(path):
                number += 1
                tf.io.parse_single_example(serialized, _FEATURES)
        except tf.errors.DataLossError:
            return AocrError(f"{path} is damaged after record {number}, or is not a TFRecords "
                             "file; write it again with `aocr dataset`")
        except tf.errors.InvalidArgumentError:
            return AocrError(f"{path}: record {number} is not an image with a label; write the "
                             "file again with `aocr dataset`")
    return AocrError(f"cannot read {', '.join(paths)}: a file changed while it was read")


def _check_ends(paths: Sequence[str], ends: Sequence[int], numbers: Sequence[int]) -> None:
    """TensorFlow takes a file that ends within a record's header for a whole one."""
    for path, end, number in zip(paths, ends, numbers, strict=True):
        size = tf.io.gfile.stat(path).length
        if size != end:
            raise AocrError(f"{path} is damaged after record {number}: it has {size} bytes, and "
                            f"whole records end at {end}; write it again with `aocr dataset`")
        if not number:
            raise AocrError(f"{path} holds no record; write it again with `aocr dataset`")


def _check(label: bytes, size: tuple[int, int], config: ModelConfig, characters: CharMap) -> None:
    if 0 in size:
        raise SkipError("unreadable image", "not PNG, JPEG, GIF, BMP or WebP")
    if config.oversize == "skip" and size[0] > config.max_width:
        raise SkipError("image too wide", f"{size[0]} pixels; --max-width is {config.max_width}")
    text = decode_label(label)
    if len(text) > config.max_prediction:
        raise SkipError("label too long", f"{len(text)} characters in {text!r}; "
                        f"--max-prediction is {config.max_prediction}")
    characters.encode(text)
