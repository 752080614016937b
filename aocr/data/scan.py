"""What records tell without their images being decoded."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from aocr.config import max_bytes
from aocr.data import example, parallel, tfrecord
from aocr.data.parallel import without_autotuning
from aocr.data.tfrecord import TFRecordFile, damage_error
from aocr.errors import AocrError, reason
from aocr.images import header_ops

BUCKETS = 10_000
_SCAN_BATCH = 1024
_SCAN_BYTES = 1 << 23
_THREADS = 2
_FILES_AT_A_TIME = 4  # stores of objects give one reader a part of what they can give
_Used = TypeVar("_Used")


class RecordMetadata(NamedTuple):
    """What one batch of records of one file tells without decoding; label `None`: it is odd."""

    file: np.ndarray
    labels: np.ndarray
    lengths: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    pixels: np.ndarray
    buckets: np.ndarray


def validate_tfrecords(paths: Sequence[str], max_pixels: int) -> list[TFRecordFile]:
    """How each file is read, once it is known that no record is longer than may be.

    Raises:
        AocrError: A file is damaged or is not TFRecords.
    """
    with ThreadPoolExecutor(_FILES_AT_A_TIME) as pool:
        return list(pool.map(lambda path: tfrecord.validate_tfrecord(path, max_bytes(max_pixels)),
                             paths))


def _of_images(encoded: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Heights, widths, promised pixels and buckets."""
    return *header_ops.decoded_sizes(encoded), tf.strings.to_hash_bucket_fast(encoded, BUCKETS)


def _of_records(serialized: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Which are plain, the others as they are, then labels, lengths and what images tell."""
    image, label, plain = example.plain(serialized)
    others = tf.boolean_mask(serialized, ~plain)
    return (plain, others, label, tf.strings.length(serialized), *_of_images(image))


@functools.cache
def _graph(of_strings: Callable[[tf.Tensor], tuple[tf.Tensor, ...]]
           ) -> Callable[[tf.Tensor], tuple[tf.Tensor, ...]]:
    """Built once, for that takes longer than a small file."""
    return tf.function(of_strings, autograph=False,
                       input_signature=[tf.TensorSpec([None], tf.string)])


def _scan_batch(file: TFRecordFile) -> int:
    """Records looked at together: few when they are long."""
    return min(_SCAN_BATCH, _SCAN_BYTES // (file.longest + 1) + 1)


def _stored(files: Sequence[TFRecordFile]) -> tf.data.Dataset:
    """The number of a file with a batch of its records."""
    @tf.autograph.experimental.do_not_convert
    def batches(file: tf.Tensor, one: tuple[tf.Tensor, tf.Tensor]) -> tf.data.Dataset:
        path, size = one
        whole = tf.data.TFRecordDataset(path, buffer_size=1 << 20).batch(size)
        return tf.data.Dataset.zip(tf.data.Dataset.from_tensors(file).repeat(), whole)

    # One pipeline for all files: a graph for each would take longer than reading a small one.
    named = tf.data.Dataset.from_tensor_slices(
        ([file.plain for file in files],
         tf.constant([_scan_batch(file) for file in files], tf.int64)))
    return named.enumerate().interleave(
        batches, _FILES_AT_A_TIME, num_parallel_calls=_FILES_AT_A_TIME, deterministic=True)


def scanned(files: Sequence[TFRecordFile],
            use: Callable[[Iterator[RecordMetadata]], _Used]) -> _Used:
    """Scans all records of all files; several are read at a time, each in its own order.

    Args:
        files: The files.
        use: What becomes of the scans.

    Raises:
        AocrError: A file is damaged.
    """
    try:
        return use(_scan(files))
    except tf.errors.DataLossError as error:
        raise damage_error(files) from error
    except tf.errors.OpError as error:
        raise AocrError(f"cannot read the dataset: {reason(error)}") from error


def _scan(files: Sequence[TFRecordFile]) -> Iterator[RecordMetadata]:
    stored = without_autotuning(_stored(files).prefetch(_FILES_AT_A_TIME))
    with ThreadPoolExecutor(_THREADS) as pool:
        yield from parallel.ordered_map(pool, _look, stored, _THREADS + 1)


def _look(stored: tuple[tf.Tensor, tf.Tensor]) -> RecordMetadata:
    file, serialized = stored
    plain, others, *columns = (part.numpy() for part in _graph(_of_records)(serialized))
    one = RecordMetadata(file.numpy(), *columns)
    return _completed(one, ~plain, others) if len(others) else one


def _completed(one: RecordMetadata, where: np.ndarray, others: np.ndarray) -> RecordMetadata:
    """The scan with the records, at the places `where`, that are not laid out plainly."""
    images, labels = zip(*map(example.parse, others), strict=True)
    found = RecordMetadata(one.file, np.array(labels, object), one.lengths[where],
                 *(part.numpy() for part in _graph(_of_images)(tf.constant(images))))
    whole = one._replace(**{name: getattr(one, name).copy() for name in RecordMetadata._fields[1:]})
    for old, new in zip(whole[1:], found[1:], strict=True):
        old[where] = new
    return whole
