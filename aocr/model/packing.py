"""Packs several images into a row of a training batch, so that the CNN computes little padding.

A random batch holds wide images and narrow ones. Padded to the widest image, batches of 65 have
2.0 (lines of receipts) to 2.8 times (numbers, words in scenes) as many columns as the images
themselves; packed, they have 1.05 to 1.10 times as many.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from aocr.config import COLUMN_PIXELS, IMAGE_HEIGHT

# oneDNN prepares its convolutions for every new shape. Where widths differ, row lengths are
# therefore rounded up to an eighth of their greatest power of two.
_LENGTH_BITS = 3
_MAX_LENGTH = 2048 // COLUMN_PIXELS  # longer rows are slower


class Packing(NamedTuple):
    """Where the images of a batch are in the packed rows.

    Attributes:
        offsets: `[batch]` int32, the first feature column (4 pixels) of each image, counted
            through all rows.
        shape: `[2]` int32, rows and their length in feature columns.
    """

    offsets: tf.Tensor | np.ndarray
    shape: tf.Tensor | np.ndarray


def first_fit(widths: np.ndarray, replicas: int = 1) -> Packing:
    """Assigns every image to a row, followed by a free column or the end of the row.

    Of several row lengths, the one with the fewest columns in total is used.

    Args:
        widths: `[batch]`, in pixels; an image of width 0 takes no columns.
        replicas: Each replica packs its own images (every n-th) into its own rows.
    """
    columns = -(-widths // COLUMN_PIXELS)
    return min((_pack_replicas(columns, replicas, length) for length in _row_lengths(columns)),
               key=lambda packing: int(np.prod(packing.shape)))


def pack(images: tf.Tensor, widths: tf.Tensor, packing: Packing) -> tuple[tf.Tensor, tf.Tensor]:
    """Copies images to their positions in the packed rows.

    Args:
        images: `[batch, 32, width, channels]`.
        widths: `[batch]` int32, the width of each image in pixels.
        packing: The positions.

    Returns:
        `[rows, 32, 4 * length, channels]`, zero between the images, and its mask,
        `[rows, 4 * length]` bool.
    """
    mask = tf.sequence_mask(widths, tf.shape(images)[2])
    offsets = tf.convert_to_tensor(packing.offsets) * COLUMN_PIXELS
    indices = tf.boolean_mask(offsets[:, None] + tf.range(tf.shape(images)[2]), mask)[:, None]
    columns = tf.boolean_mask(tf.transpose(images, [0, 2, 1, 3]), mask)
    rows, length = packing.shape[0], packing.shape[1] * COLUMN_PIXELS
    shape = [rows * length, IMAGE_HEIGHT, images.shape[3]]
    packed = tf.reshape(tf.scatter_nd(indices, columns, shape), [rows, length, *shape[1:]])
    used = tf.scatter_nd(indices, tf.ones_like(indices[:, 0]), [rows * length])
    return tf.transpose(packed, [0, 2, 1, 3]), tf.reshape(used > 0, [rows, length])


def unpack(features: tf.Tensor, lengths: tf.Tensor, time: tf.Tensor, packing: Packing
           ) -> tf.Tensor:
    """Copies the feature columns of every image to a row of its own.

    Args:
        features: `[rows, length, units]`.
        lengths: `[batch]` int32, the feature columns of each image.
        time: Length of the new rows, at least that of the longest image.
        packing: The positions.

    Returns:
        `[batch, time, units]`; the padding repeats an image's last column.
    """
    last = tf.maximum(lengths - 1, 0)[:, None]
    indices = tf.convert_to_tensor(packing.offsets)[:, None] + tf.minimum(tf.range(time), last)
    return tf.gather(tf.reshape(features, [-1, features.shape[2]]), indices)


def _row_lengths(columns: np.ndarray) -> list[int]:
    """Returns the row lengths to try, in feature columns."""
    longest = int(columns.max(initial=1))
    if np.all(columns == longest):
        return [longest]
    step = max(1, (1 << longest.bit_length()) >> (_LENGTH_BITS + 1))
    rounded = -(-longest // step) * step
    return [rounded, *(times * rounded for times in (2, 4) if times * rounded <= _MAX_LENGTH)]


def _pack_replicas(columns: np.ndarray, replicas: int, length: int) -> Packing:
    """Packs the images of every replica into the same number of rows."""
    offsets, rows = np.zeros(len(columns), np.int32), 1
    for replica in range(replicas):
        images = slice(replica, None, replicas)
        offsets[images], used = _first_fit_decreasing(columns[images], length)
        rows = max(rows, used)
    return Packing(offsets, np.array([rows, length], np.int32))


def _first_fit_decreasing(columns: np.ndarray, length: int) -> tuple[np.ndarray, int]:
    """Puts each image, the longest first, into the first row with enough free columns.

    Source: Johnson 1973, "Near-optimal bin packing algorithms".

    Returns:
        The offsets of the images, and the number of rows used.
    """
    offsets: np.ndarray = np.zeros(len(columns), np.int32)
    ends = np.zeros(len(columns), np.int32)  # of all rows, the unused ones included
    for n in np.argsort(-columns, kind="stable"):
        size = columns[n]
        if not size:
            break
        row = int(np.argmax(ends + size <= length))
        offsets[n] = row * length + ends[row]
        ends[row] += size + 1
    return offsets, int(np.count_nonzero(ends))
