"""Conversion between a `tf.train.Example` and its image, label and comment.

Examples are parsed by protobuf, one at a time. TensorFlow's own ops for it are not used: they write
out of bounds when the length of a string has its highest bit set (`FastParseExample` in
TensorFlow 2.21).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import six
import tensorflow as tf
from google.protobuf.message import DecodeError

from aocr.tokenizer import normalize


class Record(NamedTuple):
    """One labeled image as it is stored: encoded image, label and comment."""

    image: bytes
    label: str
    comment: str


def encode(record: Record) -> bytes:
    """Returns the serialized example of a record; an empty comment is left out."""
    example = tf.train.Example()
    features = {"image": record.image, "label": six.ensure_binary(record.label),
                "comment": six.ensure_binary(record.comment)}
    for name, value in features.items():
        if value or name != "comment":
            example.features.feature[name].bytes_list.value.append(value)
    # Otherwise the order of the features differs from process to process.
    serialized: bytes = example.SerializeToString(deterministic=True)
    return serialized


def decode(serialized: bytes) -> Record:
    """Returns the record of a serialized example; missing features are empty.

    Raises:
        DecodeError: The bytes are not an example.
    """
    features = tf.train.Example.FromString(serialized).features.feature

    def first(name: str) -> bytes:
        values = features[name].bytes_list.value if name in features else ()
        return values[0] if values else b""

    return Record(first("image"), decode_label(first("label")),
                  first("comment").decode("utf-8", "replace"))


def parse(serialized: bytes) -> tuple[bytes, bytes | None]:
    """Returns image and stored label of a serialized example, strictly.

    A missing feature is empty. The label is `None` if the bytes are not an example, or if image or
    label is not a single string of bytes.
    """
    try:
        features = tf.train.Example.FromString(serialized).features.feature
    except DecodeError:
        return b"", None
    image, label = _single_string(features, "image"), _single_string(features, "label")
    return (b"", None) if image is None or label is None else (image, label)


def decode_label(label: bytes) -> str:
    """Returns the text of a stored label in NFC.

    Labels that are not valid UTF-8 are read as Latin-1, which the original aocr wrote.
    """
    try:
        return normalize(six.ensure_text(label))
    except UnicodeDecodeError:
        return normalize(six.ensure_text(label, "latin-1"))


def _single_string(features: Mapping[str, tf.train.Feature], name: str) -> bytes | None:
    """Returns the only string of a feature, empty if the feature is missing or has no values.

    Returns `None` for several strings and for numbers.
    """
    if name not in features:
        return b""
    values = features[name].bytes_list.value
    if len(values) == 1:
        string: bytes = values[0]
        return string
    return b"" if features[name].WhichOneof("kind") is None else None
