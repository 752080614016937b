"""Building blocks: weight initialization, linear layers and batch normalization.

The weights are `tf.Variable` attributes of `tf.Module` objects: a checkpoint identifies them by
their attribute path, and a SavedModel of them loads through the C API that TensorFlow Serving uses.
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
    """Creates variables whose initial values depend only on the seed and their own name.

    Args:
        seed: The seed of the run.
        dtype: Type of the variables: float32, or float64 for exact comparisons.
    """

    def __init__(self, seed: int = 0, dtype: tf.DType = tf.float32) -> None:
        self._seed = seed
        self._dtype = dtype

    def glorot(self, name: str, shape: Sequence[int]) -> tf.Variable:
        """Creates a variable drawn uniformly from ±sqrt(6 / (fan in + fan out)).

        Source: Glorot and Bengio 2010, which the original uses for every matrix. The length of a
        vector counts as both fans, as in TensorFlow 1.
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
        """Creates a variable with the same value everywhere."""
        initial = tf.fill(shape, tf.constant(value, self._dtype))
        return tf.Variable(initial, name=name, trainable=trainable)

    def counter(self, name: str) -> tf.Variable:
        """Creates an int64 scalar that starts at 0 and is not trained."""
        return tf.Variable(0, dtype=tf.int64, trainable=False, name=name)


class ZeroInitializer(Initializer):
    """Initializes with zeros the weights that will be restored or copied from elsewhere."""

    def glorot(self, name: str, shape: Sequence[int]) -> tf.Variable:
        """Creates a variable of zeros."""
        return self.constant(name, shape, 0.0)


class Linear(tf.Module):
    """Linear layer, `x @ kernel + bias`.

    Weights: kernel `[inputs, units]`, bias `[units]`.

    Args:
        init: Draws the weights.
        name: Name from which the weights are seeded.
        inputs: Size of the input.
        units: Size of the output.
    """

    def __init__(self, init: Initializer, name: str, inputs: int, units: int) -> None:
        super().__init__()
        self.kernel = init.glorot(f"{name}/kernel", [inputs, units])
        self.bias = init.constant(f"{name}/bias", [units], 0.0)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Maps the last axis of `x`, `[..., inputs]` to `[..., units]`."""
        return tf.tensordot(x, self.kernel, 1) + self.bias


class BatchNorm(tf.Module):
    """Batch normalization over `[batch, height, width, units]`, without the padding.

    In training, the statistics are those of the global batch, over all replicas. At update t the
    momentum of their moving averages is min(0.99, (t - 1) / (t + 9)): the initial values have no
    weight, and early averages cover about the last tenth of the steps, where a constant 0.99 would
    include statistics of outdated weights.

    Weights: gamma, beta, moving_mean and moving_variance, all `[units]`.

    Source: Ioffe and Szegedy 2015, "Batch Normalization" (https://arxiv.org/abs/1502.03167).

    Args:
        init: Creates the weights.
        name: Name of the variables.
        units: Size of the last axis.
    """

    def __init__(self, init: Initializer, name: str, units: int) -> None:
        super().__init__()
        self.gamma = init.constant(f"{name}/gamma", [units], 1.0)
        self.beta = init.constant(f"{name}/beta", [units], 0.0)
        self.moving_mean = init.constant(f"{name}/moving_mean", [units], 0.0, trainable=False)
        self.moving_variance = init.constant(
            f"{name}/moving_variance", [units], 1.0, trainable=False)
        self.updates = init.counter(f"{name}/updates")

    def inference(self, x: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
        """Normalizes with the moving averages; the mask is not needed."""
        del mask
        return self._normalize(x, self.moving_mean, self.moving_variance)

    def training(self, x: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
        """Normalizes with the statistics of the batch, and updates the moving averages.

        Args:
            x: `[batch, height, width, units]`.
            mask: `[batch, 1, width, 1]`, 1 for image and 0 for padding; `None` without padding.
        """
        least_share = tf.constant(1.0 - BATCH_NORM_MOMENTUM, tf.float64)
        return self._by_batch(x, mask, lambda t: tf.maximum(least_share, 10.0 / (t + 9.0)))

    def recalibration(self, x: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
        """Normalizes as `training` does, but gives all updates the same weight in the averages.

        Source: Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm" (precise batch norm,
        https://arxiv.org/abs/2105.07576).
        """
        return self._by_batch(x, mask, lambda t: 1.0 / t)

    def _by_batch(self, x: tf.Tensor, mask: tf.Tensor | None,
                  share: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        """Normalizes by the batch, whose share in the averages depends on the update's number."""
        if mask is None:
            normalized, mean, variance = self._fused(x)
        else:
            mean, variance = self._moments(x, mask)
            normalized = self._normalize(x, mean, variance)
        weight = share(tf.cast(self.updates.assign_add(1), tf.float64))
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign_add((value - average) * tf.cast(weight, average.dtype))
        return normalized

    def _moments(self, x: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns mean and variance of the global batch, `[units]`, without the padding."""
        x, mask = tf.cast(x, self.gamma.dtype), tf.cast(mask, self.gamma.dtype)
        count, sums = collectives.all_reduce_sum([
            tf.reduce_sum(mask) * tf.cast(tf.shape(x)[1], x.dtype),
            tf.reduce_sum(x * mask, [0, 1, 2])])
        mean = sums / count
        (squares,) = collectives.all_reduce_sum([
            tf.reduce_sum(tf.math.squared_difference(x, mean) * mask, [0, 1, 2])])
        return mean, squares / count

    def _fused(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Normalizes a batch without padding in one operation; returns mean and variance too."""
        fused = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=self.gamma, offset=self.beta, mean=[], variance=[],
            epsilon=BATCH_NORM_EPSILON, is_training=True)
        count = tf.cast(tf.size(x) // tf.shape(x)[3], self.gamma.dtype)
        # The operation returns the unbiased variance, divided by count - 1.
        return fused.y, fused.batch_mean, fused.batch_variance * (count - 1.0) / count

    def _normalize(self, x: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor) -> tf.Tensor:
        scale = self.gamma * tf.math.rsqrt(variance + BATCH_NORM_EPSILON)
        offset = self.beta - mean * scale
        if x.dtype == scale.dtype:
            return x * scale + offset
        # One pass over a half-precision `x`, which the operation computes in float32.
        zeros = tf.zeros_like(scale)
        return tf.raw_ops.FusedBatchNormV3(
            x=x, scale=scale, offset=offset, mean=zeros, variance=zeros + 1.0, epsilon=0.0,
            is_training=False).y
