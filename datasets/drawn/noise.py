"""Random fields, reproducible by their seed: white noise and smooth variation."""

from __future__ import annotations

import functools
from random import Random

import cv2
import numpy as np

_ROWS, _COLUMNS = 256, 2048


@functools.cache
def _white() -> np.ndarray:
    """Returns a sheet of normal noise from which pieces are cut, `[_ROWS, _COLUMNS]` float32."""
    generator = np.random.Generator(np.random.PCG64(2024))
    return generator.standard_normal((_ROWS, _COLUMNS), dtype=np.float32)


def white(rng: Random, height: int, width: int) -> np.ndarray:
    """Returns standard normal noise, `[height, width]` float32, which must not be modified."""
    sheet = _white()
    if height > _ROWS or width > _COLUMNS:
        sheet = np.tile(sheet, (-(-height // _ROWS), -(-width // _COLUMNS)))
    top = rng.randint(0, sheet.shape[0] - height)
    left = rng.randint(0, sheet.shape[1] - width)
    piece = sheet[top:top + height, left:left + width]
    return piece[::-1] if rng.random() < 0.5 else piece


def smooth(rng: Random, height: int, width: int, cell: tuple[float, float]) -> np.ndarray:
    """Returns smooth variation, `[height, width]` float32, with one bump per `cell`, on average.

    `cell` is `(rows, columns)`. The mean is about 0 and the deviation about 1 over many calls.
    """
    rows, columns = (max(2, round(side / step)) for side, step in zip((height, width), cell,
                                                                     strict=True))
    grid = white(rng, rows, columns)
    return cv2.resize(np.ascontiguousarray(grid), (width, height), interpolation=cv2.INTER_CUBIC)


def octaves(rng: Random, height: int, width: int, cell: float) -> np.ndarray:
    """Returns cloudy variation of three sizes, as in stone or cloth, `[height, width]` float32."""
    total = smooth(rng, height, width, (cell, cell))
    total = total + 0.6 * smooth(rng, height, width, (cell / 2, cell / 2))
    return total + 0.4 * smooth(rng, height, width, (cell / 4, cell / 4))
