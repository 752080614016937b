"""Records → batches: the order of an epoch, and the pipeline that reads it."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from aocr import image, records, scan
from aocr.charmap import CharMap
from aocr.config import IMAGE_HEIGHT, ModelConfig
from aocr.errors import AocrError, reason
from aocr.records import Index, Skipped

Batch = dict[str, tf.Tensor]

# Batches of like widths are formed within this many batches, so that memory stays bounded.
WINDOW = 32
# Batches that are decoded at the same time, beside the network.
_READ_AHEAD = min(8, max(2, os.cpu_count() or 2))


class Planned(NamedTuple):
    """A batch to come: its epoch, the records of the epoch up to its end, and its records."""

    epoch: int
    position: int
    records: np.ndarray


def in_order(index: Index, batch_size: int) -> list[np.ndarray]:
    """Every record once, like widths together within a window of the file's order."""
    batches: list[np.ndarray] = []
    for start in range(0, len(index), WINDOW * batch_size):
        window: np.ndarray = np.arange(start, min(start + WINDOW * batch_size, len(index)))
        window = window[np.argsort(index.width[window], kind="stable")]
        batches += [window[n:n + batch_size] for n in range(0, len(window), batch_size)]
    return batches


def shuffled(index: Index, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Every record once, in an order that depends on the seed and the epoch alone.

    Args:
        index: The records.
        batch_size: Most records in a batch.
        seed: The run's seed.
        epoch: Number of the epoch.

    Returns:
        Numbers of the records of each batch, which is in the order of the widths. All batches have
        the same size, give or take one: a small rest would turn the weights as far as a whole
        batch does (measured on receipt-numbers: 82 % read before a batch of 5, 60 % after it).
    """
    return _cut(index, batch_size, _order(index, seed, epoch))


def _order(index: Index, seed: int, epoch: int) -> np.ndarray:
    random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    return random.permutation(np.arange(len(index), dtype=np.int32))


def _cut(index: Index, batch_size: int, order: np.ndarray) -> list[np.ndarray]:
    cut = np.array_split(order, max(1, -(-len(order) // batch_size)))
    for batch in cut:
        batch[:] = batch[np.argsort(index.width[batch], kind="stable")]
    return [batch for batch in cut if len(batch)]


def endless(index: Index, batch_size: int, seed: int, epoch: int, position: int
            ) -> Iterator[Planned]:
    """The batches of one epoch after the other.

    Args:
        index: The records.
        batch_size: Records in a batch.
        seed: The run's seed.
        epoch: The epoch to begin with.
        position: Records of that epoch to leave out; they have been used.
    """
    for number in itertools.count(epoch):
        order, done = _order(index, seed, number), 0
        used = np.sort(order[:position])  # before `_cut` sorts the batches in place
        for batch in _cut(index, batch_size, order):
            done += len(batch)
            # The first batch after a change of the batch size may hold some that are used.
            new = batch[~np.isin(batch, used)] if done - len(batch) < position else batch
            if len(new):
                yield Planned(number, done, new)
        position = 0


def load(index: Index, plan: Iterable[np.ndarray], characters: CharMap, config: ModelConfig
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
    return scan.without_autotuning(batches)


def each(data: tf.data.Dataset) -> Iterator[Batch]:
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


def missing(numbers: np.ndarray, batch: Batch) -> np.ndarray:
    """The planned records that are not in the batch, as they could not be decoded."""
    return np.setdiff1d(numbers, batch["records"].numpy())


def undecodable(index: Index, numbers: np.ndarray) -> dict[int, Skipped]:
    """Entries for records that could not be decoded, by their number in the index."""
    return {int(n): index.skip(int(n), "unreadable image", "its data cannot be decoded")
            for n in numbers}


def filled(batch: Batch, numbers: np.ndarray, least: int) -> Batch:
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
        lambda encoded: image.load(encoded, config), autograph=False,
        input_signature=[tf.TensorSpec([], tf.string)])


def _empty(config: ModelConfig) -> Batch:
    return {"images": tf.zeros([0, IMAGE_HEIGHT, 1, config.channels]),
            "widths": tf.zeros([0], tf.int32), "targets": tf.zeros([0, 1], tf.int32),
            "records": tf.zeros([0], tf.int64), "comments": tf.zeros([0], tf.string)}


def _encoded(index: Index, plan: Iterable[np.ndarray], characters: CharMap
             ) -> Iterator[dict[str, np.ndarray]]:
    for numbers in plan:
        found = list(records.read(index, numbers))
        ids = [characters.encode(record.label) for record in found]
        targets = np.zeros([len(ids), max(map(len, ids), default=1)], np.int32)
        for row, label in zip(targets, ids, strict=True):
            row[:len(label)] = label
        yield {"encoded": np.array([record.image for record in found], object),
               "targets": targets, "records": np.asarray(numbers, np.int64),
               "comments": np.array([record.comment for record in found], object)}
