"""Several images in one row of a batch, so that little padding is computed.

A random batch holds wide images and narrow ones. Padded to the widest, lines of receipts are 2.0
times, numbers and words of scenes 2.8 times as many columns as the images themselves; packed, all
of them are 1.05 to 1.10 times (batches of 65).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from aocr.config import COLUMN_PIXELS, IMAGE_HEIGHT

# Convolutions are prepared anew for every shape they meet: where images differ, row lengths are
# rounded up to an eighth of the greatest power of two in them. Beyond 2048 pixels they lose speed.
_LENGTH_BITS = 3
_LONGEST = 2048 // COLUMN_PIXELS


class Packing(NamedTuple):
    """Where the images of a batch stand.

    Attributes:
        places: `[batch]` int32, the feature column (4 pixels) in which each image begins; columns
            are counted through all rows.
        shape: `[2]` int32, rows and their length in feature columns.
    """

    places: tf.Tensor | np.ndarray
    shape: tf.Tensor | np.ndarray


def plan(widths: np.ndarray, devices: int = 1) -> Packing:
    """Finds a place for every image, with at least one free column after it or the row's end.

    Args:
        widths: `[batch]`, in pixels; an image of width 0 takes no place.
        devices: Each packs its own images (every n-th) into rows of its own.
    """
    columns = -(-widths // COLUMN_PIXELS)
    return min((_packed(columns, devices, length) for length in _lengths(columns)),
               key=lambda packing: int(np.prod(packing.shape)))


def pack(images: tf.Tensor, widths: tf.Tensor, packing: Packing) -> tuple[tf.Tensor, tf.Tensor]:
    """Images in their places.

    Args:
        images: `[batch, 32, width, channels]`.
        widths: `[batch]` int32, the own widths in pixels.
        packing: Their places.

    Returns:
        `[rows, 32, 4 * length, channels]`, zero between the images, and whether a column belongs
        to one, `[rows, 4 * length]` bool.
    """
    inside = tf.sequence_mask(widths, tf.shape(images)[2])
    begins = tf.convert_to_tensor(packing.places) * COLUMN_PIXELS
    places = tf.boolean_mask(begins[:, None] + tf.range(tf.shape(images)[2]), inside)[:, None]
    columns = tf.boolean_mask(tf.transpose(images, [0, 2, 1, 3]), inside)
    rows, length = packing.shape[0], packing.shape[1] * COLUMN_PIXELS
    shape = [rows * length, IMAGE_HEIGHT, images.shape[3]]
    packed = tf.reshape(tf.scatter_nd(places, columns, shape), [rows, length, *shape[1:]])
    taken = tf.scatter_nd(places, tf.ones_like(places[:, 0]), [rows * length])
    return tf.transpose(packed, [0, 2, 1, 3]), tf.reshape(taken > 0, [rows, length])


def unpack(features: tf.Tensor, lengths: tf.Tensor, time: tf.Tensor, packing: Packing
           ) -> tf.Tensor:
    """Every image's columns in a row of its own.

    Args:
        features: `[rows, length, units]`.
        lengths: `[batch]` int32, the feature columns of each image.
        time: Columns of the longest of them, or more.
        packing: Their places.

    Returns:
        `[batch, time, units]`; padding repeats a column.
    """
    last = tf.maximum(lengths - 1, 0)[:, None]
    places = tf.convert_to_tensor(packing.places)[:, None] + tf.minimum(tf.range(time), last)
    return tf.gather(tf.reshape(features, [-1, features.shape[2]]), places)


def _lengths(columns: np.ndarray) -> list[int]:
    """Row lengths to try, in feature columns."""
    longest = int(columns.max(initial=1))
    if np.all(columns == longest):
        return [longest]
    step = max(1, (1 << longest.bit_length()) >> (_LENGTH_BITS + 1))
    rounded = -(-longest // step) * step
    return [rounded, *(times * rounded for times in (2, 4) if times * rounded <= _LONGEST)]


def _packed(columns: np.ndarray, devices: int, length: int) -> Packing:
    places, rows = np.zeros(len(columns), np.int32), 1
    for device in range(devices):
        own = slice(device, None, devices)
        places[own], used = _first_fit(columns[own], length)
        rows = max(rows, used)
    return Packing(places, np.array([rows, length], np.int32))


def _first_fit(columns: np.ndarray, length: int) -> tuple[np.ndarray, int]:
    """Places, the longest image first, each in the first row that has room; and rows used.

    Source: Johnson 1973, "Near-optimal bin packing algorithms" (first-fit decreasing).
    """
    places: np.ndarray = np.zeros(len(columns), np.int32)
    ends = np.zeros(len(columns), np.int32)  # of all rows, also of those that stay empty
    for n in np.argsort(-columns, kind="stable"):
        size = columns[n]
        if not size:
            break
        row = int(np.argmax(ends + size <= length))
        places[n] = row * length + ends[row]
        ends[row] += size + 1
    return places, int(np.count_nonzero(ends))
