"""Records taken apart: the image and the label of a `tf.train.Example`.

Nearly all are laid out in the way of every writer, and many of them are taken apart together, in
TensorFlow operations; protobuf takes the others, one by one. TensorFlow's own parser of examples
is left alone: it copies a string whose length has the highest bit set over memory that is not its
own (2.21, `FastParseExample`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import six
import tensorflow as tf
from google.protobuf.message import DecodeError

from aocr.tokenizer import normalize

_NAMES = (b"image", b"label", b"comment")
_LONGEST_NAME = 7
_VARINT_BYTES = 4  # numbers up to 2^28; protobuf takes what is longer
_WINDOW = 40  # an entry up to its string takes 29 bytes
_STRING, _VALUE = 0x0A, 0x12  # wire type 2, of field 1 and of field 2


def plain(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Takes examples apart that hold an image, a label and maybe a comment, each one string.

    The layout is that of protobuf's encoding: `0A` length (features), then for each feature `0A`
    length (entry) `0A` length name `12` length (feature) `0A` length (list) `0A` length string,
    where all that begins within an entry ends with it.

    Args:
        serialized: `[batch]` string.

    Returns:
        Images and labels, `[batch]` string, and whether they were found, `[batch]` bool; where
        they were not both strings are empty, and `parse` is to be asked.
    """
    total = tf.strings.length(serialized)
    head = _window(serialized, total, tf.zeros_like(total))
    length, at = _varint(head, tf.ones_like(total))
    found = (head[:, 0] == _STRING) & (at + length == total)
    start = size = tf.zeros([tf.size(total), len(_NAMES)], tf.int32)
    for _ in _NAMES:
        more = at < total
        entry, name, payload, end = _entry(_window(serialized, total, at))
        found &= ~more | entry & (at + end <= total) & ~tf.reduce_any(name & (start > 0), 1)
        name &= (more & found)[:, None]
        start += tf.where(name, (at + payload)[:, None], 0)
        size += tf.where(name, (end - payload)[:, None], 0)
        at = tf.where(more & found, at + end, at)
    found &= (at == total) & tf.reduce_all(start[:, :2] > 0, 1)
    image, label = (tf.strings.substr(serialized, tf.where(found, start[:, n], 0),
                                      tf.where(found, size[:, n], 0)) for n in range(2))
    return image, label, found


def parse(serialized: bytes) -> tuple[bytes, bytes | None]:
    """Image and label; the label `None` where one of them is not one string of bytes."""
    try:
        features = tf.train.Example.FromString(serialized).features.feature
    except DecodeError:
        return b"", None
    image, label = _string(features, "image"), _string(features, "label")
    return (b"", None) if image is None or label is None else (image, label)


def _window(serialized: tf.Tensor, total: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    """The bytes from `at` on, `[batch, _WINDOW]` int32, followed by zeros."""
    piece = tf.strings.substr(serialized, tf.minimum(at, total), tf.fill(tf.shape(at), _WINDOW))
    return tf.cast(tf.io.decode_raw(piece, tf.uint8, fixed_length=_WINDOW), tf.int32)


def _entry(window: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """What begins a window: a feature of one string?

    Returns:
        Whether it is, `[batch]` bool; which of the names it has, `[batch, 3]` bool; where its
        string begins and where it ends, `[batch]` int32, counted from the window's begin.
    """
    length, at = _varint(window, tf.ones_like(window[:, 0]))
    end = at + length
    name = _named(window, at)
    fits = (window[:, 0] == _STRING) & (_byte(window, at) == _STRING) & tf.reduce_any(name, 1)
    at += 2 + tf.minimum(_byte(window, at + 1), _LONGEST_NAME)
    for tag in (_VALUE, _STRING, _STRING):
        fits &= _byte(window, at) == tag
        length, at = _varint(window, at + 1)
        fits &= at + length == end
    return fits, name, at, end


def _named(window: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    """Which of the names stands at `at`, after a tag and its length: `[batch, 3]` bool."""
    there = tf.gather(window, at[:, None] + 1 + tf.range(1 + _LONGEST_NAME), batch_dims=1)
    return tf.stack([
        tf.reduce_all(there[:, :1 + len(name)] == [len(name), *name], 1) for name in _NAMES], 1)


def _byte(window: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    return tf.gather(window, at, batch_dims=1)


def _varint(window: tf.Tensor, at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The number at `at`, and where it ends; a negative one that fits nowhere if it is too long."""
    septets = tf.gather(window, at[:, None] + tf.range(_VARINT_BYTES), batch_dims=1)
    more = tf.cast(septets >= 0x80, tf.int32)
    part = tf.math.cumprod(more, axis=1, exclusive=True)
    weights = [1 << 7 * n for n in range(_VARINT_BYTES)]
    number = tf.reduce_sum(part * (septets & 0x7F) * weights, 1)
    return tf.where(tf.reduce_all(more > 0, 1), -(1 << 30), number), at + tf.reduce_sum(part, 1)


def _string(features: Mapping[str, tf.train.Feature], name: str) -> bytes | None:
    """The one string of a feature, empty where there is no feature; `None` for anything else."""
    if name not in features:
        return b""
    values = features[name].bytes_list.value
    if len(values) == 1:
        string: bytes = values[0]
        return string
    return b"" if features[name].WhichOneof("kind") is None else None


class Record(NamedTuple):
    """One labelled image as it is stored."""

    image: bytes
    label: str
    comment: str


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
        return normalize(six.ensure_text(label))
    except UnicodeDecodeError:
        return normalize(six.ensure_text(label, "latin-1"))


def decode_labels(labels: Sequence[bytes]) -> list[str]:
    """As `decode_label`; all together, which is several times faster than one by one."""
    try:
        # NUL ends whatever a combining mark could join.
        texts = normalize(b"\0".join(labels).decode()).split("\0")
    except UnicodeDecodeError:
        texts = []
    return texts if len(texts) == len(labels) else [decode_label(label) for label in labels]
