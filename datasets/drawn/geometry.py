"""Places the mask of a line in an image: slant, rotation, perspective, curvature, crop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import cv2
import numpy as np

from datasets.drawn.lettering import Box

WIDEST = 20.0  # width of an image over its height: 640 at a height of 32


@dataclass(frozen=True)
class View:
    """Position and distortion of a line in its image.

    Attributes:
        stretch: Factor of the width.
        slant: Shear to the right, as a tangent.
        angle: Rotation in degrees, anticlockwise.
        perspective: Most that a corner moves, in heights of the line.
        bend: Height of the arc of the baseline, in heights of the line; negative is downwards.
        waves: Periods of the baseline; 0 for an arc.
        margins: Margins left, above, right and below, in heights of the line; negative cuts.
    """

    stretch: float = 1.0
    slant: float = 0.0
    angle: float = 0.0
    perspective: float = 0.0
    bend: float = 0.0
    waves: float = 0.0
    margins: tuple[float, float, float, float] = (0.1, 0.1, 0.1, 0.1)


def framed(mask: np.ndarray, box: Box, view: View, height: int, rng: Random) -> np.ndarray:
    """Cuts a line out of its mask.

    Args:
        mask: `[rows, columns]` uint8.
        box: The ink of the line.
        view: How it lies in the image.
        height: Rows of the result.
        rng: Source of the corners' movement.

    Returns:
        Share of ink, `[height, width]` float32 in 0…1.
    """
    if view.bend > 0:
        box = box._replace(top=box.top - view.bend * box.height)
    elif view.bend < 0:
        box = box._replace(bottom=box.bottom - view.bend * box.height)
    to_plane = _plane(view)
    frame = _frame(box, to_plane, view.margins)
    width = round(min(WIDEST, max(0.3, frame.width / frame.height)) * height)
    matrix = _to_image(frame, to_plane, width, height, view, rng)
    if view.bend:
        warped = _bent(mask, box, view, matrix, (width, height))
    else:
        warped = cv2.warpPerspective(mask, matrix, (width, height), flags=cv2.INTER_LINEAR)
    return warped.astype(np.float32) / 255


def _plane(view: View) -> np.ndarray:
    """Returns the matrix of stretch, slant and rotation, `[2, 2]`."""
    turn = math.radians(-view.angle)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    return rotation @ np.array([[view.stretch, -view.slant], [0.0, 1.0]])


def _corners(box: Box) -> np.ndarray:
    """Returns the corners, `[4, 2]`, clockwise from the upper left one."""
    return np.array([[box.left, box.top], [box.right, box.top],
                     [box.right, box.bottom], [box.left, box.bottom]])


def _frame(box: Box, to_plane: np.ndarray, margins: tuple[float, float, float, float]) -> Box:
    """Returns the part that the image shows, in the plane of the image."""
    points = _corners(box) @ to_plane.T
    (left, top), (right, bottom) = points.min(0), points.max(0)
    unit = box.height
    return Box(left - margins[0] * unit, top - margins[1] * unit,
               right + margins[2] * unit, bottom + margins[3] * unit)


def _to_image(frame: Box, to_plane: np.ndarray, width: int, height: int, view: View, rng: Random
              ) -> np.ndarray:
    """Returns the homography from the mask to the image, `[3, 3]`."""
    source = _corners(frame) @ np.linalg.inv(to_plane).T
    target = _corners(Box(0, 0, width, height))
    if view.perspective:
        inwards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * height
        moves = [[rng.uniform(-0.3, 1), rng.uniform(-0.1, 1)] for _ in range(4)]
        target = target + view.perspective * inwards * np.array(moves)
    return cv2.getPerspectiveTransform(source.astype(np.float32), target.astype(np.float32))


def _bent(mask: np.ndarray, box: Box, view: View, matrix: np.ndarray, size: tuple[int, int]
          ) -> np.ndarray:
    inverse = np.linalg.inv(matrix).astype(np.float32)
    columns, rows = np.meshgrid(np.arange(size[0], dtype=np.float32),
                                np.arange(size[1], dtype=np.float32))
    scale = inverse[2, 0] * columns + inverse[2, 1] * rows + inverse[2, 2]
    x = (inverse[0, 0] * columns + inverse[0, 1] * rows + inverse[0, 2]) / scale
    y = (inverse[1, 0] * columns + inverse[1, 1] * rows + inverse[1, 2]) / scale
    position = (x - box.left) / max(1.0, box.width)
    if view.waves:
        shape = (1 + np.sin(2 * np.pi * view.waves * position)) / 2
    else:
        shape = 1 - (2 * position - 1) ** 2
    line_height = box.height / (1 + abs(view.bend))
    y = y + view.bend * line_height * np.clip(shape, -0.5, 1)
    return cv2.remap(mask, x, y.astype(np.float32), cv2.INTER_LINEAR)
