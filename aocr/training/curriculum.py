"""Curriculum of the first training steps: guided attention and increasing dropout."""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

import tensorflow as tf

from aocr.config import COLUMN_PIXELS, ModelConfig
from aocr.tokenizer import EOS_ID, FIRST_CHARACTER_ID

BIAS_STEPS = 60
BIAS_DEVIATION = 0.1
COST_STEPS = 100
COST_DEVIATION = 0.2
SHORT_TEXT = 7  # characters; both deviations are smaller for longer texts
DROPOUT_STEPS = 200
GUIDED_STEPS = max(BIAS_STEPS, COST_STEPS)


class Guide(NamedTuple):
    """Where the characters of a batch are expected, both `[batch, S, time]`.

    Attributes:
        bias: Added to the scores of the attention.
        cost: Cost of attending to each column with a weight of 1.
    """

    bias: tf.Tensor
    cost: tf.Tensor


class Curriculum(tf.Module):
    """Guides the attention over the first steps, and raises the dropout rate to its final value.

    Without guidance, the model recognizes no words of seven random characters for about 200 steps.
    At the start, queries and keys are small, where tanh is linear; additive scores v·tanh(k + q)
    then are v·k + v·q, and softmax removes v·q: attention does not depend on the step. All that can
    be learned is the number of steps until the end of the text, and attention collapses to a few
    columns. Two measures help, both fading linearly to zero:

    * for 60 steps, the logarithm of a normal density around each character's expected position is
      added to the scores, so that characters are learned from the first step on;
    * for 100 steps, the attention without this bias has a cost that increases with its distance
      from that position, so that the model learns the position itself.

    The expected position of character k of n is (k + 1/2) / n of the image's width, from the right
    in right-to-left scripts. For more than seven characters, the deviation of the density and the
    width of the cost are divided by the square root of n / 7: where the widths of characters are
    independent, their real positions deviate from the expected ones by a part of the image's width
    that decreases in this way. Dropout rises linearly over 200 steps.

    Source: Tachibana et al. 2018, "Efficiently trainable text-to-speech system based on deep
    convolutional networks with guided attention"; Morerio et al. 2017, "Curriculum dropout".

    Args:
        config: The alphabet, which determines the direction of the text, and the layout: attention
            is not guided in padded inputs, where the text may start anywhere.
        strength: 1 for a curriculum, 0 for none.
        dtype: Type of the guides.

    Attributes:
        strength: As above, float32; a run that starts from a trained model needs no curriculum.
    """

    def __init__(self, config: ModelConfig, strength: float, dtype: tf.DType = tf.float32) -> None:
        super().__init__()
        self._dtype = dtype
        self.strength = tf.Variable(
            strength if config.layout != "padded" else 0.0, dtype=tf.float32, trainable=False)
        self._directions = [0] * FIRST_CHARACTER_ID + [
            _direction(character) for character in config.alphabet]

    def guides(self, step: int) -> bool:
        """Returns whether the attention is guided at a step."""
        return step < GUIDED_STEPS and bool(self.strength.numpy() > 0)

    def is_active(self, step: int) -> bool:
        """Returns whether a step is part of the curriculum."""
        return step < max(GUIDED_STEPS, DROPOUT_STEPS) and bool(self.strength.numpy() > 0)

    def dropout_rate(self, step: tf.Tensor, final: float) -> tf.Tensor:
        """Returns the dropout rate at a step, scalar float32."""
        share = tf.minimum(tf.cast(step, tf.float32) / DROPOUT_STEPS, 1.0)
        return final * tf.where(self.strength > 0, share, 1.0)

    def guide(self, targets: tf.Tensor, widths: tf.Tensor, time: tf.Tensor, step: tf.Tensor
              ) -> Guide:
        """Returns the guide of a batch.

        Args:
            targets: `[batch, S]` int32: characters, EOS, PAD.
            widths: `[batch]` int32, the images' widths in pixels.
            time: Number of feature columns of the batch.
            step: Number of steps taken so far.
        """
        strength = tf.cast(self.strength, self._dtype)
        is_character = tf.cast(targets > EOS_ID, self._dtype)[:, :, None]
        count = tf.maximum(tf.reduce_sum(is_character, 1, keepdims=True), 1.0)
        precision = tf.maximum(count / SHORT_TEXT, 1.0)
        squares = precision * tf.square(self._distances(targets, count, widths, time))
        bias, cost = (strength * is_character * _fade(step, steps, self._dtype)
                      for steps in (BIAS_STEPS, COST_STEPS))
        distance_cost = 1.0 - tf.exp(-squares / (2.0 * COST_DEVIATION ** 2))
        return Guide(-bias * squares / (2.0 * BIAS_DEVIATION ** 2), cost * distance_cost / count)

    def _distances(self, targets: tf.Tensor, count: tf.Tensor, widths: tf.Tensor, time: tf.Tensor
                   ) -> tf.Tensor:
        """Returns the distance of each column from each character, in widths of the image."""
        steps = tf.range(tf.shape(targets)[1], dtype=self._dtype)
        positions = (steps + 0.5)[None, :, None] / count
        right_to_left = tf.reduce_sum(tf.gather(self._directions, targets), -1) < 0
        positions = tf.where(right_to_left[:, None, None], 1.0 - positions, positions)
        lengths = tf.cast(tf.maximum(-(-widths // COLUMN_PIXELS), 1), self._dtype)
        columns = (tf.range(time, dtype=self._dtype) + 0.5) / lengths[:, None]
        return columns[:, None] - positions


def _fade(step: tf.Tensor, steps: int, dtype: tf.DType) -> tf.Tensor:
    return tf.maximum(1.0 - tf.cast(step, dtype) / steps, 0.0)


def _direction(character: str) -> int:
    """Returns 1 for left-to-right characters, -1 for right-to-left ones, 0 for others."""
    return {"L": 1, "R": -1, "AL": -1}.get(unicodedata.bidirectional(character), 0)
