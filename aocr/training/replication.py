"""Compiles functions that every replica of a process runs on its rows of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from aocr.model.packing import Packing
from aocr.runtime.distributed import Cluster


class ReplicatedFunction:
    """A function that every replica runs on its share of the rows of this process.

    Each replica takes every n-th row, so that all of them get as many wide images, because rows are
    ordered by width.

    Args:
        function: Called as `function(*rows, *others, packing)`; `packing` is `None` for batches
            without padding. Returns a sequence of tensors, equal on all replicas.
        cluster: The replicas.
        rows: Specification of the inputs that have a row for each image of the batch.
        others: Specification of the inputs that all replicas get as they are.
    """

    def __init__(self, function: Callable[..., Sequence[tf.Tensor]], cluster: Cluster,
                 rows: Sequence[tf.TensorSpec], others: Sequence[tf.TensorSpec] = ()) -> None:
        self._function = function
        self._cluster = cluster
        packing = Packing(tf.TensorSpec([None], tf.int32), tf.TensorSpec([2], tf.int32))
        self._padded, self._packed = (
            tf.function(self._run, autograph=False, input_signature=signature)
            for signature in ([tuple(rows), tuple(others)], [tuple(rows), tuple(others), packing]))

    def __call__(self, rows: Sequence[tf.Tensor], packing: Packing | None,
                 *others: tf.Tensor) -> Sequence[tf.Tensor]:
        """Runs the function on all replicas; returns the outputs of this process's first one."""
        inputs: list[Any] = [tuple(rows), others]
        return self._padded(*inputs) if packing is None else self._packed(*inputs, packing)

    def _run(self, rows: Sequence[tf.Tensor], others: Sequence[tf.Tensor],
             packing: Packing | None = None) -> tuple[tf.Tensor, ...]:
        strategy = self._cluster.strategy
        outputs = strategy.run(self._run_replica, (rows, others, packing))
        return tuple(strategy.experimental_local_results(output)[0] for output in outputs)

    def _run_replica(self, rows: Sequence[tf.Tensor], others: Sequence[tf.Tensor],
                     packing: Packing | None) -> Sequence[tf.Tensor]:
        if packing is not None:
            packing = packing._replace(offsets=self._replica_rows(packing.offsets))
        return self._function(*(self._replica_rows(tensor) for tensor in rows), *others, packing)

    def _replica_rows(self, rows: tf.Tensor) -> tf.Tensor:
        local = self._cluster.local_replicas
        return rows if local == 1 else rows[replica_number() % local::local]


def replica_number() -> int | tf.Tensor:
    """Returns the number of the replica that runs this part of a graph."""
    return tf.distribute.get_replica_context().replica_id_in_sync_group
