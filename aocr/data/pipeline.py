"""The input pipeline: batches of records, read, decoded and padded with tf.data."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from aocr.config import IMAGE_HEIGHT, ModelConfig
from aocr.data import parallel
from aocr.data.index import RecordIndex, read_records
from aocr.data.skipping import SkippedRecord
from aocr.errors import AocrError, reason
from aocr.images import augmentation, preprocessing
from aocr.tokenizer import Tokenizer

# Batches that are decoded in parallel while the network computes.
_PARALLEL_BATCHES = min(8, max(2, os.cpu_count() or 2))


class Batch(NamedTuple):
    """One batch of images and labels, ready for the network.

    Attributes:
        images: `[batch, 32, width, channels]`, padded with zeros on the right.
        widths: Width of each image without padding, `[batch]` int32.
        targets: Ids of each label, then EOS, then PAD, `[batch, longest label + 1]` int32.
        records: Positions of the records in the index, `[batch]` int64.
        comments: Comments of the records, `[batch]` string.
    """

    images: tf.Tensor
    widths: tf.Tensor
    targets: tf.Tensor
    records: tf.Tensor
    comments: tf.Tensor


class BatchRecords(NamedTuple):
    """The records of a batch.

    Attributes:
        records: Their positions in the index.
        uses: For each, a number below 2^30 that differs between its uses, such as the epoch.
    """

    records: np.ndarray
    uses: np.ndarray

    @classmethod
    def of_epoch(cls, records: np.ndarray, epoch: int) -> BatchRecords:
        """Returns records of a batch, each of which is used once in every epoch."""
        return cls(records, np.full(len(records), epoch))


class Augmentation(NamedTuple):
    """Augmentation of the images of a pipeline.

    Attributes:
        level: One of `aocr.config.AUGMENTATIONS`.
        seed: Seed of the training run. The distortions of an image depend only on it, on the
            position of the record in the index and on `BatchRecords.uses`.
    """

    level: str
    seed: int


_NO_AUGMENTATION = Augmentation("off", 0)


class _EncodedBatch(NamedTuple):
    """One batch with its images still encoded, `[batch]` string; other fields as in `Batch`.

    Attributes:
        uses: See `BatchRecords`, `[batch]` int64.
    """

    images: tf.Tensor
    uses: tf.Tensor
    targets: tf.Tensor
    records: tf.Tensor
    comments: tf.Tensor


def make_pipeline(index: RecordIndex, plan: Iterable[np.ndarray], tokenizer: Tokenizer,
                  config: ModelConfig) -> tf.data.Dataset:
    """Returns a dataset of the `Batch`es of a plan, without augmentation.

    Args:
        index: The records.
        plan: Positions in the index of the records of each batch; iterated over once.
        tokenizer: Encodes the labels.
        config: Size, channels and resizing kernel of the images.
    """
    plans = (BatchRecords.of_epoch(positions, 0) for positions in plan)
    return make_training_pipeline(index, plans, tokenizer, config, _NO_AUGMENTATION)


def make_training_pipeline(index: RecordIndex, plan: Iterable[BatchRecords], tokenizer: Tokenizer,
                           config: ModelConfig, augmented: Augmentation) -> tf.data.Dataset:
    """Returns a dataset of the `Batch`es of a plan.

    An image that cannot be decoded is left out of its batch, which may therefore be empty.

    Args:
        index: The records.
        plan: Records of each batch; iterated over once.
        tokenizer: Encodes the labels.
        config: Size, channels and resizing kernel of the images.
        augmented: How the images are augmented.
    """
    encoded = tf.data.Dataset.from_generator(
        lambda: _encoded_batches(index, plan, tokenizer),
        output_signature=_EncodedBatch(
            tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.int64),
            tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int64),
            tf.TensorSpec([None], tf.string)))

    preprocess = _preprocessing_graph(config, augmented.level)

    def decode(row: _EncodedBatch) -> Batch:
        seed = tf.stack([tf.constant(augmented.seed, tf.int64), row.uses, row.records])
        image = preprocess(row.images, seed)
        return Batch(image, tf.shape(image)[1], row.targets, row.records, row.comments)

    def decode_and_pad(batch: _EncodedBatch) -> Batch:
        rows = tf.data.Dataset.from_tensor_slices(batch).map(decode).ignore_errors()
        shapes = Batch([IMAGE_HEIGHT, None, config.channels], [], [None], [], [])
        padded = rows.padded_batch(tf.maximum(tf.size(batch.records, tf.int64), 1), shapes)
        empty = tf.data.Dataset.from_tensors(_empty_batch(config))
        return padded.concatenate(empty).take(1).get_single_element()

    batches = encoded.map(decode_and_pad, _PARALLEL_BATCHES, deterministic=True)
    return parallel.without_autotuning(batches.prefetch(_PARALLEL_BATCHES))


def iterate(data: tf.data.Dataset) -> Iterator[Batch]:
    """Yields the batches of a pipeline.

    Raises:
        AocrError: A file of records was removed or has changed since it was indexed.
    """
    try:
        yield from data
    except tf.errors.OpError as error:
        raise AocrError(f"cannot continue to read the dataset: {reason(error)}; a file was "
                        "changed or removed in the meantime: restore it, and give the same command "
                        "again") from error


def undecoded(planned: np.ndarray, batch: Batch) -> np.ndarray:
    """Returns the planned records that are missing from a batch: their images are undecodable."""
    return np.setdiff1d(planned, batch.records.numpy())


def undecodable(index: RecordIndex, positions: np.ndarray) -> dict[int, SkippedRecord]:
    """Returns the skip entries of undecodable records, by position in the index."""
    return {int(n): index.skip(int(n), "unreadable image", "its data cannot be decoded")
            for n in positions}


def fill_undecodable(batch: Batch, planned: np.ndarray, min_rows: int) -> Batch:
    """Returns a batch with blank rows in place of the undecodable images.

    Args:
        batch: A batch from the pipeline.
        planned: The records that were planned for it.
        min_rows: Minimum number of rows.

    Returns:
        The batch with one row in `images`, `widths` and `targets` for each planned record. Blank
        rows have width 0 and targets PAD. `records` and `comments` are those of the decoded images.
    """
    row_count = max(len(planned), min_rows)
    if len(batch.records) == row_count:
        return batch
    rows = np.flatnonzero(np.isin(planned, batch.records.numpy()))[:, None]

    def scatter(x: tf.Tensor) -> tf.Tensor:
        return tf.scatter_nd(rows, x, tf.concat([[row_count], tf.shape(x)[1:]], 0))

    return batch._replace(images=scatter(batch.images), widths=scatter(batch.widths),
                          targets=scatter(batch.targets))


@functools.cache
def _preprocessing_graph(config: ModelConfig, level: str
                         ) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns the graph that preprocesses one image and augments it.

    It is cached because building it takes longer than reading a small file of records.
    """
    strength = augmentation.STRENGTHS.get(level)

    def preprocess(encoded: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if strength is None:
            return preprocessing.preprocess(encoded, config)
        scaled = preprocessing.scale(encoded, config)
        return preprocessing.to_input(augmentation.augment(scaled, seed, strength), config)

    return tf.function(preprocess, autograph=False, input_signature=[
        tf.TensorSpec([], tf.string), tf.TensorSpec([3], tf.int64)])


def _empty_batch(config: ModelConfig) -> Batch:
    return Batch(tf.zeros([0, IMAGE_HEIGHT, 1, config.channels]), tf.zeros([0], tf.int32),
                 tf.zeros([0, 1], tf.int32), tf.zeros([0], tf.int64), tf.zeros([0], tf.string))


def _encoded_batches(index: RecordIndex, plan: Iterable[BatchRecords], tokenizer: Tokenizer
                     ) -> Iterator[_EncodedBatch]:
    for positions, uses in plan:
        records = list(read_records(index, positions))
        labels = [tokenizer.encode(record.label) for record in records]
        targets = np.zeros([len(labels), max(map(len, labels), default=1)], np.int32)
        for row, ids in zip(targets, labels, strict=True):
            row[:len(ids)] = ids
        yield _EncodedBatch(
            np.array([record.image for record in records], object),
            np.asarray(uses, np.int64), targets, np.asarray(positions, np.int64),
            np.array([record.comment for record in records], object))
