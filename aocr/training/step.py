"""One training step, and everything that it changes: the only room with an optimizer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from aocr.checkpoints.saver import Saved
from aocr.config import (
    COLUMN_PIXELS,
    CONV_FEATURES,
    IMAGE_HEIGHT,
    ModelConfig,
    TrainConfig,
    compute_type,
)
from aocr.data import pipeline
from aocr.model import AttentionOCR, packing
from aocr.model.layers import Initializer
from aocr.model.loss import sequence_loss
from aocr.model.packing import Packing
from aocr.runtime import collectives
from aocr.runtime.distributed import Cluster
from aocr.training.averaging import EVERY, Average, norms
from aocr.training.optimizer import Adadelta, LossScale
from aocr.training.state import Best

KEEP_PROBABILITY = 0.5
PRECISE_BN_BATCHES = 8


class Trainer:
    """The network with everything that a step changes, all of it in the checkpoint.

    Args:
        config: Sizes of the network.
        settings: Learning rate, clipping, seed.
        cluster: The devices; `None` for one.
        dtype: Type of the weights (float32; float64 for exact comparisons).

    Attributes:
        model: The network that learns.
        average: The average of what it has lately been; the network that is read.
        step: Steps taken so far, int64.
        epoch: The running epoch, from 0, int64.
        position: Records of the running epoch that have been used, int64.
        best: The best validation so far.
        checkpoint: All of the above, and the optimizer.
    """

    def __init__(self, config: ModelConfig, settings: TrainConfig,
                 cluster: Cluster | None = None, dtype: tf.DType = tf.float32) -> None:
        self._settings, self._dtype = settings, dtype
        self._compute = tf.as_dtype(compute_type(settings.precision)) if (
            dtype == tf.float32) else dtype
        self._cluster = cluster or Cluster(tf.distribute.get_strategy())
        with self._cluster.strategy.scope():
            self.model = AttentionOCR(config, Initializer(settings.seed, dtype))
            self._variables = list(self.model.trainable_variables)
            self._optimizer = Adadelta(self._variables, settings.initial_learning_rate)
            self.step, self.epoch, self.position = (
                tf.Variable(0, dtype=tf.int64, trainable=False) for _ in range(3))
            self.best = Best()
            self._scale = LossScale()
            self._average = Average(self.model, config, dtype)
        self.average = self._average.network
        self.checkpoint = tf.train.Checkpoint(
            model=self.average, averaged=self._average.updates, trained=self.model,
            optimizer=self._optimizer, step=self.step, epoch=self.epoch, position=self.position,
            best=self.best, scale=self._scale)
        signature = [tf.TensorSpec([None, IMAGE_HEIGHT, None, config.channels], tf.float32),
                     tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, None], tf.int32),
                     tf.TensorSpec([2], tf.int32)]
        self._take_step = self._compiled(self._graph, signature)
        self._settle = self._compiled(self._settle_graph, signature[:2])
        self._follow = tf.function(
            lambda: self._cluster.strategy.run(self._average.follow), autograph=False)
        self._recent: deque[tuple[pipeline.Batch, list[Packing]]] = deque(maxlen=PRECISE_BN_BATCHES)

    def take_step(self, batch: pipeline.Batch, widths: np.ndarray) -> tuple[float, float]:
        """Changes the weights by one batch.

        Args:
            batch: This process's rows of it; an image of width 0 counts for nothing.
            widths: The widths of all images in the batch of all processes, `[rows]`.

        Returns:
            Its loss before the change, and the gradients' global norm after clipping.
        """
        packings = self._packings(batch)
        whole = tf.constant(
            [max(len(widths), self._cluster.replicas), widths.max()], tf.int32)
        loss, norm = self._take_step[len(packings)](
            batch.images, batch.widths, batch.targets, whole, *packings)
        self._recent.append((batch, packings))
        if int(self.step.numpy()) % EVERY == 0:
            self._follow()
        return float(loss), float(norm)

    def settle(self) -> None:
        """Makes the average's batch-norm statistics those of its weights, before it is saved.

        Statistics that run along with a training look back over up to a hundred steps, in which
        the weights change: on receipt-numbers at step 500 they read 76 %, the statistics of the
        batches 82 %. Only batches since the last call count, so that a training resumed from a
        regular checkpoint settles as an uninterrupted one does; where they are too few, the
        earlier statistics stay.

        Source: Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm" (precise batch norm).
        """
        self._average.begin()
        if len(self._recent) == PRECISE_BN_BATCHES:
            for norm in norms(self.average):
                norm.updates.assign(0)
            for batch, packings in self._recent:
                self._settle[len(packings)](batch.images, batch.widths, *packings)
        self._recent.clear()

    def saved(self) -> Saved:
        """What checkpoints of this training hold."""
        return Saved(self.checkpoint, tf.train.Checkpoint(model=self.average), self.step,
                     self.finite)

    def finite(self) -> bool:
        """Whether every weight and every average is a finite number."""
        return bool(self._all_finite())

    @tf.function(autograph=False)
    def _all_finite(self) -> tf.Tensor:
        numbers = [each for part in (self.model, self.average, self._optimizer)
                   for each in part.variables if each.dtype.is_floating]
        return tf.reduce_all([tf.reduce_all(tf.math.is_finite(each)) for each in numbers])

    def _compiled(self, graph: Callable[..., Any], signature: list[tf.TensorSpec]
                  ) -> list[Callable[..., Any]]:
        """A graph for batches without padding, and one that is told a packing at the end."""
        spec = Packing(tf.TensorSpec([None], tf.int32), tf.TensorSpec([2], tf.int32))
        return [tf.function(partial(self._everywhere, graph), autograph=False,
                            input_signature=each) for each in (signature, [*signature, spec])]

    def _everywhere(self, graph: Callable[..., Any], *inputs: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Runs a graph on every device, which takes its share of the rows."""
        strategy = self._cluster.strategy
        return tuple(strategy.experimental_local_results(each)[0]
                     for each in strategy.run(graph, inputs))

    def _graph(self, images: tf.Tensor, widths: tf.Tensor, targets: tf.Tensor, whole: tf.Tensor,
               *packings: Packing) -> tuple[tf.Tensor, tf.Tensor]:
        images, widths, targets = (self._own(each) for each in (images, widths, targets))
        half = self._compute == tf.float16
        (count,) = collectives.all_reduce_sum([tf.math.count_nonzero(widths, dtype=self._dtype)])
        with tf.GradientTape() as tape:
            keep = self._keep(whole, tf.shape(images)[2])
            memory = self.model.encode_batch(
                tf.cast(images, self._compute), widths, keep, *self._own_places(packings))
            logits = self.model.teacher_forced(memory, targets)
            loss = tf.reduce_sum(sequence_loss(logits, targets)) / count
            scaled = loss * self._scale.factor if half else loss
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(scaled, self._variables)]
        if half:
            gradients = self._scale.unscaled(gradients)
        loss, *gradients = collectives.all_reduce_sum([loss, *gradients])
        norm = total = tf.linalg.global_norm(gradients)
        limit = self._settings.max_gradient_norm
        if limit is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, limit, total)
            norm = tf.where(tf.math.is_finite(total), tf.minimum(total, limit), total)
        if half:
            norm = self._scale.guarded(norm, lambda: self._optimizer.apply(gradients))
        else:
            self._optimizer.apply(gradients)
        self.step.assign_add(1)
        return loss, norm

    def _settle_graph(self, images: tf.Tensor, widths: tf.Tensor, *packings: Packing
                      ) -> tuple[tf.Tensor, ...]:
        self.average.settle(tf.cast(self._own(images), self._compute), self._own(widths),
                            *self._own_places(packings))
        return ()

    def _own(self, rows: tf.Tensor) -> tf.Tensor:
        """This device's rows of those of its process."""
        local = self._cluster.local_replicas
        return rows if local == 1 else rows[_replica() % local::local]

    def _own_places(self, packings: Sequence[Packing]) -> list[Packing]:
        return [each._replace(places=self._own(each.places)) for each in packings]

    def _keep(self, whole: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        """Dropout's factors for this device's features.

        They depend on seed, step and an image's place in the whole batch alone.

        Args:
            whole: Rows of the whole batch and its greatest width, `[2]` int32.
            width: Of this device's images.
        """
        columns = -(-tf.maximum(whole[1], width) // COLUMN_PIXELS)
        seed = tf.stack([tf.constant(self._settings.seed, tf.int64), self.step])
        chance = tf.random.stateless_uniform([whole[0], columns, CONV_FEATURES], seed)
        chance = chance[_replica()::self._cluster.replicas, :-(-width // COLUMN_PIXELS)]
        return tf.cast(chance < KEEP_PROBABILITY, self._dtype) / KEEP_PROBABILITY

    def _packings(self, batch: pipeline.Batch) -> list[Packing]:
        """One packing of the batch, or none where no image is narrower than the batch."""
        widths = batch.widths.numpy()
        # The fused batch norm of a batch without padding does not sum over devices.
        fused = self._cluster.replicas == 1 and self._compute != tf.float64
        if fused and np.all(widths == batch.images.shape[2]):
            return []
        return [packing.plan(widths, self._cluster.local_replicas)]


def _replica() -> int | tf.Tensor:
    """Number of the device that runs this part of a graph."""
    return tf.distribute.get_replica_context().replica_id_in_sync_group
