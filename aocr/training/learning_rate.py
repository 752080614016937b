"""The learning rate as a function of the step."""

from __future__ import annotations

import math

import tensorflow as tf

from aocr.config import OPTIMIZERS, SCHEDULES, TrainConfig

HOLD_STEPS = 60
FINAL_SHARE = 0.01


class LearningRate(tf.Module):
    """Linear warm-up, then one of three schedules.

    * "inverse-sqrt": constant for 60 steps, then falling with the inverse square root of the
      number of steps. It has no fixed end, so that a run can be extended at any time.
    * "constant".
    * "cosine": falling to a hundredth of the initial rate at `--max-steps`.

    A resumed run keeps its schedule unless another one is given. With another schedule or another
    end of the cosine, it continues from the rate that it had reached: the rate never jumps. Where
    the initial rate itself is changed, the new one applies from the step of the change on.

    Source: Vaswani et al. 2017, "Attention is all you need" (inverse square root); Loshchilov and
    Hutter 2017, "SGDR: Stochastic gradient descent with warm restarts" (one period of a cosine).

    Attributes:
        initial: Requested rate, float64.
        start: Rate at `start_step`, float64.
        start_step: Step at which the schedule starts, int64.
        end_step: Step at which a cosine ends, int64; 0 for other schedules.
        schedule: Index in `SCHEDULES`, int64.
        warm_up_start: Step at which the optimizer started, int64.
    """

    def __init__(self, settings: TrainConfig) -> None:
        super().__init__()
        rate = settings.new_learning_rate
        self._warm_up_steps = OPTIMIZERS[settings.new_optimizer].warm_up_steps
        self.initial, self.start = (
            tf.Variable(rate, dtype=tf.float64, trainable=False) for _ in range(2))
        self.start_step, self.end_step, self.warm_up_start = (
            tf.Variable(0, dtype=tf.int64, trainable=False) for _ in range(3))
        self.schedule = tf.Variable(
            SCHEDULES.index("constant"), dtype=tf.int64, trainable=False)

    def at(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the rate of the update after `step` updates, scalar float64."""
        updates = tf.cast(step - self.warm_up_start + 1, tf.float64)
        return tf.minimum(updates / self._warm_up_steps, 1.0) * self._without_warm_up(step)

    def update(self, step: tf.Tensor, settings: TrainConfig, new_optimizer: bool) -> None:
        """Applies the settings of a run that starts or resumes.

        Args:
            step: Number of steps taken so far.
            settings: The settings of the run.
            new_optimizer: Whether the optimizer starts at this step, and warms up.
        """
        if new_optimizer:
            self.warm_up_start.assign(step)
        given = settings.new_learning_rate if (
            new_optimizer or settings.initial_learning_rate is not None) else None
        kept = settings.schedule is None and not new_optimizer
        schedule = SCHEDULES[int(self.schedule.numpy())] if kept else settings.used_schedule
        end_step = (settings.max_steps or int(self.end_step.numpy())) if schedule == "cosine" else 0
        if given is not None and (new_optimizer or given != float(self.initial.numpy())):
            self.initial.assign(given)
            self.start.assign(given)
        elif (SCHEDULES.index(schedule), end_step) != (
                int(self.schedule.numpy()), int(self.end_step.numpy())):
            self.start.assign(self._without_warm_up(step))
        else:
            return
        self.start_step.assign(step)
        self.end_step.assign(end_step)
        self.schedule.assign(SCHEDULES.index(schedule))

    def describe(self, step: tf.Tensor) -> str:
        """Returns rate and schedule at a step for the log, such as "0.00035, inverse-sqrt"."""
        schedule, end_step = SCHEDULES[int(self.schedule.numpy())], int(self.end_step.numpy())
        rate = self.after_warm_up(step)
        text = f"{rate:.3g}, {schedule}"
        if schedule != "cosine":
            return text
        if rate <= FINAL_SHARE * self.initial.numpy():
            return f"{text} at its end; a different --initial-learning-rate starts a new one"
        return f"{text} until step {end_step}"

    def after_warm_up(self, step: tf.Tensor) -> float:
        """Returns the rate at a step as it is if the warm-up is over."""
        return float(self._without_warm_up(step).numpy())

    def _without_warm_up(self, step: tf.Tensor) -> tf.Tensor:
        steps = tf.cast(step - self.start_step, tf.float64)
        inverse_sqrt = self.start * tf.sqrt(HOLD_STEPS / tf.maximum(steps + 1.0, HOLD_STEPS))
        length = tf.cast(tf.maximum(self.end_step - self.start_step, 1), tf.float64)
        final = tf.minimum(FINAL_SHARE * self.initial, self.start)
        progress = tf.clip_by_value(steps / length, 0.0, 1.0)
        cosine = final + (self.start - final) * (1.0 + tf.cos(math.pi * progress)) / 2.0
        return tf.gather([inverse_sqrt, self.start, cosine], self.schedule)
