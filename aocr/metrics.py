"""Loss and error rates under their field's names; nothing here logs or keeps state."""

from __future__ import annotations

import math

import distance
import tensorflow as tf

from aocr.charmap import PAD_ID


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


def perplexity(loss: float) -> float:
    """`exp(loss)`; infinite where that is too large for a number."""
    return math.inf if loss >= 700 else math.exp(loss)


def edit_distance(text: str, label: str) -> int:
    """Levenshtein distance in code points."""
    return int(distance.levenshtein(text, label))


def accuracy(text: str, label: str, use_distance: bool = True) -> float:
    """The original's accuracy of one image: edit-distance credit, 0…1.

    Args:
        text: What was read.
        label: The truth; an empty one counts 1 when nothing was read, else 0.
        use_distance: Give credit for a part; `--no-distance` counts full matches only.
    """
    if text == label:
        return 1.0
    if not label or not use_distance:
        return 0.0
    return 1.0 - min(1.0, edit_distance(text, label) / len(label))


def character_error_rate(errors: int, characters: int) -> float:
    """CER: sum of edit distances / sum of label lengths (NFC code points); may pass 1."""
    return errors / characters if characters else float(errors > 0)


def one_minus_ned(text: str, label: str) -> float:
    """1-NED of one image: 1 minus edit distance / length of the longer of the two.

    Source: the ICDAR 2019 competitions (ReCTS, ArT, LSVT); a set's figure is the mean.
    """
    return 1.0 - edit_distance(text, label) / max(len(text), len(label), 1)
