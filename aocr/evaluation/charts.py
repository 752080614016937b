"""Geometry of charts, which the templates draw as SVG.

Coordinates are those of a drawing of `WIDTH` x `HEIGHT` units, whose y axis points down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aocr.evaluation.calibration import ReliabilityBin
from aocr.evaluation.groups import Group, proportion_interval

WIDTH, HEIGHT = 480, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 470, 10, 206  # of the area between the axes
_TICKS = 4  # about as many on an axis
_STEPS = (1, 2, 2.5, 5, 10)  # between ticks, times a power of 10
_MOST_POINTS = 300  # of a line


class Tick(NamedTuple):
    """A mark on an axis; `position` is x or y."""

    position: float
    text: str


class Bar(NamedTuple):
    """One bar of a chart of accuracies; `low` and `high` are the ends of its interval."""

    group: Group
    center: float
    width: float
    top: float
    low: float
    high: float


class Line(NamedTuple):
    """A line of a chart.

    Attributes:
        name: What it shows.
        path: The attribute `d` of an SVG path.
        end: Coordinates of its last point.
        last: Value of its last point.
    """

    name: str
    path: str
    end: tuple[float, float]
    last: float


class LineChart(NamedTuple):
    """Lines with the ticks of both axes."""

    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


class Scale(NamedTuple):
    """Maps values to coordinates, linearly.

    Attributes:
        low: A value.
        high: A larger value.
        start: Coordinate of `low`.
        end: Coordinate of `high`.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Returns the coordinate of a value, in tenths of a unit."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


PERCENT_X = Scale(0, 1, LEFT, RIGHT)
PERCENT_Y = Scale(0, 1, BOTTOM, TOP)
PERCENT_X_TICKS = [Tick(PERCENT_X(n / 4), f"{n * 25} %") for n in range(5)]
PERCENT_Y_TICKS = [Tick(PERCENT_Y(n / 4), f"{n * 25} %") for n in range(5)]


def accuracy_bars(groups: Sequence[Group]) -> list[Bar]:
    """Returns a bar for each group of images."""
    step = (RIGHT - LEFT) / len(groups)
    bars = []
    for n, group in enumerate(groups):
        low, high = proportion_interval(group.correct, group.images)
        bars.append(Bar(group, round(LEFT + (n + .5) * step, 1), round(min(step * .7, 48), 1),
                        PERCENT_Y(group.accuracy), PERCENT_Y(low), PERCENT_Y(high)))
    return bars


class ReliabilityPoint(NamedTuple):
    """A bin of a reliability diagram: the center and radius of its circle, and its bar."""

    bin: ReliabilityBin
    x: float
    y: float
    radius: float
    left: float
    width: float


def reliability_points(bins: Sequence[ReliabilityBin]) -> list[ReliabilityPoint]:
    """Returns the bins that hold images; the area of a circle is proportional to their number."""
    images = sum(part.images for part in bins)
    return [ReliabilityPoint(
        part, PERCENT_X(part.probability), PERCENT_Y(part.accuracy),
        round(2.5 + 7.5 * math.sqrt(part.images / images), 1), PERCENT_X(part.lower) + 1,
        round(PERCENT_X(part.upper) - PERCENT_X(part.lower) - 2, 1))
        for part in bins if part.images]


class AcceptanceChart(NamedTuple):
    """Accuracy of the accepted images by their share; `share` and `target` locate its mark."""

    path: str
    y_ticks: list[Tick]
    target: float
    share: float


def acceptance_chart(probabilities: np.ndarray, correct: np.ndarray, share: float, target: float
                     ) -> AcceptanceChart:
    """Returns the curve of the accuracy of the accepted images over their share.

    Args:
        probabilities: `[images]` float64.
        correct: `[images]` bool.
        share: The share that is accepted at the accuracy `target`, which the chart marks.
        target: An accuracy.
    """
    order = np.argsort(-probabilities, kind="stable")
    shares = np.arange(1, len(order) + 1) / len(order)
    accuracies = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    lowest = min(math.floor(accuracies[-1] * 10) / 10, .9)
    y = Scale(lowest, 1, BOTTOM, TOP)
    chosen = np.unique(np.linspace(0, len(order) - 1, _MOST_POINTS).astype(int))
    points = [(PERCENT_X(shares[n]), y(max(accuracies[n], lowest))) for n in chosen]
    ticks = [Tick(y(value), f"{text} %") for value, text in _ticks(lowest, 1, 100)]
    return AcceptanceChart(_path(points), ticks, y(target), PERCENT_X(share))


def line_chart(series: dict[str, list[tuple[int, float]]], percent: bool = False) -> LineChart:
    """Returns a chart of values by step.

    Args:
        series: Points (step, value) of each line by name; each has at least one point.
        percent: Whether values are shares, whose axis reaches from 0 to 100 %; otherwise they are
            positive and their axis is logarithmic.
    """
    thinned = {name: _thin(points) for name, points in series.items()}
    steps = [step for points in thinned.values() for step, _ in points]
    values = [value for points in thinned.values() for _, value in points]
    x = Scale(min(0, *steps), max(1, *steps), LEFT, RIGHT)
    y, y_ticks = (PERCENT_Y, PERCENT_Y_TICKS) if percent else _logarithmic(values)
    lines = []
    for name, points in thinned.items():
        places = [(x(step), y(value if percent else math.log10(value))) for step, value in points]
        lines.append(Line(name, _path(places), places[-1], series[name][-1][1]))
    x_ticks = [Tick(x(value), text) for value, text in _ticks(x.low, x.high)]
    return LineChart(lines, x_ticks, y_ticks)


def _logarithmic(values: Sequence[float]) -> tuple[Scale, list[Tick]]:
    low, high = math.log10(min(values)), math.log10(max(values))
    if high - low < 1:
        low, high = (low + high - 1) / 2, (low + high + 1) / 2
    scale = Scale(low, high, BOTTOM, TOP)
    marks = [factor * 10.0 ** power for power in range(math.floor(low), math.ceil(high) + 1)
             for factor in ((1,) if high - low > 3 else (1, 2, 5))]
    return scale, [Tick(scale(math.log10(mark)), f"{mark:.6g}") for mark in marks
                   if low <= math.log10(mark) <= high]


def _ticks(low: float, high: float, factor: int = 1) -> list[tuple[float, str]]:
    """Returns round values between two values, and their text after a multiplication."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(multiple * power for multiple in _STEPS if multiple * power >= rough * .999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(n * step, f"{n * step * factor:.6g}") for n in range(first, last + 1)]


def _thin(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Replaces runs of points by their last step and mean value, if there are many."""
    runs = np.array_split(np.array(points, np.float64), min(len(points), _MOST_POINTS))
    return [(int(run[-1, 0]), float(run[:, 1].mean())) for run in runs]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
