"""The loss of a training batch, computed for groups of images of similar width."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import tensorflow as tf

from aocr.config import COLUMN_PIXELS, CONV_FEATURES
from aocr.tokenizer import PAD_ID

GROUPS = 4
# Input width in pixels from which groups are used. The loops of narrow images are too short: a
# training on drawn words of at most 86 pixels took 1.2 times as long in groups.
MIN_INPUT_WIDTH = 256
# Returns the sum of the losses of the images and the sum of additional costs, from features,
# targets and widths.
LossFunction = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


class GroupedLoss:
    """Sums a loss over the images of a batch.

    Encoder and decoder compute every row of a batch at the width of its widest image, and for the
    length of its longest label: in batches of 32 drawn words and lines, five to ten times as many
    pairs of column and character as the images have. They therefore get a padded batch in groups of
    rows, whose results do not depend on each other.

    Args:
        loss: The loss of a group.
        dtype: Type of the features.
    """

    def __init__(self, loss: LossFunction, dtype: tf.DType) -> None:
        self._loss = loss
        # A function of its own is traced once for all groups; not inlined, it is optimized once.
        self._group_loss = tf.function(
            loss, autograph=False, experimental_attributes={"_noinline": True}, input_signature=[
                tf.TensorSpec([None, None, CONV_FEATURES], dtype),
                tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)])

    def whole(self, features: tf.Tensor, targets: tf.Tensor, widths: tf.Tensor
              ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns both sums, computed at once.

        Args:
            features: `[batch, time, 512]`.
            targets: `[batch, steps]` int32: characters, EOS, then PAD.
            widths: `[batch]` int32, the images' widths in pixels; 0 for those that do not count.
        """
        return self._loss(features, targets, widths)

    def by_width(self, features: tf.Tensor, targets: tf.Tensor, widths: tf.Tensor
                 ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what `whole` does, computed for groups of rows, which are ordered by width."""
        losses, costs = zip(*(self._group_loss(*group) for group in _split(
            features, targets, widths)), strict=True)
        return tf.add_n(losses), tf.add_n(costs)


def _split(features: tf.Tensor, targets: tf.Tensor, widths: tf.Tensor
           ) -> Iterator[tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """Yields consecutive rows without the padding that all of them have."""
    rows = tf.shape(widths)[0]
    lengths = tf.math.count_nonzero(targets != PAD_ID, 1, dtype=tf.int32)
    for start, stop in pairwise([rows * number // GROUPS for number in range(GROUPS + 1)]):
        group = slice(start, stop)
        time = -(-_largest(widths[group]) // COLUMN_PIXELS)
        yield features[group, :time], targets[group, :_largest(lengths[group])], widths[group]


def _largest(values: tf.Tensor) -> tf.Tensor:
    """Returns the largest value, or 1 for an empty group or images that do not count."""
    return tf.reduce_max(tf.pad(values, [[0, 1]], constant_values=1))
