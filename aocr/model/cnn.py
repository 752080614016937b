"""The sliding CNN, which turns an image into one feature vector per four pixels of width.

Seven convolutions reduce the height from 32 to 1 and the width to a quarter. The image's width
remains a time axis, as in Shi et al. 2015, "An End-to-End Trainable Neural Network for Image-based
Sequence Recognition" (CRNN, https://arxiv.org/abs/1507.05717); sizes are those of the original.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from aocr.model.layers import BatchNorm, Initializer

# A method of `BatchNorm`, called with the layer, the input and the mask.
Normalize = Callable[[BatchNorm, tf.Tensor, tf.Tensor | None], tf.Tensor]


class Stage(NamedTuple):
    """Sizes of a convolution and of the layers that follow it.

    Attributes:
        size: Height and width of the kernel.
        filters: Output channels.
        normalized: Whether batch norm follows the convolution.
        pool: Height and width of the max-pooling window, which is also its stride.
    """

    size: int
    filters: int
    normalized: bool
    pool: tuple[int, int]


# Heights 32, 16, 8, 8, 4, 4, 2, 1; widths w, w/2, w/4, and then w/4.
STAGES = (
    Stage(3, 64, False, (2, 2)),
    Stage(3, 128, False, (2, 2)),
    Stage(3, 256, True, (1, 1)),
    Stage(3, 256, False, (2, 1)),
    Stage(3, 512, True, (1, 1)),
    Stage(3, 512, False, (2, 1)),
    Stage(2, 512, True, (2, 1)),
)


class Conv(tf.Module):
    """Convolution (stride 1, SAME, no bias), optional batch norm, ReLU and max-pooling (SAME).

    Weights: kernel `[size, size, inputs, filters]`.

    Args:
        init: Draws the weights.
        name: Name from which the weights are seeded.
        inputs: Input channels.
        stage: Sizes.
    """

    def __init__(self, init: Initializer, name: str, inputs: int, stage: Stage) -> None:
        super().__init__()
        self.kernel = init.glorot(
            f"{name}/kernel", [stage.size, stage.size, inputs, stage.filters])
        self.norm = BatchNorm(init, f"{name}/norm", stage.filters) if stage.normalized else None
        self._pool = stage.pool

    def __call__(self, x: tf.Tensor, mask: tf.Tensor | None, normalize: Normalize
                 ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Applies the stage.

        Args:
            x: `[batch, height, width, inputs]`, zero in the padding. The stage computes in its
                type, to which the weights are cast.
            mask: `[batch, width]` bool, False in the padding; `None` without padding.
            normalize: `BatchNorm.inference`, `BatchNorm.training` or `BatchNorm.recalibration`.

        Returns:
            `[batch, ceil(height / pool), ceil(width / pool), filters]`, zero in the padding, and
            its mask.
        """
        x = tf.nn.conv2d(x, tf.cast(self.kernel, x.dtype), strides=1, padding="SAME")
        factors = None if mask is None else tf.cast(mask, x.dtype)[:, None, :, None]
        if self.norm is not None:
            x = normalize(self.norm, x, factors)
        # After ReLU nothing is below zero. Zeros in the padding therefore act in the pooling and
        # in the next convolution exactly as the border of a narrower image does.
        x = tf.nn.relu(x if factors is None else x * factors)
        if self._pool != (1, 1):
            x = tf.nn.max_pool2d(x, self._pool, self._pool, padding="SAME")
        return x, None if mask is None else mask[:, ::self._pool[1]]


class ConvNet(tf.Module):
    """The stack of seven convolutions.

    Args:
        init: Draws the weights.
        channels: Channels of the images, 1 or 3.
    """

    def __init__(self, init: Initializer, channels: int) -> None:
        super().__init__()
        inputs = [channels, *(stage.filters for stage in STAGES)]
        self.convs = [Conv(init, f"conv{n + 1}", inputs[n], stage)
                      for n, stage in enumerate(STAGES)]

    def __call__(self, images: tf.Tensor, mask: tf.Tensor | None, normalize: Normalize
                 ) -> tf.Tensor:
        """Computes the feature columns.

        Args:
            images: `[batch, 32, width, channels]`.
            mask: `[batch, width]` bool, False in the padding; `None` without padding. Several
                images may share a row if each starts at a multiple of four pixels and at least
                four columns of padding separate them.
            normalize: As in `Conv`.

        Returns:
            `[batch, ceil(width / 4), 512]`, in the type of the images.
        """
        x = images if mask is None else images * tf.cast(mask, images.dtype)[:, None, :, None]
        for conv in self.convs:
            x, mask = conv(x, mask, normalize)
        return tf.squeeze(x, 1)
