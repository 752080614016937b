"""What every part of the network is made of: start values, linear maps, batch norm, cells.

The weights are plain `tf.Variable`s on `tf.Module`s: a checkpoint names them by their path, and
a SavedModel of them loads through the C API that TensorFlow Serving uses.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence

import tensorflow as tf

from aocr.runtime import collectives

BATCH_NORM_MOMENTUM = 0.99
BATCH_NORM_EPSILON = 1e-3


class Initializer:
    """Draws start values: the same for the same seed and name, whatever else is drawn.

    Args:
        seed: The run's seed.
        dtype: Type of the variables (float32; float64 for exact comparisons).
    """

    def __init__(self, seed: int = 0, dtype: tf.DType = tf.float32) -> None:
        self._seed = seed
        self._dtype = dtype

    def glorot(self, name: str, shape: Sequence[int]) -> tf.Variable:
        """Uniform in ±sqrt(6 / (fan in + fan out)).

        Source: Glorot and Bengio 2010; the original's start for every matrix. A vector counts
        its length as both fans, as TensorFlow 1 did.
        """
        area = math.prod(shape[:-2])
        fan_in, fan_out = (shape[-2] if len(shape) > 1 else shape[0]) * area, shape[-1] * area
        limit = math.sqrt(6.0 / (fan_in + fan_out))
        seed = (self._seed, zlib.crc32(name.encode()) & 0x7FFFFFFF)
        value = tf.random.stateless_uniform(shape, seed, -limit, limit, dtype=self._dtype)
        return tf.Variable(value, name=name)

    def constant(
        self, name: str, shape: Sequence[int], value: float, trainable: bool = True
    ) -> tf.Variable:
        """The same number everywhere."""
        start = tf.fill(shape, tf.constant(value, self._dtype))
        return tf.Variable(start, name=name, trainable=trainable)


class ZeroInitializer(Initializer):
    """Draws nothing: for weights that are read or copied into their place."""

    def glorot(self, name: str, shape: Sequence[int]) -> tf.Variable:
        """Zeros."""
        return self.constant(name, shape, 0.0)


class Linear(tf.Module):
    """`x @ kernel + bias`; kernel `[inputs, units]`, bias `[units]`."""

    def __init__(self, init: Initializer, name: str, inputs: int, units: int) -> None:
        super().__init__()
        self.kernel = init.glorot(f"{name}/kernel", [inputs, units])
        self.bias = init.constant(f"{name}/bias", [units], 0.0)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Maps the last axis of `x`, `[..., inputs]` → `[..., units]`."""
        return tf.tensordot(x, self.kernel, 1) + self.bias


class BatchNorm(tf.Module):
    """Batch norm over `[batch, height, width, units]` that leaves padding out of its statistics.

    The batch is the global one, that of all devices which take a step together.

    At update t the momentum is min(0.99, (t - 1) / (t + 9)): the start values never weigh
    anything, and early on the averages look back over the last tenth of the steps, as 0.99 from
    the first step on would look back to weights that are long outdated.
    """

    def __init__(self, init: Initializer, name: str, units: int) -> None:
        super().__init__()
        self.gamma = init.constant(f"{name}/gamma", [units], 1.0)
        self.beta = init.constant(f"{name}/beta", [units], 0.0)
        self.moving_mean = init.constant(f"{name}/moving_mean", [units], 0.0, trainable=False)
        self.moving_variance = init.constant(
            f"{name}/moving_variance", [units], 1.0, trainable=False)
        self.updates = tf.Variable(0, dtype=tf.int64, trainable=False, name=f"{name}/updates")

    def by_average(self, x: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
        """Normalises with the saved statistics; the mask is not needed."""
        del mask
        return self._normalize(x, self.moving_mean, self.moving_variance)

    def by_batch(self, x: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
        """Normalises with the batch's own statistics and takes them into the averages.

        Args:
            x: `[batch, height, width, units]`.
            mask: `[batch, 1, width, 1]`, 1 for image and 0 for padding; `None` where there is no
                padding.
        """
        least = tf.constant(1.0 - BATCH_NORM_MOMENTUM, tf.float64)
        return self._by_batch(x, mask, lambda t: tf.maximum(least, 10.0 / (t + 9.0)))

    def by_batch_evenly(self, x: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
        """As `by_batch`, with averages in which every update since the first weighs the same."""
        return self._by_batch(x, mask, lambda t: 1.0 / t)

    def _by_batch(self, x: tf.Tensor, mask: tf.Tensor | None,
                  weight: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        if mask is None:
            normalized, mean, variance = self._fused(x)
        else:
            mean, variance = self._moments(x, mask)
            normalized = self._normalize(x, mean, variance)
        share = weight(tf.cast(self.updates.assign_add(1), tf.float64))
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign_add((value - average) * tf.cast(share, average.dtype))
        return normalized

    def _moments(self, x: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and variance of what the mask leaves of the global batch."""
        x, mask = tf.cast(x, self.gamma.dtype), tf.cast(mask, self.gamma.dtype)
        count, sums = collectives.all_reduce_sum([
            tf.reduce_sum(mask) * tf.cast(tf.shape(x)[1], x.dtype),
            tf.reduce_sum(x * mask, [0, 1, 2])])
        mean = sums / count
        (squares,) = collectives.all_reduce_sum([
            tf.reduce_sum(tf.math.squared_difference(x, mean) * mask, [0, 1, 2])])
        return mean, squares / count

    def _fused(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The batch without padding, normalised by one operation; its mean and variance."""
        fused = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=self.gamma, offset=self.beta, mean=[], variance=[],
            epsilon=BATCH_NORM_EPSILON, is_training=True)
        count = tf.cast(tf.size(x) // tf.shape(x)[3], self.gamma.dtype)
        # The operation estimates the variance of what the batch is a sample of.
        return fused.y, fused.batch_mean, fused.batch_variance * (count - 1.0) / count

    def _normalize(self, x: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor) -> tf.Tensor:
        scale = self.gamma * tf.math.rsqrt(variance + BATCH_NORM_EPSILON)
        offset = self.beta - mean * scale
        if x.dtype == scale.dtype:
            return x * scale + offset
        # One pass over `x`, which is computed in float32 whatever its type is.
        zeros = tf.zeros_like(scale)
        return tf.raw_ops.FusedBatchNormV3(
            x=x, scale=scale, offset=offset, mean=zeros, variance=zeros + 1.0, epsilon=0.0,
            is_training=False).y
