"""Records → batches: the order of an epoch, and the pipeline that reads it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from aocr import image, records
from aocr.charmap import CharMap
from aocr.config import IMAGE_HEIGHT, ModelConfig
from aocr.records import Index, Skipped

Batch = dict[str, tf.Tensor]

# Batches of like widths are formed within this many batches, so that the order stays random.
WINDOW = 32
WIDTH_JITTER = 0.5
_READ_AHEAD = 2


class Planned(NamedTuple):
    """A batch to come: its epoch, the records of the epoch up to its end, and its records."""

    epoch: int
    position: int
    records: np.ndarray


def in_order(index: Index, batch_size: int) -> list[np.ndarray]:
    """Every record once, like widths together within a window of the file's order."""
    return _grouped(np.arange(len(index)), index.width, batch_size)


def shuffled(index: Index, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Every record once, in an order that depends on the seed and the epoch alone.

    Args:
        index: The records.
        batch_size: Records in a batch; one batch may be smaller.
        seed: The run's seed.
        epoch: Number of the epoch.

    Returns:
        Numbers of the records of each batch. Widths are jittered before like ones are put
        together, so that the same neighbours do not meet in every epoch.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    order = random.permutation(len(index))
    jitter = random.uniform(1 - WIDTH_JITTER, 1 + WIDTH_JITTER, len(index))
    batches = _grouped(order, index.width * jitter, batch_size)
    return [batches[n] for n in random.permutation(len(batches))]


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
        done = 0
        for batch in shuffled(index, batch_size, seed, number):
            done += len(batch)
            if done > position:
                yield Planned(number, done, batch[max(0, len(batch) - (done - position)):])
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
        int32, `targets` `[batch, longest label + 1]` int32 (characters, EOS, PAD) and `records`
        `[batch]` int64, their numbers in the index. An image that cannot be decoded is not in
        its batch, which may therefore be empty.
    """
    encoded = tf.data.Dataset.from_generator(
        lambda: _encoded(index, plan, characters),
        output_signature={"encoded": tf.TensorSpec([None], tf.string),
                          "targets": tf.TensorSpec([None, None], tf.int32),
                          "records": tf.TensorSpec([None], tf.int64)})

    def decoded(one: Batch) -> Batch:
        pixels = image.load(one.pop("encoded"), config)
        return {"images": pixels, "widths": tf.shape(pixels)[1], **one}

    def padded(batch: Batch) -> Batch:
        rows = tf.data.Dataset.from_tensor_slices(batch).map(decoded).ignore_errors()
        shapes = {"images": [IMAGE_HEIGHT, None, config.channels], "widths": [],
                  "targets": [None], "records": []}
        whole = rows.padded_batch(tf.size(batch["records"], tf.int64), shapes)
        nothing = tf.data.Dataset.from_tensors(_empty(config))
        return whole.concatenate(nothing).take(1).get_single_element()

    batches = encoded.map(padded, _READ_AHEAD, deterministic=True).prefetch(_READ_AHEAD)
    return records.without_autotuning(batches)


def undecodable(index: Index, numbers: np.ndarray, batch: Batch) -> dict[int, Skipped]:
    """The planned records that are not in the batch, by their number in the index."""
    return {int(n): index.skip(int(n), "unreadable image", "its data cannot be decoded")
            for n in np.setdiff1d(numbers, batch["records"].numpy())}


def _empty(config: ModelConfig) -> Batch:
    return {"images": tf.zeros([0, IMAGE_HEIGHT, 1, config.channels]),
            "widths": tf.zeros([0], tf.int32), "targets": tf.zeros([0, 1], tf.int32),
            "records": tf.zeros([0], tf.int64)}


def _grouped(order: np.ndarray, width: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cuts an order into batches of like widths; only the last window has a smaller batch."""
    batches: list[np.ndarray] = []
    for start in range(0, len(order), WINDOW * batch_size):
        window = order[start:start + WINDOW * batch_size]
        window = window[np.argsort(width[window], kind="stable")]
        batches += [window[n:n + batch_size] for n in range(0, len(window), batch_size)]
    return batches


def _encoded(index: Index, plan: Iterable[np.ndarray], characters: CharMap
             ) -> Iterator[dict[str, np.ndarray]]:
    for numbers in plan:
        found = list(records.read(index, numbers))
        ids = [characters.encode(record.label) for record in found]
        targets = np.zeros([len(ids), max(map(len, ids))], np.int32)
        for row, label in zip(targets, ids, strict=True):
            row[:len(label)] = label
        yield {"encoded": np.array([record.image for record in found], object),
               "targets": targets, "records": np.asarray(numbers, np.int64)}
