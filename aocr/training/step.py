"""One training step, on all replicas."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from aocr.config import (
    COLUMN_PIXELS,
    CONV_FEATURES,
    IMAGE_HEIGHT,
    ModelConfig,
    TrainConfig,
    compute_type,
)
from aocr.data.pipeline import Batch
from aocr.model import packing as packings
from aocr.model.loss import sequence_loss
from aocr.model.packing import Packing
from aocr.runtime import collectives
from aocr.runtime.distributed import Cluster
from aocr.training.averaging import PRECISE_BN_BATCHES, STEPS_PER_UPDATE, PreciseBatchNorm
from aocr.training.grouped_loss import MIN_INPUT_WIDTH, GroupedLoss
from aocr.training.replication import ReplicatedFunction, replica_number
from aocr.training.state import TrainingState, int_value

DROPOUT_RATE = 0.5


class StepResult(NamedTuple):
    """Results of a step.

    Attributes:
        loss: Mean loss of the batch, before the update.
        gradient_norm: Global norm of the gradients after clipping.
    """

    loss: float
    gradient_norm: float


class TrainStep:
    """Takes training steps: gradients, clipping, the optimizer, the averaged weights.

    Args:
        state: What a step changes.
        config: Channels of the images.
        settings: Seed, precision and steps between checkpoints.
        cluster: The replicas.
    """

    def __init__(self, state: TrainingState, config: ModelConfig, settings: TrainConfig,
                 cluster: Cluster) -> None:
        self._state, self._settings, self._cluster = state, settings, cluster
        self._variables = state.model.trainable_variables
        self._compute_dtype = tf.as_dtype(compute_type(settings.precision)) if (
            state.dtype == tf.float32) else state.dtype
        self._grouped = config.input_width >= MIN_INPUT_WIDTH
        self._precise_bn = PreciseBatchNorm(
            state.average, config.channels, self._compute_dtype, cluster,
            min(PRECISE_BN_BATCHES, settings.steps_per_checkpoint))
        rows = [tf.TensorSpec([None, IMAGE_HEIGHT, None, config.channels], tf.float32),
                tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, None], tf.int32)]
        self._update_weights, self._update_guided = (
            ReplicatedFunction(
                partial(self._update_replica, GroupedLoss(loss, self._compute_dtype)), cluster,
                rows, [tf.TensorSpec([2], tf.int32)])
            for loss in (self._loss, self._guided_loss))
        self._update_average = tf.function(
            lambda: cluster.strategy.run(state.average.update), autograph=False)

    def run(self, batch: Batch, global_widths: np.ndarray) -> StepResult:
        """Takes one step; all processes must call it.

        Args:
            batch: The rows of this process; images of width 0 do not count.
            global_widths: Widths of the images in the batches of all processes, `[rows]`.
        """
        packing = self._pack(batch)
        global_shape = tf.constant(
            [max(len(global_widths), self._cluster.replicas), global_widths.max()], tf.int32)
        guided = self._state.curriculum.guides(int_value(self._state.step))
        update = self._update_guided if guided else self._update_weights
        loss, norm = update([batch.images, batch.widths, batch.targets], packing, global_shape)
        self._precise_bn.add(batch, packing)
        if int_value(self._state.step) % STEPS_PER_UPDATE == 0:
            self._update_average()
        return StepResult(float(loss), float(norm))

    def remember(self, batch: Batch) -> None:
        """Keeps a batch that the run has used before it was resumed for the next recalibration."""
        self._precise_bn.add(batch, self._pack(batch))

    def recalibrate_batch_norm(self) -> None:
        """Recomputes the averaged model's batch-norm statistics on the batches of the last steps.

        See `PreciseBatchNorm`; all processes must call it.
        """
        self._precise_bn.recalibrate_batch_norm()

    def _pack(self, batch: Batch) -> Packing | None:
        """Returns a packing of the batch, or `None` where no image is narrower than the batch."""
        widths = batch.widths.numpy()
        # The fused batch norm of a batch without padding does not sum over replicas.
        fused = self._cluster.replicas == 1 and self._compute_dtype != tf.float64
        if fused and np.all(widths == batch.images.shape[2]):
            return None
        return packings.first_fit(widths, self._cluster.local_replicas)

    def _update_replica(self, grouped_loss: GroupedLoss, images: tf.Tensor, widths: tf.Tensor,
                        targets: tf.Tensor, global_shape: tf.Tensor, packing: Packing | None
                        ) -> tuple[tf.Tensor, tf.Tensor]:
        """Updates the weights; returns loss and gradient norm of the global batch."""
        state = self._state
        scaled = self._compute_dtype == tf.float16
        (count,) = collectives.all_reduce_sum([tf.math.count_nonzero(widths, dtype=state.dtype)])
        with tf.GradientTape() as tape:
            mask = self._dropout_mask(global_shape, tf.shape(images)[2])
            features = state.model.batch_features(
                tf.cast(images, self._compute_dtype), widths, mask, packing)
            loss_of = grouped_loss.by_width if self._grouped and packing is not None else (
                grouped_loss.whole)
            loss, cost = loss_of(features, targets, widths)
            loss /= count
            target = loss + cost / count
            if scaled:
                target *= state.scale.factor
        gradients = [tf.convert_to_tensor(gradient)
                     for gradient in tape.gradient(target, self._variables)]
        if scaled:
            gradients = state.scale.unscale(gradients)
        loss, *gradients = collectives.all_reduce_sum([loss, *gradients])
        gradients, norm = state.clipping.clip(gradients)
        if scaled:
            norm = state.scale.apply_if_finite(norm, lambda: self._apply(gradients))
        else:
            self._apply(gradients)
        state.step.assign_add(1)
        return loss, norm

    def _loss(self, features: tf.Tensor, targets: tf.Tensor, widths: tf.Tensor
              ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the sum of the images' losses, and no other cost."""
        memory = self._state.model.encode_features(features, widths)
        logits = self._state.model.teacher_forced(memory, targets)
        return tf.reduce_sum(sequence_loss(logits, targets)), tf.zeros([], self._state.dtype)

    def _guided_loss(self, features: tf.Tensor, targets: tf.Tensor, widths: tf.Tensor
                     ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the sum of the images' losses, and the cost of their attention."""
        state = self._state
        memory = state.model.encode_features(features, widths)
        guide = state.curriculum.guide(targets, widths, tf.shape(memory.values)[1], state.step)
        logits, attention = state.model.guided(memory, targets, guide.bias)
        return (tf.reduce_sum(sequence_loss(logits, targets)),
                tf.reduce_sum(attention * guide.cost))

    def _apply(self, gradients: list[tf.Tensor]) -> None:
        self._state.optimizer.apply(gradients, self._state.rate.at(self._state.step))

    def _dropout_mask(self, global_shape: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        """Returns the factors of this replica's features, `[rows, ceil(width / 4), 512]`.

        They depend only on the seed, the step and an image's position in the global batch.

        Args:
            global_shape: Rows and width in pixels of the global batch, `[2]` int32.
            width: Width in pixels of this replica's images.
        """
        columns = -(-tf.maximum(global_shape[1], width) // COLUMN_PIXELS)
        seed = tf.stack([tf.constant(self._settings.seed, tf.int64), self._state.step])
        uniform = tf.random.stateless_uniform([global_shape[0], columns, CONV_FEATURES], seed)
        uniform = uniform[replica_number()::self._cluster.replicas, :-(-width // COLUMN_PIXELS)]
        keep = 1.0 - self._state.curriculum.dropout_rate(self._state.step, DROPOUT_RATE)
        return tf.cast(uniform < keep, self._state.dtype) / tf.cast(keep, self._state.dtype)
