"""AdaDelta as TensorFlow 1 had it, in its fused kernel."""

from __future__ import annotations

from collections.abc import Sequence

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
