"""One training step, and everything that it changes: the only room with an optimizer."""

from __future__ import annotations

import tensorflow as tf


class Best(tf.Module):
    """The best validation so far: the highest word accuracy, and among equals the lowest CER.

    Attributes:
        word_accuracy: 0…1; below 0 before the first validation.
        cer: Its character error rate.
        step: Where it was.
        waited: Validations since then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.word_accuracy = tf.Variable(-1.0, dtype=tf.float64, trainable=False)
        self.cer = tf.Variable(float("inf"), dtype=tf.float64, trainable=False)
        self.step, self.waited = (
            tf.Variable(0, dtype=tf.int64, trainable=False) for _ in range(2))

    def take(self, word_accuracy: float, cer: float, step: int) -> int:
        """Notes a validation; returns how many there were since the best, 0 if it is this one."""
        if (word_accuracy, -cer) <= (self.word_accuracy.numpy(), -self.cer.numpy()):
            self.waited.assign_add(1)
        else:
            self.word_accuracy.assign(word_accuracy)
            self.cer.assign(cer)
            self.step.assign(step)
            self.waited.assign(0)
        return int(self.waited.numpy())


def int_value(variable: tf.Variable) -> int:
    """The value of an integer variable as a Python number."""
    return int(variable.numpy())
