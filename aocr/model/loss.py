"""The loss that training minimizes."""

from __future__ import annotations

import tensorflow as tf

from aocr.tokenizer import PAD_ID


def sequence_loss(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Returns the mean cross-entropy over the characters and EOS of each image.

    Args:
        logits: `[batch, steps, vocab]`.
        targets: `[batch, steps]` int32: characters, EOS, then PAD, which does not count.

    Returns:
        `[batch]`; 0 for an image whose targets are all PAD.
    """
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    weights = tf.cast(targets != PAD_ID, losses.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * weights, -1), tf.reduce_sum(weights, -1))
