"""The sliding CNN: images → one feature column for every four pixels of width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from aocr.config import COLUMN_PIXELS
from aocr.model.layers import BatchNorm, Initializer

Tensors = Sequence[tf.Tensor]
Masks = Sequence[tf.Tensor | None]
Normalize = Callable[[BatchNorm, Tensors, Masks], list[tf.Tensor]]

# In place of a number of parts: no row has padding, and nothing is masked.
UNPADDED = 0
# Convolutions are prepared anew for every width they meet; this many columns make one width.
WIDTH_STEP = 8


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


class Part(NamedTuple):
    """Some rows of a batch, padded to the widest of them.

    Attributes:
        x: `[batch, height, width, channels]`, zero beyond the own widths.
        widths: The own widths `[batch]`; `None` where all are as wide as `x`.
    """

    x: tf.Tensor
    widths: tf.Tensor | None


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

    def __call__(self, parts: Sequence[Part], normalize: Normalize) -> list[Part]:
        """One stage, over the parts of one batch.

        Args:
            parts: Images `[batch, height, width, inputs]`; their type is that of all that is
                computed, weights are rounded to it.
            normalize: `BatchNorm.by_average` or `BatchNorm.by_batch`.

        Returns:
            `[batch, height', width', filters]` and their own widths.
        """
        kernel = tf.cast(self.kernel, parts[0].x.dtype)
        xs = [tf.nn.conv2d(x, kernel, strides=1, padding="SAME") for x, _ in parts]
        masks = [None if widths is None else column_mask(widths, tf.shape(x)[2], x.dtype)
                 for x, (_, widths) in zip(xs, parts, strict=True)]
        if self.norm is not None:
            xs = normalize(self.norm, xs, masks)
        # After ReLU nothing is below zero, so zeros beyond the own width act in the pooling
        # and in the next convolution exactly as the border of a narrower batch does.
        xs = [_masked(tf.nn.relu(x), mask) for x, mask in zip(xs, masks, strict=True)]
        if self._pool != (1, 1):
            xs = [tf.nn.max_pool2d(x, self._pool, self._pool, padding="SAME") for x in xs]
        return [Part(x, None if part.widths is None else -(-part.widths // self._pool[1]))
                for x, part in zip(xs, parts, strict=True)]


class ConvNet(tf.Module):
    """Seven convolutions; VGG-like, after Shi et al. 2015 ("CRNN") as the original has them."""

    def __init__(self, init: Initializer, channels: int) -> None:
        super().__init__()
        inputs = [channels, *(stage.filters for stage in STAGES)]
        self.convs = [Conv(init, f"conv{n + 1}", inputs[n], stage)
                      for n, stage in enumerate(STAGES)]

    def __call__(self, images: tf.Tensor, widths: tf.Tensor, normalize: Normalize,
                 parts: int = 1) -> tuple[tf.Tensor, tf.Tensor]:
        """Feature columns.

        Args:
            images: `[batch, 32, width, channels]`.
            widths: `[batch]` int32, the own widths in pixels, at least 1.
            normalize: `BatchNorm.by_average` or `BatchNorm.by_batch`.
            parts: Parts to cut the batch into, at most its rows; the result is the same, and
                when rows come in the order of their widths, little padding is computed.
                `UNPADDED` where every row is as wide as the batch.

        Returns:
            Features `[batch, ceil(width / 4), 512]` of the images' type, and their lengths
            `[batch]` int32.
        """
        cut = _cut(images, widths, parts) if parts else [Part(images, None)]
        for conv in self.convs:
            cut = conv(cut, normalize)
        columns = -(-tf.shape(images)[2] // COLUMN_PIXELS)
        features = [tf.squeeze(x, 1) for x, _ in cut]
        features = [tf.pad(x, [[0, 0], [0, columns - tf.shape(x)[1]], [0, 0]]) for x in features]
        return tf.concat(features, 0), -(-tf.convert_to_tensor(widths) // COLUMN_PIXELS)


def _cut(images: tf.Tensor, widths: tf.Tensor, parts: int) -> list[Part]:
    """The rows in equal parts, each as wide as it must be, zero beyond the own widths."""
    total = tf.shape(images)[0]
    cut = []
    for n in range(parts):
        rows = slice(total * n // parts, total * (n + 1) // parts)
        own = tf.convert_to_tensor(widths)[rows]
        widest = -(-tf.maximum(tf.reduce_max(own), 1) // WIDTH_STEP) * WIDTH_STEP
        x = images[rows, :, :widest] if parts > 1 else images
        cut.append(Part(x * column_mask(own, tf.shape(x)[2], x.dtype), own))
    return cut


def _masked(x: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    return x if mask is None else x * mask


def column_mask(widths: tf.Tensor, width: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """`[batch, 1, width, 1]`: 1 inside each row's own width, 0 in the padding."""
    return tf.sequence_mask(widths, width, dtype)[:, None, :, None]
