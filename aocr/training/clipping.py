"""Clipping of gradients by their global norm."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

DECAY = 0.95
FIRST_STEPS = 20


class GradientClipping(tf.Module):
    """Limits the global norm of the gradients, also relative to the norms of the last steps.

    The second limit, from the 21st step on, is a multiple of a moving geometric mean of the norms
    before clipping. It matters when nearly all images are recognized: norms may then be below
    0.001, and a batch with an image that is not recognized has a norm a thousand times as high.
    Adam divides by the root mean square of the last hundred gradients, so without that limit such
    a batch moves all weights by up to the learning rate, and after a few steps the model recognizes
    no image. A norm a thousand times as high multiplies the geometric mean only by 1.4.

    Source: Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural
    networks" (constant limit); Kumar et al. 2025, "ZClip: Adaptive spike mitigation for LLM
    pre-training" (limit that depends on the last norms: there on their mean and deviation).

    Args:
        max_norm: The constant limit; `None` disables both.
        max_ratio: The other limit, in multiples of the mean; infinite for none.
    """

    def __init__(self, max_norm: float | None, max_ratio: float) -> None:
        super().__init__()
        self._max_norm, self._max_ratio = max_norm, max_ratio
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self._log_norm = tf.Variable(0, dtype=tf.float64, trainable=False, aggregation=first)
        self._steps = tf.Variable(0, dtype=tf.int64, trainable=False, aggregation=first)

    def clip(self, gradients: Sequence[tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Clips the gradients of a step, and adds their norm before that to the mean.

        Args:
            gradients: Dense gradients. A norm that is not finite, or 0, does not count.

        Returns:
            The clipped gradients, in the same order and shapes, and their global norm, scalar. If
            it is not finite, neither are the gradients.
        """
        norm = tf.linalg.global_norm(gradients)
        if self._max_norm is None:
            return list(gradients), norm
        limit = tf.cast(self._limit(self._max_norm), norm.dtype)
        self._add(tf.cast(norm, tf.float64))
        factor = tf.where(norm > limit, limit * tf.math.reciprocal(norm), tf.ones_like(norm))
        # Gradients that are not finite must not become 0: the weights would seem to be correct.
        factor = tf.where(tf.math.is_finite(norm), factor, norm)
        return [gradient * factor for gradient in gradients], norm * factor

    def _limit(self, max_norm: float) -> tf.Tensor:
        weight = 1.0 - tf.constant(DECAY, tf.float64) ** tf.cast(self._steps, tf.float64)
        mean = tf.exp(tf.math.divide_no_nan(self._log_norm, weight))
        relative = tf.minimum(self._max_ratio * mean, max_norm)
        return tf.where(self._steps < FIRST_STEPS, tf.constant(max_norm, tf.float64), relative)

    def _add(self, norm: tf.Tensor) -> None:
        counts = tf.math.is_finite(norm) & (norm > 0)
        log_norm = tf.math.log(tf.where(counts, norm, 1.0))
        moved = DECAY * self._log_norm + (1.0 - DECAY) * log_norm
        self._log_norm.assign(tf.where(counts, moved, self._log_norm))
        self._steps.assign_add(tf.cast(counts, tf.int64))
