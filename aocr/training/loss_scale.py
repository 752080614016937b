"""Dynamic loss scaling for training in float16."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

INITIAL_FACTOR = 2.0 ** 15
_MAX_FACTOR = 2.0 ** 100
_GROWTH_STEPS = 1000  # steps without overflow after which the factor is doubled


class LossScale(tf.Module):
    """Multiplies the loss by a power of two, and divides the gradients by it.

    A step whose gradients overflow changes no weight and halves the factor. Checkpoints hold the
    factor, so that a resumed run skips the same steps as an uninterrupted one.

    Source: Micikevicius et al. 2018, "Mixed Precision Training".

    Attributes:
        factor: The current factor.
    """

    def __init__(self) -> None:
        super().__init__()
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.factor = tf.Variable(INITIAL_FACTOR, trainable=False, aggregation=first)
        self._calm = tf.Variable(0, trainable=False, aggregation=first)

    def unscale(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Returns the gradients of the loss, given those of the scaled loss."""
        return [gradient / self.factor for gradient in gradients]

    def apply_if_finite(self, norm: tf.Tensor, apply: Callable[[], None]) -> tf.Tensor:
        """Applies the gradients if they are finite, and adjusts the factor.

        Args:
            norm: Global norm of the gradients, scalar.
            apply: Applies the gradients to the weights.

        Returns:
            The norm, or 0 where the step was skipped. A norm that is not finite although the factor
            is below 1 is returned as it is: scaling did not cause it.
        """
        finite = tf.math.is_finite(norm)

        def change() -> tf.Tensor:
            apply()
            return tf.constant(0)

        tf.cond(finite, change, lambda: tf.constant(0))
        calm = tf.where(finite, self._calm + 1, 0)
        grown = tf.where(calm >= _GROWTH_STEPS, tf.minimum(2.0 * self.factor, _MAX_FACTOR),
                         self.factor)
        factor = tf.where(finite, grown, 0.5 * self.factor)
        self._calm.assign(tf.where(calm >= _GROWTH_STEPS, 0, calm))
        self.factor.assign(factor)
        return tf.where(finite | (factor < 1.0), norm, tf.zeros_like(norm))
