"""AdaDelta as TensorFlow 1 had it, in its fused kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

RHO = 0.95
EPSILON = 1e-8


class Adadelta(tf.Module):
    """Keeps the two running averages of every variable and applies gradients.

    Source: Zeiler 2012; rho and epsilon are the original's.

    Args:
        variables: What is trained.
        learning_rate: Factor on every update.
    """

    def __init__(self, variables: Sequence[tf.Variable], learning_rate: float) -> None:
        super().__init__()
        self._variables = list(variables)
        self._learning_rate = learning_rate
        self.accumulators = [self._slot(variable) for variable in variables]
        self.updates = [self._slot(variable) for variable in variables]

    def apply(self, gradients: Sequence[tf.Tensor]) -> None:
        """Changes the variables by one step along dense gradients, in the same order."""
        for variable, accumulator, update, gradient in zip(
                self._variables, self.accumulators, self.updates, gradients, strict=True):
            number = variable.dtype
            tf.raw_ops.ResourceApplyAdadelta(
                var=variable.handle, accum=accumulator.handle, accum_update=update.handle,
                lr=tf.constant(self._learning_rate, number), rho=tf.constant(RHO, number),
                epsilon=tf.constant(EPSILON, number), grad=gradient)

    def _slot(self, variable: tf.Variable) -> tf.Variable:
        return tf.Variable(tf.zeros_like(variable), trainable=False)


START = 2.0 ** 15
_LARGEST = 2.0 ** 100
_PATIENCE = 1000  # steps without overflow after which the factor is doubled


class LossScale(tf.Module):
    """The loss is multiplied by a power of two before gradients are computed, and they divided.

    A step whose gradients overflow changes no weight, and halves the factor. Checkpoints hold the
    factor, so that a resumed training passes over the same steps as an uninterrupted one.

    Source: Micikevicius et al. 2018, "Mixed Precision Training".

    Attributes:
        factor: The present factor.
    """

    def __init__(self) -> None:
        super().__init__()
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.factor = tf.Variable(START, trainable=False, aggregation=first)
        self._calm = tf.Variable(0, trainable=False, aggregation=first)

    def unscaled(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Gradients of the loss, from those of the loss times the factor."""
        return [gradient / self.factor for gradient in gradients]

    def guarded(self, norm: tf.Tensor, apply: Callable[[], None]) -> tf.Tensor:
        """Takes the step if its gradients are finite, and fits the factor to it.

        Args:
            norm: The gradients' global norm.
            apply: Changes the weights.

        Returns:
            The norm, or 0 where nothing was changed; still not finite once the factor is below 1,
            when not the factor is to blame.
        """
        finite = tf.math.is_finite(norm)

        def change() -> tf.Tensor:
            apply()
            return tf.constant(0)

        tf.cond(finite, change, lambda: tf.constant(0))
        calm = tf.where(finite, self._calm + 1, 0)
        grown = tf.where(calm >= _PATIENCE, tf.minimum(2.0 * self.factor, _LARGEST), self.factor)
        factor = tf.where(finite, grown, 0.5 * self.factor)
        self._calm.assign(tf.where(calm >= _PATIENCE, 0, calm))
        self.factor.assign(factor)
        return tf.where(finite | (factor < 1.0), norm, tf.zeros_like(norm))
