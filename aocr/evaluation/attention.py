"""Attention pictures: the part of the image that the model attends to for each character.

Each picture shows the image dimmed, except where the attention for one character is high: there it
is bright and tinted orange, which is visible on black as well. A strip below the image shows the
attention as a curve, above a progress bar of the characters.
"""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from aocr.config import ALPHA_RULES, COLUMN_PIXELS
from aocr.images import preprocessing

FRAME_MILLISECONDS = 500
JPEG_QUALITY = 92
SMALLEST_HEIGHT = 64
LARGEST_SIDE = 1600
LARGEST_ANIMATED_SIDE = 800  # GIFs of many large frames are slow to write and to load
_PALETTE_SAMPLE_SIDE = 128  # the palette is computed from a sample: all pixels would take seconds
_CURVE_HEIGHTS = (16, 48)  # smallest and largest, in pixels
_PROGRESS_HEIGHT = 4
_DIMMED = 0.25  # brightness where there is no attention
_TINT = 0.25  # share of orange where the attention is highest
_ORANGE = np.array([255, 176, 32], np.float32)
_STRIP_COLOR = np.array([22, 24, 30], np.float32)
_PROGRESS_COLOR = np.array([150, 156, 168], np.float32)


class Pictures(NamedTuple):
    """Encoded attention pictures of one image.

    Attributes:
        stills: A JPEG file for each character.
        animation: A GIF file that loops through the same pictures, downscaled if they are large;
            the dimmed image if the text is empty.
    """

    stills: list[bytes]
    animation: bytes


def draw(encoded: bytes, attention: np.ndarray, width: int, text: str,
         alpha: str = ALPHA_RULES[0]) -> Pictures:
    """Draws the attention of each character over the image.

    Args:
        encoded: The image file of a record, which TensorFlow has decoded.
        attention: `[characters, columns]` float, over the network's feature columns.
        width: Width of the image in the network's input, in pixels; later columns are padding.
        text: The prediction, one character for each row of `attention`.
        alpha: How the model sees transparent pixels, see `ModelConfig`.

    Raises:
        ValueError: The attention does not fit the text or the width.
    """
    if len(attention) != len(text):
        raise ValueError(f"expected attention for {len(text)} characters, got {len(attention)}")
    pixels = _display_pixels(encoded, alpha)
    curves = _curves(_without_padding(attention, width), width, pixels.shape[1])
    frames = [_frame(pixels, curve, (n + 1) / len(text)) for n, curve in enumerate(curves)]
    stills = [_jpeg(frame) for frame in frames]
    no_attention = np.zeros(pixels.shape[1], np.float32)
    return Pictures(stills, _gif(frames or [_frame(pixels, no_attention, 0.0)]))


def centers(attention: np.ndarray, width: int) -> np.ndarray:
    """Returns the center of mass of each character's attention.

    Args:
        attention: `[characters, columns]` float, over the network's feature columns.
        width: Width of the image in the network's input, in pixels; later columns are padding.

    Returns:
        `[characters]` float64, from 0 (left edge of the image) to 1 (right edge); NaN where there
        is no attention on the image.

    Raises:
        ValueError: The attention does not fit the width.
    """
    weights = _without_padding(attention, width)
    total = weights.sum(1)
    means = np.full(len(weights), np.nan)
    np.divide(weights @ _column_centers(width), total, out=means, where=total > 0)
    return means


def _without_padding(attention: np.ndarray, width: int) -> np.ndarray:
    """Returns the attention on the image's own columns, float64; NaN and infinity become 0."""
    columns = -(-width // COLUMN_PIXELS)
    if width < 1:
        raise ValueError(f"expected a width of at least 1, got {width}")
    if not len(attention):
        return np.zeros((0, columns))
    if attention.ndim != 2 or attention.shape[1] < columns:
        raise ValueError(f"expected attention [characters, {columns} or more columns] for width "
                         f"{width}, got {list(attention.shape)}")
    weights = attention[:, :columns].astype(np.float64)
    return np.nan_to_num(weights, posinf=0.0, neginf=0.0).clip(0.0)


def _column_centers(width: int) -> np.ndarray:
    """Returns the center of each feature column as a fraction of the image's width.

    The last column is narrower where the width is not a multiple of a column's.
    """
    left = np.arange(0, width, COLUMN_PIXELS)
    right = np.minimum(left + COLUMN_PIXELS, width)
    return (left + right) / (2 * width)


def _curves(weights: np.ndarray, width: int, display_width: int) -> np.ndarray:
    """Interpolates the attention to pixel columns, `[characters, display_width]`, maximum 1."""
    columns = _column_centers(width)
    pixels = (np.arange(display_width) + 0.5) / display_width
    curves = np.zeros((len(weights), display_width), np.float32)
    for curve, row in zip(curves, weights, strict=True):
        curve[:] = np.interp(pixels, columns, row)
        curve /= np.max(curve) or 1.0
    return curves


def _display_pixels(encoded: bytes, alpha: str) -> np.ndarray:
    """Returns the image at the size to display, `[height, width, 3]` float32, 0 to 255.

    It is decoded as for the network, but to colors.
    """
    rgb = Image.fromarray(preprocessing.decode(tf.constant(encoded), 3, alpha).numpy())
    size = _display_size(*rgb.size)
    rgb = rgb.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.asarray(rgb, np.float32)


def _display_size(width: int, height: int) -> tuple[int, int]:
    """Returns the width and height to display, of which image and strip fit the limits.

    Low images are enlarged by an integer factor.
    """
    factor = -(-SMALLEST_HEIGHT // height)
    width, height = width * factor, height * factor
    tallest = LARGEST_SIDE - _CURVE_HEIGHTS[1] - _PROGRESS_HEIGHT
    scale = min(1.0, LARGEST_SIDE / width, tallest / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _frame(pixels: np.ndarray, curve: np.ndarray, progress: float) -> Image.Image:
    """Draws one picture: the image with the attention, and the strip below it.

    Args:
        pixels: `[height, width, 3]` float32.
        curve: `[width]` float32 from 0 to 1.
        progress: Share of the text up to this character, from 0 to 1.
    """
    dimmed = pixels * _DIMMED
    tinted = pixels + (_ORANGE - pixels) * _TINT
    image = dimmed + (tinted - dimmed) * curve[:, None]
    rows = np.concatenate([image, _strip(curve, progress, len(pixels))])
    return Image.fromarray(np.rint(rows).astype(np.uint8))


def _strip(curve: np.ndarray, progress: float, height: int) -> np.ndarray:
    """Draws the filled curve above the progress bar, `[strip height, width, 3]` float32."""
    smallest, largest = _CURVE_HEIGHTS
    curve_height = min(max(height // 4, smallest), largest)
    levels = np.arange(curve_height, 0, -1, dtype=np.float32)[:, None]
    filled = np.clip(curve * curve_height - levels + 1, 0, 1)
    row = np.clip(progress * len(curve) - np.arange(len(curve)), 0, 1).astype(np.float32)
    bar = np.broadcast_to(row, (_PROGRESS_HEIGHT, len(curve)))
    return np.concatenate([_STRIP_COLOR + (_ORANGE - _STRIP_COLOR) * filled[:, :, None],
                           _STRIP_COLOR + (_PROGRESS_COLOR - _STRIP_COLOR) * bar[:, :, None]])


def _jpeg(frame: Image.Image) -> bytes:
    out = io.BytesIO()
    frame.save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return out.getvalue()


def _gif(frames: list[Image.Image]) -> bytes:
    out = io.BytesIO()
    first, *others = [_with_palette(frame) for frame in frames]
    first.save(out, "GIF", save_all=True, append_images=others, duration=FRAME_MILLISECONDS, loop=0)
    return out.getvalue()


def _with_palette(frame: Image.Image) -> Image.Image:
    """Converts a frame of the GIF to a palette that covers small bright areas as well."""
    small = frame.copy()
    small.thumbnail((LARGEST_ANIMATED_SIDE, LARGEST_ANIMATED_SIDE))
    size = (min(small.width, _PALETTE_SAMPLE_SIDE), min(small.height, _PALETTE_SAMPLE_SIDE))
    sample = small.resize(size, Image.Resampling.NEAREST)
    palette = sample.quantize(method=Image.Quantize.MAXCOVERAGE)
    return small.quantize(palette=palette, dither=Image.Dither.NONE)
