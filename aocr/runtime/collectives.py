"""Collective operations across replicas."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def all_reduce_sum(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Sums values over all replicas; returns those of a single replica unchanged.

    Args:
        values: Tensors of the same shape on every replica.

    Returns:
        The sums, the same on every replica; gradients flow back to all of them.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return list(values)
    sums: list[tf.Tensor] = context.all_reduce(tf.distribute.ReduceOp.SUM, list(values))
    return sums
