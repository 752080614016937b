"""Sums over the devices that take a step together."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def all_reduce_sum(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Adds up what each device has found; on one device it stays as it is.

    Args:
        values: Tensors whose shapes are the same on every device.

    Returns:
        Their sums, the same on every device; gradients flow back to all of them.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return list(values)
    summed: list[tf.Tensor] = context.all_reduce(tf.distribute.ReduceOp.SUM, list(values))
    return summed
