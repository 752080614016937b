"""The network that is read: the average of what the trained one has lately been."""

from __future__ import annotations

import tensorflow as tf

from aocr.config import ModelConfig
from aocr.model import AttentionOCR
from aocr.model.layers import BatchNorm, ZeroInitializer

EVERY = 5  # steps from one update to the next
_LEAST_SHARE = 0.02


class Average:
    """Follows the weights of another network.

    At update t it goes max(0.02, 10 / (t + 9)) of the way to them: the first one copies them,
    early on it looks back over the last tenth of the steps, and never over more than 250. The
    last weights of a training differ from step to step in what they read (receipt-numbers at
    steps 400 to 800: 80 to 83 %); their average reads more than any of them (84 to 85 %).

    Source: Polyak and Juditsky 1992, "Acceleration of stochastic approximation by averaging".

    Args:
        followed: The network that is trained.
        config: Its sizes.
        dtype: Type of its weights.

    Attributes:
        network: The average, with batch-norm statistics of its own.
        updates: Their number so far, int64.
    """

    def __init__(self, followed: AttentionOCR, config: ModelConfig, dtype: tf.DType) -> None:
        self.network = AttentionOCR(config, ZeroInitializer(dtype=dtype))
        self.updates = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._followed = followed

    def follow(self) -> None:
        """One update."""
        t = tf.cast(self.updates.assign_add(1), tf.float64)
        self._go(tf.maximum(tf.constant(_LEAST_SHARE, tf.float64), 10.0 / (t + 9.0)))

    def begin(self) -> None:
        """Copies the weights where there was no update yet, and statistics where it has none."""
        if not self.updates.numpy():
            self._go(tf.constant(1.0, tf.float64))
        for own, other in zip(norms(self.network), norms(self._followed), strict=True):
            if not own.updates.numpy():
                own.moving_mean.assign(other.moving_mean)
                own.moving_variance.assign(other.moving_variance)

    def _go(self, share: tf.Tensor) -> None:
        for own, other in zip(self.network.trainable_variables,
                              self._followed.trainable_variables, strict=True):
            part = tf.cast(share, own.dtype)
            own.assign((1 - part) * own + part * other)


def norms(network: AttentionOCR) -> list[BatchNorm]:
    """The batch norms of a network."""
    return [conv.norm for conv in network.cnn.convs if conv.norm is not None]
