"""Records → batches: the order of an epoch, and the pipeline that reads it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf

from aocr.config import IMAGE_HEIGHT, ModelConfig
from aocr.data import parallel
from aocr.data.index import RecordIndex, read_records
from aocr.data.skipping import SkippedRecord
from aocr.errors import AocrError, reason
from aocr.images import preprocessing
from aocr.tokenizer import Tokenizer

Batch = dict[str, tf.Tensor]
# Batches that are decoded at the same time, beside the network.
_READ_AHEAD = min(8, max(2, os.cpu_count() or 2))


def make_pipeline(index: RecordIndex, plan: Iterable[np.ndarray], characters: Tokenizer,
                  config: ModelConfig
         ) -> tf.data.Dataset:
    """The batches of a plan, ready for the network.

    Args:
        index: The records.
        plan: Numbers of the records of each batch; it is gone through once.
        characters: The alphabet.
        config: How images are read.

    Returns:
        For each batch of the plan `images` `[batch, 32, width, channels]`, `widths` `[batch]`
        int32, `targets` `[batch, longest label + 1]` int32 (characters, EOS, PAD), `records`
        `[batch]` int64, their numbers in the index, and `comments` `[batch]` string. An image that
        cannot be decoded is not in its batch, which may therefore be empty.
    """
    encoded = tf.data.Dataset.from_generator(
        lambda: _encoded(index, plan, characters),
        output_signature={"encoded": tf.TensorSpec([None], tf.string),
                          "targets": tf.TensorSpec([None, None], tf.int32),
                          "records": tf.TensorSpec([None], tf.int64),
                          "comments": tf.TensorSpec([None], tf.string)})

    load_image = _loader(config)

    def decoded(one: Batch) -> Batch:
        pixels = load_image(one.pop("encoded"))
        return {"images": pixels, "widths": tf.shape(pixels)[1], **one}

    def padded(batch: Batch) -> Batch:
        rows = tf.data.Dataset.from_tensor_slices(batch).map(decoded).ignore_errors()
        shapes = {"images": [IMAGE_HEIGHT, None, config.channels], "widths": [],
                  "targets": [None], "records": [], "comments": []}
        whole = rows.padded_batch(tf.maximum(tf.size(batch["records"], tf.int64), 1), shapes)
        nothing = tf.data.Dataset.from_tensors(_empty(config))
        return whole.concatenate(nothing).take(1).get_single_element()

    batches = encoded.map(padded, _READ_AHEAD, deterministic=True).prefetch(_READ_AHEAD)
    return parallel.without_autotuning(batches)


def iterate(data: tf.data.Dataset) -> Iterator[Batch]:
    """The batches of `load`.

    Raises:
        AocrError: A file of records has gone or changed since it was looked over.
    """
    try:
        yield from data
    except tf.errors.OpError as error:
        raise AocrError(f"cannot read on in the dataset: {reason(error)}; a file was changed or "
                        "taken away meanwhile: bring it back, and give the command again"
                        ) from error


def undecoded(numbers: np.ndarray, batch: Batch) -> np.ndarray:
    """The planned records that are not in the batch, as they could not be decoded."""
    return np.setdiff1d(numbers, batch["records"].numpy())


def undecodable(index: RecordIndex, numbers: np.ndarray) -> dict[int, SkippedRecord]:
    """Entries for records that could not be decoded, by their number in the index."""
    return {int(n): index.skip(int(n), "unreadable image", "its data cannot be decoded")
            for n in numbers}


def fill_undecodable(batch: Batch, numbers: np.ndarray, least: int) -> Batch:
    """The batch with blank rows in place of the images that could not be decoded.

    Args:
        batch: One of `load`.
        numbers: The records that were planned for it.
        least: Rows that it must have.

    Returns:
        `images`, `widths` (0 in blank rows) and `targets` (PAD there), a row for each of `numbers`.
    """
    rows = max(len(numbers), least)
    if len(batch["records"]) == rows:
        return batch
    present = np.flatnonzero(np.isin(numbers, batch["records"].numpy()))[:, None]

    def spread(x: tf.Tensor) -> tf.Tensor:
        return tf.scatter_nd(present, x, tf.concat([[rows], tf.shape(x)[1:]], 0))

    return {name: spread(batch[name]) for name in ("images", "widths", "targets")}


@functools.cache
def _loader(config: ModelConfig) -> Callable[[tf.Tensor], tf.Tensor]:
    """The graph that reads an image; built once, for that takes longer than a small file."""
    return tf.function(
        lambda encoded: preprocessing.preprocess(encoded, config), autograph=False,
        input_signature=[tf.TensorSpec([], tf.string)])


def _empty(config: ModelConfig) -> Batch:
    return {"images": tf.zeros([0, IMAGE_HEIGHT, 1, config.channels]),
            "widths": tf.zeros([0], tf.int32), "targets": tf.zeros([0, 1], tf.int32),
            "records": tf.zeros([0], tf.int64), "comments": tf.zeros([0], tf.string)}


def _encoded(index: RecordIndex, plan: Iterable[np.ndarray], characters: Tokenizer
             ) -> Iterator[dict[str, np.ndarray]]:
    for numbers in plan:
        found = list(read_records(index, numbers))
        ids = [characters.encode(record.label) for record in found]
        targets = np.zeros([len(ids), max(map(len, ids), default=1)], np.int32)
        for row, label in zip(targets, ids, strict=True):
            row[:len(label)] = label
        yield {"encoded": np.array([record.image for record in found], object),
               "targets": targets, "records": np.asarray(numbers, np.int64),
               "comments": np.array([record.comment for record in found], object)}
