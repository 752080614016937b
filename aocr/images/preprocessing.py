"""Encoded bytes → float32 `[32, width, channels]`: the only home of the resizing laws."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from aocr.config import IMAGE_HEIGHT, ModelConfig

_MIDDLE_GREY = 128.0


def preprocess(encoded: tf.Tensor, config: ModelConfig) -> tf.Tensor:
    """One image as the network sees it.

    See `scaled_size` for its size; the padded layout fills up what is left with zeros, as black.

    Args:
        encoded: Scalar string: PNG, JPEG, GIF (first frame), BMP or WebP.
        config: Channels, widths and kernel.

    Returns:
        `[32, width, channels]` float32, `(value - 128) / 128`.

    Raises:
        tf.errors.InvalidArgumentError: The bytes cannot be decoded.
    """
    pixels = decode(encoded, config.channels)
    shape = tf.shape(pixels)
    size = tf.stack(scaled_size(shape[0], shape[1], config))
    scaled = _RESIZERS[config.kernel](pixels, size)
    if config.layout == "padded":
        scaled = tf.image.pad_to_bounding_box(scaled, 0, 0, IMAGE_HEIGHT, config.input_width)
    scaled.set_shape([IMAGE_HEIGHT, None, config.channels])
    return (scaled - _MIDDLE_GREY) / _MIDDLE_GREY


def preprocess_batch(encoded: tf.Tensor, config: ModelConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Several images, padded with zeros to the widest of them.

    Args:
        encoded: `[batch]` string.
        config: Channels, widths and kernel.

    Returns:
        Images `[batch, 32, width, channels]` and their own widths `[batch]` int32.
    """
    size = tf.size(encoded)
    columns = tf.TensorArray(tf.float32, size, infer_shape=False,
                             element_shape=[None, IMAGE_HEIGHT, config.channels])
    widths = tf.TensorArray(tf.int32, size, element_shape=[])

    def one(n: tf.Tensor, columns: tf.TensorArray, widths: tf.TensorArray
            ) -> tuple[tf.Tensor, tf.TensorArray, tf.TensorArray]:
        image = tf.transpose(preprocess(encoded[n], config), [1, 0, 2])
        return n + 1, columns.write(n, image), widths.write(n, tf.shape(image)[0])

    start = (tf.constant(0), columns, widths)
    # Two images are decoded at a time: with more, large ones would take too much memory at once.
    _, columns, widths = tf.while_loop(
        lambda n, *_: n < size, one, start, parallel_iterations=2)
    own = tf.ensure_shape(widths.stack(), [None])
    rows = tf.RaggedTensor.from_row_lengths(columns.concat(), own).to_tensor()
    images = tf.transpose(rows, [0, 2, 1, 3])
    return tf.ensure_shape(images, [None, IMAGE_HEIGHT, None, config.channels]), own


def decode(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """Pixels `[height, width, channels]` uint8; alpha is dropped, not blended.

    Grey comes from libpng and libjpeg themselves where they offer it (its values differ a
    little from a weighted sum of RGB); GIF, BMP and WebP are decoded as RGB first.
    """
    head = tf.strings.substr(encoded, 0, 2)
    direct = (head == b"\x89P") | (head == b"\xff\xd8")
    return tf.cond(direct, lambda: _decode(encoded, channels), lambda: _convert(encoded, channels))


def scaled_size(height: tf.Tensor, width: tf.Tensor, config: ModelConfig
                ) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width in the network's input, int32.

    The shape is kept when height 32 makes the image at most `config.input_width` wide. With own
    widths it is scaled to that height, up or down, and a wider one squeezed to 32 x
    `input_width`. In the padded layout (the original's) a lower image is left as it is, and a
    wider one keeps its shape at width `input_width`.
    """
    height = tf.maximum(tf.cast(height, tf.int64), 1)
    own = tf.maximum(-(-tf.cast(width, tf.int64) * IMAGE_HEIGHT // height), 1)
    widest = tf.constant(config.input_width, tf.int64)
    if config.layout == "padded":
        fits, low = own <= widest, height <= IMAGE_HEIGHT
        tall = tf.where(fits, tf.minimum(height, IMAGE_HEIGHT), -(-widest * IMAGE_HEIGHT // own))
        wide = tf.where(fits, tf.where(low, tf.cast(width, tf.int64), own), widest)
    else:
        tall, wide = tf.fill(tf.shape(own), tf.constant(IMAGE_HEIGHT, tf.int64)), tf.minimum(
            own, widest)
    return tf.cast(tall, tf.int32), tf.cast(wide, tf.int32)


def _resize_with_antialias(pixels: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    return tf.image.resize(pixels, size, "bicubic", antialias=True)


def _resize_as_tf1(pixels: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.ResizeBicubic(images=pixels[None], size=size, half_pixel_centers=False)[0]


def _resize_as_tf2(pixels: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.ResizeBicubic(images=pixels[None], size=size, half_pixel_centers=True)[0]


_RESIZERS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "bicubic-antialias": _resize_with_antialias, "bicubic-tf1": _resize_as_tf1,
    "bicubic-tf2": _resize_as_tf2}


def _decode(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    pixels = tf.io.decode_image(encoded, channels, expand_animations=False)
    return tf.ensure_shape(pixels, [None, None, channels])


def _convert(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """GIF, BMP, WebP: decoders that do not convert between 1, 3 and 4 channels."""
    pixels = tf.io.decode_image(encoded, 0, expand_animations=False)
    pixels = tf.ensure_shape(pixels, [None, None, None])
    rgb = tf.cond(tf.shape(pixels)[2] < 3, lambda: tf.repeat(pixels[:, :, :1], 3, axis=2),
                  lambda: pixels[:, :, :3])
    rgb = tf.ensure_shape(rgb, [None, None, 3])
    return rgb if channels == 3 else tf.image.rgb_to_grayscale(rgb)
