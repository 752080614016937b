"""Decodes, resizes and normalizes images in TensorFlow operations.

Records, `predict` and exported models all use these, so that the network's input is the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from aocr.config import IMAGE_HEIGHT, ModelConfig

_MIDDLE_GRAY = 128.0
_PNG, _JPEG, _WEBP = b"\x89P", b"\xff\xd8", b"RI"
_PNG_COLOR_TYPE = 25  # offset in the file
_PNG_ALPHA = 4  # flag in the color type
_OPAQUE = 255


def preprocess(encoded: tf.Tensor, config: ModelConfig) -> tf.Tensor:
    """Returns an image as the network's input.

    The size is that of `scaled_size`; the padded layout fills the rest with zeros, which is black.

    Args:
        encoded: Scalar string: a PNG, JPEG, GIF (first frame), BMP or WebP file.
        config: Channels, widths, resizing kernel and alpha.

    Returns:
        `[32, width, channels]`, `(value - 128) / 128`.

    Raises:
        tf.errors.InvalidArgumentError: The file cannot be decoded.
    """
    return to_input(scale(encoded, config), config)


def scale(encoded: tf.Tensor, config: ModelConfig) -> tf.Tensor:
    """Returns a decoded image at its size in the network's input: `[height, width, channels]`."""
    pixels = decode(encoded, config.channels, config.alpha)
    shape = tf.shape(pixels)
    size = tf.stack(scaled_size(shape[0], shape[1], config))
    return _RESIZERS[config.kernel](pixels, size)


def to_input(scaled: tf.Tensor, config: ModelConfig) -> tf.Tensor:
    """Pads an image as the layout requires, and normalizes it; see `preprocess`."""
    if config.layout == "padded":
        scaled = tf.image.pad_to_bounding_box(scaled, 0, 0, IMAGE_HEIGHT, config.input_width)
    scaled.set_shape([IMAGE_HEIGHT, None, config.channels])
    return (scaled - _MIDDLE_GRAY) / _MIDDLE_GRAY


def preprocess_batch(encoded: tf.Tensor, config: ModelConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns several images, padded with zeros to the widest.

    Args:
        encoded: `[batch]` string.
        config: As in `preprocess`.

    Returns:
        Images `[batch, 32, width, channels]` and their widths in pixels, `[batch]` int32.
    """
    size = tf.size(encoded)
    columns = tf.TensorArray(tf.float32, size, infer_shape=False,
                             element_shape=[None, IMAGE_HEIGHT, config.channels])
    widths = tf.TensorArray(tf.int32, size, element_shape=[])

    def step(n: tf.Tensor, columns: tf.TensorArray, widths: tf.TensorArray
             ) -> tuple[tf.Tensor, tf.TensorArray, tf.TensorArray]:
        image = tf.transpose(preprocess(encoded[n], config), [1, 0, 2])
        return n + 1, columns.write(n, image), widths.write(n, tf.shape(image)[0])

    start = (tf.constant(0), columns, widths)
    # More than two large images decoded at the same time would take too much memory.
    _, columns, widths = tf.while_loop(
        lambda n, *_: n < size, step, start, parallel_iterations=2)
    lengths = tf.ensure_shape(widths.stack(), [None])
    rows = tf.RaggedTensor.from_row_lengths(columns.concat(), lengths).to_tensor()
    images = tf.transpose(rows, [0, 2, 1, 3])
    return tf.ensure_shape(images, [None, IMAGE_HEIGHT, None, config.channels]), lengths


def denormalize(images: np.ndarray) -> np.ndarray:
    """Returns the pixels, uint8, of images that `preprocess` has returned, as arrays."""
    return np.rint(images * _MIDDLE_GRAY + _MIDDLE_GRAY).clip(0, 255).astype(np.uint8)


def decode(encoded: tf.Tensor, channels: int, alpha: str) -> tf.Tensor:
    """Decodes an image to `[height, width, channels]` uint8.

    The gray values of PNG and JPEG files are those of libpng and libjpeg, which differ a little
    from a weighted sum of RGB. GIF, BMP and WebP files are decoded to RGB first.

    TensorFlow decodes the alpha of PNG and WebP files only: transparent pixels of a GIF file are
    black, and the fourth channel of a BMP file, which need not be alpha, is dropped.
    `aocr.images.transcoding` re-encodes such files.

    Args:
        encoded: Scalar string.
        channels: 1 or 3.
        alpha: "composite" blends transparent pixels with a background (see `_composite`), "drop"
            shows their colors as they are.
    """
    magic = tf.strings.substr(encoded, 0, 2)
    return tf.cond((magic == _PNG) | (magic == _JPEG),
                   lambda: _decode_directly(encoded, channels, alpha),
                   lambda: _decode_by_rgb(encoded, channels, alpha))


def scaled_size(height: tf.Tensor, width: tf.Tensor, config: ModelConfig
                ) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the height and width of an image in the network's input, int32.

    Layout "own-width": the image is scaled to height 32, up or down. The aspect ratio is kept up
    to a width of `config.input_width`; wider images are squeezed to that.

    Layout "padded" (the original's): the aspect ratio is always kept. An image that would be wider
    than `input_width` at height 32 is scaled to that width. Of the others, those of at most 32
    pixels height are left as they are, and taller ones are scaled to height 32.
    """
    height = tf.maximum(tf.cast(height, tf.int64), 1)
    proportional = tf.maximum(-(-tf.cast(width, tf.int64) * IMAGE_HEIGHT // height), 1)
    widest = tf.constant(config.input_width, tf.int64)
    if config.layout == "padded":
        fits, low = proportional <= widest, height <= IMAGE_HEIGHT
        tall = tf.where(fits, tf.minimum(height, IMAGE_HEIGHT),
                        -(-widest * IMAGE_HEIGHT // proportional))
        wide = tf.where(
            fits, tf.where(low, tf.cast(width, tf.int64), proportional), widest)
    else:
        tall = tf.fill(tf.shape(proportional), tf.constant(IMAGE_HEIGHT, tf.int64))
        wide = tf.minimum(proportional, widest)
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


def _decode_directly(encoded: tf.Tensor, channels: int, alpha: str) -> tf.Tensor:
    """Decodes PNG and JPEG, which TensorFlow converts to the wanted channels."""
    colors = _decode(encoded, channels)
    if alpha == "drop":
        return colors
    return tf.cond(_has_png_alpha(encoded),
                   lambda: _composite(colors, _decode(encoded, 4)[:, :, 3:]), lambda: colors)


def _decode_by_rgb(encoded: tf.Tensor, channels: int, alpha: str) -> tf.Tensor:
    """Decodes GIF, BMP and WebP, which TensorFlow decodes only to the channels of the file."""
    pixels = _decode(encoded, 0)
    rgb = tf.cond(tf.shape(pixels)[2] < 3, lambda: tf.repeat(pixels[:, :, :1], 3, axis=2),
                  lambda: pixels[:, :, :3])
    rgb = tf.ensure_shape(rgb, [None, None, 3])
    if alpha == "composite":
        has_alpha = (tf.strings.substr(encoded, 0, 2) == _WEBP) & (tf.shape(pixels)[2] == 4)
        rgb = tf.cond(has_alpha, lambda: _composite(rgb, pixels[:, :, 3:]), lambda: rgb)
    return rgb if channels == 3 else tf.image.rgb_to_grayscale(rgb)


def _decode(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    pixels = tf.io.decode_image(encoded, channels, expand_animations=False)
    return tf.ensure_shape(pixels, [None, None, channels or None])


def _has_png_alpha(encoded: tf.Tensor) -> tf.Tensor:
    """Returns whether a PNG file has an alpha channel or a transparency chunk.

    The bytes of the chunk's name may also be part of another chunk. Then the alpha that is decoded
    is opaque.
    """
    head = tf.io.decode_raw(encoded, tf.uint8, fixed_length=_PNG_COLOR_TYPE + 1)
    before_pixels = tf.strings.split(encoded, "IDAT", maxsplit=1)[0]
    has_chunk = tf.size(tf.strings.split(before_pixels, "tRNS")) > 1
    is_png = tf.strings.substr(encoded, 0, 2) == _PNG
    return is_png & ((head[_PNG_COLOR_TYPE] & _PNG_ALPHA > 0) | has_chunk)


def _composite(colors: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """Blends an image with white, or with black if its visible pixels are lighter than mid-gray.

    Args:
        colors: `[height, width, 1 or 3]` uint8.
        alpha: `[height, width, 1]` uint8; pixels count as visible in proportion to it.

    Returns:
        `[height, width, 1 or 3]` uint8; opaque pixels keep their values.
    """
    gray = colors if colors.shape[2] == 1 else tf.image.rgb_to_grayscale(colors)
    weights = tf.cast(alpha, tf.int64)
    is_light = 2 * tf.reduce_sum(tf.cast(gray, tf.int64) * weights) > (
        _OPAQUE * tf.reduce_sum(weights))
    background = tf.where(is_light, 0, _OPAQUE)
    opacity = tf.cast(alpha, tf.int32)
    blended = tf.cast(colors, tf.int32) * opacity + background * (_OPAQUE - opacity)
    return tf.cast((blended + _OPAQUE // 2) // _OPAQUE, tf.uint8)
