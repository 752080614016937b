"""Loss and error rates under their field's names; nothing here logs or keeps state."""

from __future__ import annotations

import tensorflow as tf

from aocr.tokenizer import PAD_ID


def sequence_loss(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Mean cross-entropy over each image's characters and EOS.

    Args:
        logits: `[batch, S, vocab]`.
        targets: `[batch, S]` int32; PAD does not count.

    Returns:
        `[batch]`; 0 for an image without any.
    """
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    weights = tf.cast(targets != PAD_ID, losses.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * weights, -1), tf.reduce_sum(weights, -1))
