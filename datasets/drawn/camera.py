"""Simulates cameras, scanners and files: light, blur, resolution, noise, JPEG."""

from __future__ import annotations

import math
from random import Random

import cv2
import numpy as np

from datasets.drawn import noise
from datasets.drawn.styles import Style

HEIGHTS = (32, 42)  # of the finished images, but for some of low resolution
_SMALLEST = 15  # height in pixels to which low resolution goes
_MOST_NOISE = 0.12  # deviation, of the range of brightness
_NARROWEST = 7.0  # pixels a character at low resolution


def light_unevenly(image: np.ndarray, rng: Random) -> np.ndarray:
    """Adds uneven light: a gradient, a soft shadow or the edge of one."""
    height, width = image.shape
    kind = rng.random()
    if kind < 0.45:
        angle = rng.uniform(0, 2 * math.pi)
        rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * math.sin(angle)
        field = rows + np.linspace(-1, 1, width, dtype=np.float32) * math.cos(angle)
        return image * (1 + rng.uniform(0.05, 0.3) * field)
    if kind < 0.8:
        field = noise.smooth(rng, height, width, (height, rng.uniform(1, 4) * height))
        return image * np.clip(1 + rng.uniform(0.05, 0.2) * field, 0.45, 1.5)
    position, slope = rng.uniform(0, width), rng.uniform(-1.5, 1.5)
    across = np.arange(width, dtype=np.float32) - position + (
        np.arange(height, dtype=np.float32)[:, None] * slope)
    edge = 1 / (1 + np.exp(np.clip(across / rng.uniform(0.7, 6), -20, 20)))
    return image * (1 - rng.uniform(0.15, 0.5) * edge)


def photograph(image: np.ndarray, length: int, style: Style, rng: Random) -> np.ndarray:
    """Applies blur, resolution, noise and sharpening.

    Args:
        image: `[height, width]` float32 in about 0…255.
        length: Characters of the text: it stays legible.
        style: How strong the effects are.
        rng: Source of all that is random.

    Returns:
        The image as taken, `[height, width]` uint8, smaller if of low resolution.
    """
    if rng.random() < style.uneven:
        image = light_unevenly(image, rng)
    blur = style.blur * rng.random() ** 1.6
    if blur > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    if rng.random() < style.motion:
        image = cv2.filter2D(image, -1, _motion(rng))
    if rng.random() < style.small:
        image = _reduced(image, length, rng)
    grain = min(style.noise, _MOST_NOISE * float(np.ptp(image))) * rng.random() ** 2
    if grain > 1:
        image = image + _grain(image.shape, grain, rng)
    if rng.random() < style.sharpened:
        soft = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.7, 2.0))
        image = image + rng.uniform(0.4, 2.0) * (image - soft)
    if style.binary == 1:
        image = binarized(image, rng)
    return np.clip(image, 0, 255).astype(np.uint8)


def _motion(rng: Random) -> np.ndarray:
    """Returns a kernel that blurs along a line, `[size, size]` float32."""
    size = rng.choice((3, 3, 5, 5, 7))
    kernel = np.zeros((size, size), np.float32)
    angle = rng.uniform(0, math.pi) if size < 7 else rng.choice((0, math.pi / 2))
    reach, middle = size // 2, size // 2
    move = (reach * math.cos(angle), reach * math.sin(angle))
    start = (round(middle - move[0]), round(middle - move[1]))
    end = (round(middle + move[0]), round(middle + move[1]))
    cv2.line(kernel, start, end, 1.0, 1)
    return kernel / kernel.sum()


def _reduced(image: np.ndarray, length: int, rng: Random) -> np.ndarray:
    """Reduces the resolution, and scales the image up again in half of the cases."""
    height, width = image.shape
    least = max(_SMALLEST, math.ceil(height * _NARROWEST * length / width))
    if least >= height:
        return image
    low = rng.randint(least, height)
    size = (max(4, round(width * low / height)), low)
    interpolation = cv2.INTER_AREA if rng.random() < 0.8 else cv2.INTER_LINEAR
    small = cv2.resize(image, size, interpolation=interpolation)
    if rng.random() < 0.5:
        return small
    interpolation = rng.choice(
        (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_CUBIC, cv2.INTER_NEAREST))
    return cv2.resize(small, (width, height), interpolation=interpolation)


def _grain(shape: tuple[int, ...], strength: float, rng: Random) -> np.ndarray:
    height, width = shape
    if rng.random() < 0.3:
        return strength * noise.smooth(rng, height, width, (rng.uniform(1.2, 2.5),) * 2)
    return strength * noise.white(rng, height, width)


def binarized(image: np.ndarray, rng: Random) -> np.ndarray:
    """Binarizes by a threshold between paper and ink, at single or double resolution."""
    height, width = image.shape
    fine = cv2.resize(image, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC)
    low, high = np.percentile(fine, (2, 98))
    level = low + (high - low) * rng.uniform(0.4, 0.65)
    black_and_white = np.where(fine > level, 255, 0).astype(np.float32)
    interpolation = cv2.INTER_AREA if rng.random() < 0.75 else cv2.INTER_NEAREST
    return cv2.resize(black_and_white, (width, height), interpolation=interpolation)


def encoded(image: np.ndarray, style: Style, rng: Random) -> bytes:
    """Returns the image as a JPEG file."""
    quality = round(style.quality[0] + (style.quality[1] - style.quality[0]) * rng.random() ** 1.2)
    if rng.random() < 0.12:  # saved twice
        first = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, rng.randint(20, 80)))[1]
        image = np.asarray(cv2.imdecode(first, cv2.IMREAD_GRAYSCALE))
    options = (cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1)
    return cv2.imencode(".jpg", image, options)[1].tobytes()
