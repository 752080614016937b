"""Paints paper, ink, and marks behind, over and around the letters, in shades of gray."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import cv2
import numpy as np

from datasets.drawn import noise
from datasets.drawn.styles import Style

_DECORATION_CONTRAST = 45  # least difference of an outline to what it surrounds


def painted(ink: np.ndarray, spans: Sequence[tuple[float, float]], style: Style, rng: Random
            ) -> np.ndarray:
    """Paints letters on a background.

    Args:
        ink: Share of ink, `[height, width]` float32 in 0…1.
        spans: Left and right end of each letter, as shares of the width.
        style: How strong the effects are.
        rng: Source of all that is random.

    Returns:
        The image, `[height, width]` float32 in about 0…255.
    """
    low, high = style.contrast
    contrast = low + (high - low) * rng.random() ** 0.65
    if rng.random() < style.white:
        dark = max(0.0, rng.uniform(225, 255) - contrast)
    else:
        dark = rng.uniform(0, 255 - contrast) * rng.uniform(0.2, 1)
    levels = (dark, dark + contrast)
    inverted = rng.random() < style.inverted
    letter, paper = levels[::-1] if inverted else levels
    image = ground(ink.shape, paper, contrast, style, rng)
    if rng.random() < style.decorated:
        image = _decorated(image, ink, letter, paper, rng)
    color = _letter_color(ink.shape, spans, letter, contrast * (1 if paper > letter else -1),
                          style, rng)
    image = image + (color - image) * ink
    if rng.random() < style.strokes:
        _draw_strokes(image, letter, rng)
    if rng.random() < style.border:
        shade = letter if rng.random() < 0.6 else rng.choice((0, 255))
        cv2.rectangle(image, (0, 0), (image.shape[1] - 1, image.shape[0] - 1), shade,
                      rng.choice((1, 1, 2)))
    return image


def ground(shape: tuple[int, ...], level: float, contrast: float, style: Style, rng: Random
           ) -> np.ndarray:
    """Returns the background: flat, rough or cluttered, `[height, width]` float32."""
    height, width = shape
    image = np.full((height, width), level, np.float32)
    if rng.random() < style.clutter:
        _draw_clutter(image, level, contrast, rng)
    if rng.random() < style.texture:
        image += _texture(height, width, rng) * rng.uniform(0.03, 0.16) * contrast
    return image


def _texture(height: int, width: int, rng: Random) -> np.ndarray:
    kind = rng.random()
    if kind < 0.35:
        return noise.octaves(rng, height, width, rng.uniform(6, 40))
    if kind < 0.6:  # grain in one direction, as of wood, brushed metal or woven cloth
        long, short = rng.uniform(15, 120), rng.uniform(1.5, 5)
        cell = (short, long) if rng.random() < 0.7 else (long, short)
        return noise.smooth(rng, height, width, cell)
    if kind < 0.75:  # a regular pattern
        angle, period = rng.uniform(0, math.pi), rng.uniform(3, 14)
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        phase = columns * math.cos(angle) + rows * math.sin(angle)
        return np.sin(phase * (2 * math.pi / period))
    return noise.smooth(rng, height, width, (rng.uniform(1.5, 4),) * 2)


def _draw_clutter(image: np.ndarray, level: float, contrast: float, rng: Random) -> None:
    """Areas and lines that differ less from the paper than the letters do."""
    height, width = image.shape
    for _ in range(rng.randint(1, 4)):
        shade = level + rng.uniform(-0.35, 0.35) * contrast
        start = (rng.randint(0, width), rng.randint(-height, height))
        end = (rng.randint(0, width), rng.randint(0, 2 * height))
        kind = rng.random()
        if kind < 0.4:
            cv2.rectangle(image, start, end, shade, -1)
        elif kind < 0.7:
            cv2.line(image, start, end, shade, rng.randint(1, 12), cv2.LINE_AA)
        else:
            cv2.circle(image, start, rng.randint(4, height), shade, rng.choice((-1, 2, 4)),
                       cv2.LINE_AA)


def _decorated(image: np.ndarray, ink: np.ndarray, letter: float, paper: float, rng: Random
               ) -> np.ndarray:
    """Adds a shadow, an outline or the light edge of a relief under the letters."""
    kind = rng.random()
    if kind < 0.5:
        shift = (rng.choice((-3, -2, -1, 1, 2, 3)), rng.choice((-1, 1, 2, 3)))
        under = _shifted(ink, *shift)
        if rng.random() < 0.6:
            under = cv2.GaussianBlur(under, (0, 0), rng.uniform(0.6, 2.0))
        shade = min(letter, paper) * rng.uniform(0.2, 0.8)
        if abs(shade - letter) < _DECORATION_CONTRAST:
            shade = paper + (letter - paper) * rng.uniform(-0.4, 0.35)
        return image + (shade - image) * under * rng.uniform(0.4, 0.95)
    if kind < 0.85:
        size = rng.choice((3, 3, 5, 5, 7))
        around = cv2.dilate(ink, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
        shade = 255.0 if letter < 128 else rng.uniform(0, 60)
        return image + (shade - image) * around
    highlighted = image + (255 - image) * 0.7 * _shifted(ink, -1, -1)
    return highlighted * (1 - 0.7 * _shifted(ink, 1, 1))


def _shifted(ink: np.ndarray, right: int, down: int) -> np.ndarray:
    move = np.array([[1, 0, right], [0, 1, down]], np.float32)
    return cv2.warpAffine(ink, move, (ink.shape[1], ink.shape[0]))


def _letter_color(shape: tuple[int, ...], spans: Sequence[tuple[float, float]], level: float,
                  towards: float, style: Style, rng: Random) -> np.ndarray | float:
    """Returns the letters' brightness: one level, a gradient, or one level for each letter.

    Args:
        shape: Of the image.
        spans: Left and right end of each letter, as shares of the width.
        level: The usual brightness.
        towards: What is to be added for the brightness of the paper.
        style: How often letters differ.
        rng: Source of all that is random.
    """
    height, width = shape
    if len(spans) > 1 and rng.random() < style.uneven_brightness:
        row = np.full(width, level, np.float32)
        for left, right in spans:
            row[round(left * width):round(right * width)] = level + rng.uniform(0, 0.45) * towards
        return row
    if rng.random() < style.uneven * 0.3:
        return level + towards * rng.uniform(0, 0.35) * np.clip(
            noise.smooth(rng, height, width, (height * 2, height * 3)), -1, 1)
    return level


def _draw_strokes(image: np.ndarray, letter: float, rng: Random) -> None:
    """Draws thin lines and curves over the text, long or short, and points."""
    height, width = image.shape
    if rng.random() < 0.35:
        _draw_scratches(image, letter, rng)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3))):
        thick, kind = rng.choice((1, 1, 1, 2)), rng.random()
        shade = letter if rng.random() < 0.7 else rng.uniform(0, 255)
        columns = sorted(rng.uniform(-0.05, 1.05) * width for _ in range(rng.randint(2, 4)))
        columns[0], columns[-1] = rng.uniform(-5, width * 0.3), rng.uniform(width * 0.6, width + 5)
        points = [(column, rng.uniform(0.05, 0.95) * height) for column in columns]
        if kind < 0.35:
            points = _wave(width, height, rng)
        cv2.polylines(image, [np.array(points, np.int32)], False, shade, thick, cv2.LINE_AA)
    if rng.random() < 0.3:
        for _ in range(rng.randint(5, 40)):
            position = (rng.randrange(width), rng.randrange(height))
            cv2.circle(image, position, rng.choice((0, 0, 1)), letter, -1)


def _draw_scratches(image: np.ndarray, letter: float, rng: Random) -> None:
    """Draws short lines over the text, as dark as the letters or each in its own shade."""
    height, width = image.shape
    same = rng.random() < 0.5
    for _ in range(rng.randint(2, 3 + width // height * 3)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        angle, length = rng.uniform(0, 2 * math.pi), rng.uniform(0.15, 0.7) * height
        end = (round(x + length * math.cos(angle)), round(y + length * math.sin(angle)))
        shade = letter if same else rng.uniform(0, 255)
        cv2.line(image, (round(x), round(y)), end, shade, 1, cv2.LINE_AA)


def _wave(width: int, height: int, rng: Random) -> list[tuple[float, float]]:
    middle, size = rng.uniform(0.3, 0.7) * height, rng.uniform(0.05, 0.35) * height
    phase, period = rng.uniform(0, 6.3), rng.uniform(0.4, 2) * width
    return [(x, middle + size * math.sin(phase + 2 * math.pi * x / period))
            for x in range(0, width + 4, 4)]
