"""Distortions of images `[height, width, channels]` with values 0…255, each with its parameters."""

from __future__ import annotations

import tensorflow as tf

WHITE = 255.0
_BLUR_RADIUS = 2  # pixels


def transform(size: tf.Tensor, linear: tf.Tensor, shift: tf.Tensor, perspective: tf.Tensor
              ) -> tf.Tensor:
    """Returns the projective transform from the pixels of a warped image to those of its source.

    The pixel at position p from the center, shift subtracted, comes from the position
    (linear · p) / (1 + perspective · p) from the center.

    Args:
        size: Width and height of the image, `[2]`.
        linear: Rows for x and y, `[2, 2]`.
        shift: Of the content, in pixels to the right and downwards, `[2]`.
        perspective: For each pixel of x and y, `[2]`.

    Returns:
        The rows of the 3 x 3 matrix without its last element, which is 1, `[8]`.
    """
    center = ((size - 1.0) / 2.0)[:, None]
    origin, perspective = center + shift[:, None], perspective[None]
    last = 1.0 - tf.matmul(perspective, origin)
    offset = center * last - tf.matmul(linear, origin)
    first_rows = tf.concat([linear + center * perspective, offset], 1)
    last_row = tf.concat([perspective, last], 1)
    return tf.reshape(tf.concat([first_rows, last_row], 0) / last, [9])[:8]


def warp(pixels: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """Returns a warped image; what comes in from outside has the color of the background.

    Args:
        pixels: The image.
        matrix: See `transform`, `[8]`.
    """
    color = background(pixels)
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=(pixels - color)[None], transforms=matrix[None], output_shape=tf.shape(pixels)[:2],
        fill_value=0.0, interpolation="BILINEAR")
    return warped[0] + color


def background(pixels: tf.Tensor) -> tf.Tensor:
    """Returns the median color of the edges of an image, `[channels]`."""
    edges = tf.concat([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]], 0)
    return tf.sort(edges, 0)[tf.shape(edges)[0] // 2]


def erase(pixels: tf.Tensor, corner: tf.Tensor, size: tf.Tensor, gray: tf.Tensor) -> tf.Tensor:
    """Returns an image with a gray rectangle.

    Args:
        pixels: The image.
        corner: Its upper left corner, row and column, `[2]`.
        size: Its height and width, `[2]`.
        gray: Its value, scalar.
    """
    is_row, is_column = (
        tf.abs(tf.range(length) + 0.5 - corner[n] - size[n] / 2.0) < size[n] / 2.0
        for n, length in enumerate(tf.unstack(tf.cast(tf.shape(pixels)[:2], tf.float32))))
    return tf.where((is_row[:, None] & is_column)[:, :, None], gray, pixels)


def blur(pixels: tf.Tensor, deviation: tf.Tensor) -> tf.Tensor:
    """Returns an image convolved with a Gaussian; its edges are repeated outside.

    Args:
        pixels: The image.
        deviation: Standard deviation in pixels.
    """
    positions = tf.range(-_BLUR_RADIUS, _BLUR_RADIUS + 1, dtype=tf.float32)
    weights = tf.nn.softmax(-tf.square(positions / tf.maximum(deviation, 0.1)) / 2.0)
    for axis in range(2):
        length = tf.shape(pixels)[axis]
        pixels = tf.add_n([
            weight * tf.gather(pixels, tf.clip_by_value(tf.range(length) + n, 0, length - 1),
                               axis=axis)
            for n, weight in enumerate(tf.unstack(weights), -_BLUR_RADIUS)])
    return pixels


def adjust(pixels: tf.Tensor, contrast: tf.Tensor, brightness: tf.Tensor) -> tf.Tensor:
    """Returns an image with another contrast and brightness; a negative contrast inverts it.

    Args:
        pixels: The image.
        contrast: Factor on the difference from the mean, so that faint text does not vanish.
        brightness: Share of white that is added.
    """
    mean = tf.reduce_mean(pixels)
    new_mean = tf.where(contrast < 0, WHITE - mean, mean) + WHITE * brightness
    return tf.clip_by_value((pixels - mean) * contrast + new_mean, 0, WHITE)


def add_noise(pixels: tf.Tensor, seed: tf.Tensor, deviation: tf.Tensor) -> tf.Tensor:
    """Returns an image with Gaussian noise.

    Args:
        pixels: The image.
        seed: `[2]` int64.
        deviation: Standard deviation as a share of white.
    """
    noise = tf.random.stateless_normal(tf.shape(pixels), seed)
    return tf.clip_by_value(pixels + WHITE * deviation * noise, 0, WHITE)


def compress(pixels: tf.Tensor, quality: tf.Tensor) -> tf.Tensor:
    """Returns an image as a JPEG file of a quality from 1 to 100 (int32) shows it."""
    encoded = tf.raw_ops.EncodeJpegVariableQuality(
        images=tf.cast(tf.round(pixels), tf.uint8), quality=quality)
    return tf.cast(tf.io.decode_jpeg(encoded, pixels.shape[2]), tf.float32)
