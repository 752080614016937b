"""The learning rate as a function of the step."""

from __future__ import annotations

import math

import tensorflow as tf

from aocr.config import TrainConfig

WARM_UP_STEPS = 20
FINAL_SHARE = 0.01


class LearningRate(tf.Module):
    """Linear warm-up, then a constant or a cosine.

    The cosine falls from the initial rate to a hundredth of it at `--max-steps`. A run that is
    resumed with another `--max-steps` continues from the rate that it had reached, on a cosine
    that ends at the new step: the rate never jumps. Where the rate itself is changed, the new one
    holds from the step of the change on.

    Source: Loshchilov and Hutter 2017, "SGDR: Stochastic gradient descent with warm restarts"
    (one period, without restarts).

    Attributes:
        initial: Rate that was asked for, float64.
        start: Rate at `start_step`, float64.
        start_step: Step at which the constant or the cosine starts, int64.
        end_step: Step at which the cosine ends, int64; 0 for a constant.
        warm_up_start: Step at which the optimizer started, int64.
    """

    def __init__(self, settings: TrainConfig) -> None:
        super().__init__()
        rate = settings.new_learning_rate
        self._warm_up_steps = WARM_UP_STEPS if settings.new_optimizer == "adam" else 0
        self.initial, self.start = (
            tf.Variable(rate, dtype=tf.float64, trainable=False) for _ in range(2))
        self.start_step, self.end_step, self.warm_up_start = (
            tf.Variable(0, dtype=tf.int64, trainable=False) for _ in range(3))

    def at(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the rate of the update after `step` updates, scalar float64."""
        updates = tf.cast(step - self.warm_up_start + 1, tf.float64)
        warm_up = tf.minimum(updates / max(self._warm_up_steps, 1), 1.0)
        return warm_up * self._without_warm_up(step)

    def update(self, step: tf.Tensor, settings: TrainConfig, new_optimizer: bool) -> None:
        """Follows the settings of a run that starts or resumes.

        Args:
            step: Number of steps taken so far.
            settings: The settings of the run.
            new_optimizer: Whether the optimizer starts at this step, and warms up.
        """
        if new_optimizer:
            self.warm_up_start.assign(step)
        given = settings.new_learning_rate if (
            new_optimizer or settings.initial_learning_rate is not None) else None
        end_step = _end_step(settings)
        if given is not None and given != float(self.initial.numpy()):
            self.initial.assign(given)
            self.start.assign(given)
        elif end_step != int(self.end_step.numpy()):
            self.start.assign(self._without_warm_up(step))
        else:
            return
        self.start_step.assign(step)
        self.end_step.assign(end_step)

    def _without_warm_up(self, step: tf.Tensor) -> tf.Tensor:
        length = tf.maximum(self.end_step - self.start_step, 1)
        progress = tf.clip_by_value(tf.cast(step - self.start_step, tf.float64)
                                    / tf.cast(length, tf.float64), 0.0, 1.0)
        final = tf.minimum(FINAL_SHARE * self.initial, self.start)
        cosine = final + (self.start - final) * (1.0 + tf.cos(math.pi * progress)) / 2.0
        return tf.where(self.end_step > 0, cosine, self.start)


def _end_step(settings: TrainConfig) -> int:
    return (settings.max_steps or 0) if settings.schedule == "cosine" else 0
