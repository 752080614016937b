"""The sliding CNN: images → one feature column for every four pixels of width."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from aocr.model.layers import BatchNorm, Initializer

Normalize = Callable[[BatchNorm, tf.Tensor, tf.Tensor | None], tf.Tensor]


class Stage(NamedTuple):
    """One convolution and what follows it; pool is `(height, width)`."""

    size: int
    filters: int
    normalized: bool
    pool: tuple[int, int]


# ORIGINAL layout: heights 32, 16, 8, 8, 4, 4, 2, 1; widths w, w/2, w/4, then unchanged.
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
    """Convolution without bias, stride 1, SAME, then ReLU and max-pooling.

    kernel `[size, size, inputs, filters]`; batch norm stands between convolution and ReLU.
    """

    def __init__(self, init: Initializer, name: str, inputs: int, stage: Stage) -> None:
        super().__init__()
        self.kernel = init.glorot(
            f"{name}/kernel", [stage.size, stage.size, inputs, stage.filters])
        self.norm = BatchNorm(init, f"{name}/norm", stage.filters) if stage.normalized else None
        self._pool = stage.pool

    def __call__(self, x: tf.Tensor, inside: tf.Tensor | None, normalize: Normalize
                 ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """One stage.

        Args:
            x: `[batch, height, width, inputs]`, zero in the padding; its type is that of all
                that is computed, weights are rounded to it.
            inside: `[batch, width]` bool, which columns are no padding; `None`: all.
            normalize: `BatchNorm.by_average` or `BatchNorm.by_batch`.

        Returns:
            `[batch, height', width', filters]`, zero in the padding, and its `inside`.
        """
        x = tf.nn.conv2d(x, tf.cast(self.kernel, x.dtype), strides=1, padding="SAME")
        mask = None if inside is None else tf.cast(inside, x.dtype)[:, None, :, None]
        if self.norm is not None:
            x = normalize(self.norm, x, mask)
        # After ReLU nothing is below zero, so zeros in the padding act in the pooling and in the
        # next convolution exactly as the border of a narrower image does.
        x = tf.nn.relu(x if mask is None else x * mask)
        if self._pool != (1, 1):
            x = tf.nn.max_pool2d(x, self._pool, self._pool, padding="SAME")
        return x, None if inside is None else inside[:, ::self._pool[1]]


class ConvNet(tf.Module):
    """Seven convolutions; VGG-like, after Shi et al. 2015 ("CRNN") as the original has them."""

    def __init__(self, init: Initializer, channels: int) -> None:
        super().__init__()
        inputs = [channels, *(stage.filters for stage in STAGES)]
        self.convs = [Conv(init, f"conv{n + 1}", inputs[n], stage)
                      for n, stage in enumerate(STAGES)]

    def __call__(self, images: tf.Tensor, inside: tf.Tensor | None, normalize: Normalize
                 ) -> tf.Tensor:
        """Feature columns.

        Args:
            images: `[batch, 32, width, channels]`.
            inside: `[batch, width]` bool, which columns are no padding; `None`: all. Between two
                images in one row there are at least four columns of padding, and each begins in
                a column whose number four divides.
            normalize: `BatchNorm.by_average` or `BatchNorm.by_batch`.

        Returns:
            `[batch, ceil(width / 4), 512]` of the images' type.
        """
        x = images if inside is None else images * tf.cast(inside, images.dtype)[:, None, :, None]
        for conv in self.convs:
            x, inside = conv(x, inside, normalize)
        return tf.squeeze(x, 1)
