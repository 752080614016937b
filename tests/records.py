"""TFRecords files for the tests of datasets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from aocr.data import example
from aocr.data.example import Record


def write(path: Path, serialized: Sequence[bytes]) -> str:
    """Writes a TFRecords file, and returns its path."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in serialized:
            writer.write(record)
    return str(path)


def example_of(**features: object) -> bytes:
    """Returns a serialized example of strings of bytes and lists of integers."""
    feature = {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
               if isinstance(value, bytes)
               else tf.train.Feature(int64_list=tf.train.Int64List(value=value))
               for name, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def read(path: str = "out.tfrecords") -> list[Record]:
    """Returns the records of a TFRecords file."""
    return [example.decode(serialized)
            for serialized in tf.data.TFRecordDataset(path).as_numpy_iterator()]
