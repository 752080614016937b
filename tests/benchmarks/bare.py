"""The bare convolution stack: what nothing around it can be faster than.

The seven convolutions, ReLU and pooling of the network at the same shapes; no batch norm, no
masks, no bias.
"""

from __future__ import annotations

import tensorflow as tf

from aocr.model.cnn import STAGES


class Bare:
    """Forward, and forward with backward, of the stack.

    Args:
        channels: Of the images.
    """

    def __init__(self, channels: int = 1) -> None:
        inputs = [channels, *(stage.filters for stage in STAGES)]
        self._kernels = [tf.Variable(tf.random.stateless_normal(
            [stage.size, stage.size, inputs[n], stage.filters], [0, n], stddev=0.05))
            for n, stage in enumerate(STAGES)]
        images = [tf.TensorSpec([None, 32, None, channels], tf.float32)]
        self._forward = tf.function(self._stack, autograph=False, input_signature=images)
        self._step = tf.function(self._gradients, autograph=False, input_signature=images)

    def forward(self, images: tf.Tensor) -> None:
        """Features; returns when they are there."""
        self._forward(images).numpy()

    def step(self, images: tf.Tensor) -> None:
        """Features and the gradients of all kernels; returns when they are there."""
        for gradient in self._step(images):
            gradient.numpy()

    def _stack(self, x: tf.Tensor) -> tf.Tensor:
        for kernel, stage in zip(self._kernels, STAGES, strict=True):
            x = tf.nn.relu(tf.nn.conv2d(x, kernel, strides=1, padding="SAME"))
            if stage.pool != (1, 1):
                x = tf.nn.max_pool2d(x, stage.pool, stage.pool, padding="SAME")
        return x

    def _gradients(self, images: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(self._stack(images))
        # Of each one number leaves, so that no time goes into copying.
        return [tf.reduce_max(gradient) for gradient in tape.gradient(total, self._kernels)]
