"""Optimizers: gradients are applied to variables by one fused kernel for each of them."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

RHO = 0.95
EPSILON = 1e-8


class Adadelta(tf.Module):
    """AdaDelta as in TensorFlow 1: two running averages for each variable.

    Source: Zeiler 2012, "ADADELTA: An adaptive learning rate method"; rho and epsilon are those of
    the original aocr.

    Args:
        variables: The variables to train.
    """

    def __init__(self, variables: Sequence[tf.Variable]) -> None:
        super().__init__()
        self._variables = list(variables)
        self.accumulators = [_zeros_like(variable) for variable in variables]
        self.updates = [_zeros_like(variable) for variable in variables]

    def apply(self, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor) -> None:
        """Updates the variables by one step.

        Args:
            gradients: Dense gradients, in the order of the variables.
            learning_rate: Factor on every update, scalar.
        """
        for variable, accumulator, update, gradient in zip(
                self._variables, self.accumulators, self.updates, gradients, strict=True):
            dtype = variable.dtype
            tf.raw_ops.ResourceApplyAdadelta(
                var=variable.handle, accum=accumulator.handle, accum_update=update.handle,
                lr=tf.cast(learning_rate, dtype), rho=tf.constant(RHO, dtype),
                epsilon=tf.constant(EPSILON, dtype), grad=gradient)


def _zeros_like(variable: tf.Variable) -> tf.Variable:
    return tf.Variable(tf.zeros_like(variable), trainable=False)
