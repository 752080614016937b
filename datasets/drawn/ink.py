"""Simulates printing: spread, thin or broken ink, dots, faded thermal print."""

from __future__ import annotations

from random import Random

import cv2
import numpy as np

from datasets.drawn import noise

_LEAST_LEFT = 0.6  # of the ink: letters that lose more are not thinned
_MOST_GAINED = 1.6  # times the ink: letters that gain more are not thickened
_DENSEST = 0.38  # share of ink in its box: heavier letters would run together


def spread(mask: np.ndarray, rng: Random) -> np.ndarray:
    """Spreads the ink: letters become thicker, and counters stay open."""
    if _density(mask) > _DENSEST:
        return mask
    size = rng.choice(((2, 2), (3, 2), (2, 3), (3, 3), (1, 2), (2, 1)))
    thick = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size))
    return thick if thick.sum(dtype=np.int64) < _MOST_GAINED * mask.sum(dtype=np.int64) else mask


def _density(mask: np.ndarray) -> float:
    """Returns the share of ink in its bounding box."""
    left, top, width, height = cv2.boundingRect(mask)
    return cv2.mean(mask[top:top + height, left:left + width])[0] / 255 if width else 0.0


def thin(mask: np.ndarray, rng: Random) -> np.ndarray:
    """Makes letters thinner where the strokes are thick enough."""
    size = rng.choice(((2, 2), (1, 2), (2, 1), (3, 3), (3, 2)))
    thinned = cv2.erode(mask, cv2.getStructuringElement(cv2.MORPH_RECT, size))
    return thinned if thinned.sum(dtype=np.int64) > _LEAST_LEFT * mask.sum(dtype=np.int64) else mask


def ragged(mask: np.ndarray, rng: Random) -> np.ndarray:
    """Makes edges uneven, as in letterpress, photocopies and typewriting."""
    if _density(mask) > _DENSEST:
        return mask
    height, width = mask.shape
    blurred = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.8, 1.6)).astype(np.float32)
    field = noise.smooth(rng, height, width, (rng.uniform(1.5, 4),) * 2)
    level = rng.uniform(85, 140) + rng.uniform(15, 40) * field
    return np.clip((blurred - level) * 4 + 128, 0, 255).astype(np.uint8)


def dots(mask: np.ndarray, rng: Random) -> np.ndarray:
    """Breaks letters into dots, as a dot-matrix printer does."""
    period = rng.uniform(2.3, 3.6)
    height, width = mask.shape
    rows = np.cos(np.arange(height, dtype=np.float32) * (2 * np.pi / period))
    columns = np.cos(np.arange(width, dtype=np.float32) * (2 * np.pi / period))
    lattice = (rows[:, None] + columns) / 2 if rng.random() < 0.7 else np.broadcast_to(
        rows[:, None] if rng.random() < 0.6 else columns, mask.shape)
    solid = rng.uniform(0.5, 0.85)
    strength = np.clip(solid + (1.3 - solid) * lattice, rng.uniform(0.1, 0.4), 1)
    return (mask * strength).astype(np.uint8)


def faded(mask: np.ndarray, rng: Random) -> np.ndarray:
    """Simulates thermal print: pale areas, weak rows or columns, missing points."""
    height, width = mask.shape
    strength = np.full((height, width), rng.uniform(0.75, 1.0), np.float32)
    if rng.random() < 0.6:
        strength += rng.uniform(0.1, 0.25) * np.clip(noise.smooth(
            rng, height, width, (rng.uniform(20, 60), rng.uniform(30, 150))), -1.3, 1)
    if rng.random() < 0.45:
        strength += rng.uniform(0.1, 0.35) * noise.smooth(
            rng, height, width, (rng.uniform(1.5, 3), rng.uniform(30, 300)))
    if rng.random() < 0.3:
        strength += rng.uniform(0.1, 0.35) * noise.smooth(
            rng, height, width, (height, rng.uniform(1.5, 3)))
    if rng.random() < 0.5:
        strength += rng.uniform(0.1, 0.5) * noise.smooth(rng, height, width,
                                                         (rng.uniform(1, 2.5),) * 2)
    return (mask * np.clip(strength, rng.uniform(0.1, 0.4), 1)).astype(np.uint8)


def broken(mask: np.ndarray, rng: Random) -> np.ndarray:
    """Adds gaps: a thin row or column is missing, or spots are worn."""
    height, width = mask.shape
    if rng.random() < 0.5:
        worn = noise.smooth(rng, height, width, (rng.uniform(2, 6), rng.uniform(2, 8)))
        return np.where(worn > rng.uniform(1.0, 1.8), mask // 4, mask).astype(np.uint8)
    result = mask.copy()
    rows = np.flatnonzero(mask.any(1))
    for _ in range(rng.randint(1, 2)):
        row = rng.choice(rows) if len(rows) else 0
        result[row:row + rng.choice((1, 1, 2))] //= rng.choice((2, 3, 6))
    return result
