"""Optimizers, which update each variable with one fused kernel."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

RHO = 0.95
EPSILON = 1e-8
BETA_1 = 0.9
BETA_2 = 0.99


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


class Adam(tf.Module):
    """Adam: bias-corrected running means of every gradient and of its square.

    Source: Kingma and Ba 2015, "Adam: A method for stochastic optimization". With a beta_2 of
    0.999 instead of 0.99, lines are learned faster at first and other text is not, with the same
    accuracy after a few hundred steps (tests/benchmarks/README.md).

    Args:
        variables: The variables to train.
    """

    def __init__(self, variables: Sequence[tf.Variable]) -> None:
        super().__init__()
        self._variables = list(variables)
        self.updates = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.means = [_zeros_like(variable) for variable in variables]
        self.squares = [_zeros_like(variable) for variable in variables]

    def apply(self, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor) -> None:
        """Updates the variables by one step.

        Args:
            gradients: Dense gradients, in the order of the variables.
            learning_rate: Factor on every update, scalar.
        """
        t = tf.cast(self.updates.assign_add(1), tf.float64)
        powers = [tf.constant(beta, tf.float64) ** t for beta in (BETA_1, BETA_2)]
        for variable, mean, square, gradient in zip(
                self._variables, self.means, self.squares, gradients, strict=True):
            dtype = variable.dtype
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle, m=mean.handle, v=square.handle,
                beta1_power=tf.cast(powers[0], dtype), beta2_power=tf.cast(powers[1], dtype),
                lr=tf.cast(learning_rate, dtype), beta1=tf.constant(BETA_1, dtype),
                beta2=tf.constant(BETA_2, dtype), epsilon=tf.constant(EPSILON, dtype),
                grad=gradient)


_CLASSES: dict[str, type[Adam] | type[Adadelta]] = {"adam": Adam, "adadelta": Adadelta}


def make_optimizer(name: str, variables: Sequence[tf.Variable]) -> Adam | Adadelta:
    """Returns a new optimizer, one of `aocr.config.OPTIMIZERS`."""
    return _CLASSES[name](variables)


def _zeros_like(variable: tf.Variable) -> tf.Variable:
    return tf.Variable(tf.zeros_like(variable), trainable=False)
