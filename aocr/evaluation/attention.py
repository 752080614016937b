"""Pictures of the attention: where in the image every character was read.

Each picture is the image, dimmed and lit in a warm colour where the attention of one character
lies. The tint also shows on black, where dimming alone would not. A strip below repeats the
attention as a curve, and its lowest line tells how far into the text the picture is.
"""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from aocr.config import COLUMN_PIXELS
from aocr.images.transcoding import to_decodable

FRAME_MILLISECONDS = 500
JPEG_QUALITY = 92
SMALLEST_HEIGHT = 64
LARGEST_SIDE = 1600
LARGEST_ANIMATED_SIDE = 800  # a GIF of many large frames takes long to write and to load
_SAMPLED_SIDE = 128  # pixels that choose the palette; all pixels would take seconds
_CURVE_HEIGHTS = (16, 48)  # pixels, smallest and largest
_LINE_HEIGHT = 4
_DARK = 0.25  # brightness where no attention lies
_TINT = 0.25  # how much of the warm colour where all of it lies
_WARM = np.array([255, 176, 32], np.float32)
_STRIP = np.array([22, 24, 30], np.float32)
_LINE = np.array([150, 156, 168], np.float32)


class Pictures(NamedTuple):
    """Encoded pictures of one image.

    Attributes:
        stills: JPEG files, one for every character.
        animation: GIF file that loops through the same pictures, large ones shrunk; the dimmed
            image for no text.
    """

    stills: list[bytes]
    animation: bytes


def pictures(encoded: bytes, attention: np.ndarray, own_width: int, text: str) -> Pictures:
    """Draws the attention of every character over the image, as the network saw it.

    Args:
        encoded: An image file of any format that Pillow knows; alpha is dropped.
        attention: `[characters, columns]` float, over the network's feature columns.
        own_width: Width of the image in the network's input; columns behind it are padding.
        text: What was read, one character for each row of `attention`.

    Raises:
        SkipError: The image cannot be read.
        ValueError: The attention does not fit the text or the width.
    """
    if len(attention) != len(text):
        raise ValueError(f"expected attention for {len(text)} characters, got {len(attention)}")
    own = _own_columns(attention, own_width)
    pixels = _shown(encoded)
    curves = _curves(own, own_width, pixels.shape[1])
    frames = [_frame(pixels, curve, (n + 1) / len(text)) for n, curve in enumerate(curves)]
    stills = [_jpeg(frame) for frame in frames]
    plain = np.zeros(pixels.shape[1], np.float32)
    return Pictures(stills, _gif(frames or [_frame(pixels, plain, 0.0)]))


def centers(attention: np.ndarray, own_width: int) -> np.ndarray:
    """Centre of mass of each character's attention.

    Args:
        attention: `[characters, columns]` float, over the network's feature columns.
        own_width: Width of the image in the network's input; columns behind it are padding.

    Returns:
        `[characters]` float64, from 0 (left edge of the image) to 1 (right edge); NaN where no
        attention lies on the image.

    Raises:
        ValueError: The attention does not fit the width.
    """
    own = _own_columns(attention, own_width)
    total = own.sum(1)
    middles = np.full(len(own), np.nan)
    np.divide(own @ _column_centers(own_width), total, out=middles, where=total > 0)
    return middles


def _own_columns(attention: np.ndarray, own_width: int) -> np.ndarray:
    """`[characters, own columns]` float64 without the padding; what is not a number counts as 0."""
    columns = -(-own_width // COLUMN_PIXELS)
    if own_width < 1:
        raise ValueError(f"expected a width of at least 1, got {own_width}")
    if not len(attention):
        return np.zeros((0, columns))
    if attention.ndim != 2 or attention.shape[1] < columns:
        raise ValueError(f"expected attention [characters, {columns} or more columns] for width "
                         f"{own_width}, got {list(attention.shape)}")
    own = attention[:, :columns].astype(np.float64)
    return np.nan_to_num(own, posinf=0.0, neginf=0.0).clip(0.0)


def _column_centers(own_width: int) -> np.ndarray:
    """`[own columns]` middles as fractions of the width; the last column may be cut."""
    left = np.arange(0, own_width, COLUMN_PIXELS)
    right = np.minimum(left + COLUMN_PIXELS, own_width)
    return (left + right) / (2 * own_width)


def _curves(own: np.ndarray, own_width: int, width: int) -> np.ndarray:
    """Attention on every shown pixel column, `[characters, width]` float32 with maximum 1."""
    middles = _column_centers(own_width)
    places = (np.arange(width) + 0.5) / width
    curves = np.zeros((len(own), width), np.float32)
    for curve, weights in zip(curves, own, strict=True):
        curve[:] = np.interp(places, middles, weights)
        curve /= np.max(curve) or 1.0
    return curves


def _shown(encoded: bytes) -> np.ndarray:
    """The image at a size to look at, `[height, width, 3]` float32 from 0 to 255."""
    with Image.open(io.BytesIO(to_decodable(encoded)[0])) as image:
        image.load()
        image.info.pop("transparency", None)
        rgb = image.convert("RGB")
    size = _shown_size(*rgb.size)
    rgb = rgb.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.asarray(rgb, np.float32)


def _shown_size(width: int, height: int) -> tuple[int, int]:
    """Enlarged by a whole number if low, then shrunk so that strip and image fit the limit."""
    factor = -(-SMALLEST_HEIGHT // height)
    width, height = width * factor, height * factor
    tallest = LARGEST_SIDE - _CURVE_HEIGHTS[1] - _LINE_HEIGHT
    scale = min(1.0, LARGEST_SIDE / width, tallest / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _frame(pixels: np.ndarray, curve: np.ndarray, progress: float) -> Image.Image:
    """One picture: the lit image above the strip.

    Args:
        pixels: `[height, width, 3]` float32.
        curve: `[width]` float32 from 0 to 1.
        progress: The part of the text that has been read, from 0 to 1.
    """
    dim = pixels * _DARK
    lit = pixels + (_WARM - pixels) * _TINT
    image = dim + (lit - dim) * curve[:, None]
    rows = np.concatenate([image, _strip(curve, progress, len(pixels))])
    return Image.fromarray(np.rint(rows).astype(np.uint8))


def _strip(curve: np.ndarray, progress: float, height: int) -> np.ndarray:
    """The filled curve over the line of progress, `[strip height, width, 3]` float32."""
    smallest, largest = _CURVE_HEIGHTS
    tall = min(max(height // 4, smallest), largest)
    above = np.arange(tall, 0, -1, dtype=np.float32)[:, None]
    inside = np.clip(curve * tall - above + 1, 0, 1)
    read = np.clip(progress * len(curve) - np.arange(len(curve)), 0, 1).astype(np.float32)
    line = np.broadcast_to(read, (_LINE_HEIGHT, len(curve)))
    return np.concatenate([_STRIP + (_WARM - _STRIP) * inside[:, :, None],
                           _STRIP + (_LINE - _STRIP) * line[:, :, None]])


def _jpeg(frame: Image.Image) -> bytes:
    out = io.BytesIO()
    frame.save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return out.getvalue()


def _gif(frames: list[Image.Image]) -> bytes:
    out = io.BytesIO()
    first, *others = [_paletted(frame) for frame in frames]
    first.save(out, "GIF", save_all=True, append_images=others, duration=FRAME_MILLISECONDS, loop=0)
    return out.getvalue()


def _paletted(frame: Image.Image) -> Image.Image:
    """A frame of the GIF; its palette covers the small lit place as well as the large dim one."""
    small = frame.copy()
    small.thumbnail((LARGEST_ANIMATED_SIDE, LARGEST_ANIMATED_SIDE))
    size = (min(small.width, _SAMPLED_SIDE), min(small.height, _SAMPLED_SIDE))
    sample = small.resize(size, Image.Resampling.NEAREST)
    palette = sample.quantize(method=Image.Quantize.MAXCOVERAGE)
    return small.quantize(palette=palette, dither=Image.Dither.NONE)
