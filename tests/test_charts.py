"""Groups of images, and the geometry of charts."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aocr.evaluation import charts
from aocr.evaluation.calibration import reliability
from aocr.evaluation.groups import Group, accuracy_by_value, proportion_interval


def _points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path)]


def test_few_different_values_have_a_group_each() -> None:
    correct = np.array([True, False, True, True])
    assert accuracy_by_value(np.array([3, 5, 3, 9]), correct, 3) == [
        Group(3, 3, 2, 2), Group(5, 5, 1, 0), Group(9, 9, 1, 1)]


@given(st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=1), st.integers(1, 8))
def test_groups_are_disjoint_ranges_that_hold_every_image(
        images: list[tuple[int, bool]], most: int) -> None:
    values, correct = np.array([n for n, _ in images]), np.array([right for _, right in images])
    groups = accuracy_by_value(values, correct, most)
    assert 1 <= len(groups) <= most
    bounds = [bound for group in groups for bound in (group.first, group.last)]
    assert bounds == sorted(bounds)
    for group in groups:
        inside = (values >= group.first) & (values <= group.last)
        assert group.images == int(inside.sum())
        assert group.correct == int(correct[inside].sum())
    assert sum(group.images for group in groups) == len(images)


@pytest.mark.parametrize(("successes", "trials", "low", "high"), [
    (8, 10, .4902, .9433), (0, 10, 0, .2775), (10, 10, .7225, 1), (500, 1000, .4691, .5309)])
def test_intervals_are_those_of_wilson(
        successes: int, trials: int, low: float, high: float) -> None:
    assert proportion_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 10_000))
def test_intervals_of_none_and_of_all_end_at_0_and_at_1(trials: int) -> None:
    assert proportion_interval(0, trials)[0] == 0.0
    assert proportion_interval(trials, trials)[1] == 1.0


def test_bars_are_as_high_as_the_accuracy() -> None:
    none, half, full = charts.accuracy_bars(
        [Group(1, 1, 4, 0), Group(2, 2, 4, 2), Group(3, 9, 4, 4)])
    assert (none.top, full.top) == (charts.BOTTOM, charts.TOP)
    assert half.top == (charts.TOP + charts.BOTTOM) / 2
    assert charts.LEFT < none.center < half.center < full.center < charts.RIGHT
    for bar in (none, half, full):
        assert bar.high <= bar.top <= bar.low


def test_circles_of_a_reliability_diagram_are_at_probability_and_accuracy() -> None:
    point, other = charts.reliability_points(reliability([.5, .5, .99], [True, False, True]))
    assert (point.x, point.y) == ((charts.LEFT + charts.RIGHT) / 2,
                                  (charts.TOP + charts.BOTTOM) / 2)
    assert other.y == charts.TOP
    assert point.radius > other.radius


def test_the_curve_of_accepted_images_ends_at_the_accuracy_of_all() -> None:
    correct = np.arange(1000) < 950
    chart = charts.acceptance_chart(np.linspace(1, .5, 1000), correct, .95, .99)
    points = _points(chart.path)
    lowest, highest = chart.y_ticks[0], chart.y_ticks[-1]
    assert (lowest.text, highest.text) == ("90\u202f%", "100\u202f%")
    assert points[0][1] == highest.position == charts.TOP
    assert points[-1] == (charts.RIGHT, (charts.TOP + charts.BOTTOM) / 2)
    assert highest.position < chart.target < points[-1][1]
    assert len(points) <= 300


def test_lines_are_thinned_and_logarithmic() -> None:
    points = [(step, 10.0 ** (-step / 1000)) for step in range(1, 2001)]
    chart = charts.line_chart({"training": points, "validation": [(2000, 1.0)]})
    training, validation = chart.lines
    path = _points(training.path)
    assert len(path) <= 300
    slopes = np.diff([y for _, y in path]) / np.diff([x for x, _ in path])
    np.testing.assert_allclose(slopes, slopes.mean(), rtol=.35)  # rounded to tenths
    assert training.last == pytest.approx(.01)
    assert validation.end[0] == charts.RIGHT
    ticks = {tick.text: tick.position for tick in chart.y_ticks}
    assert ticks["1"] == validation.end[1] < ticks["0.1"] < charts.BOTTOM


def test_axes_of_shares_reach_from_0_to_100_percent() -> None:
    chart = charts.line_chart({"accuracy": [(0, 0.0), (10, 1.0)]}, percent=True)
    assert _points(chart.lines[0].path) == [(charts.LEFT, charts.BOTTOM),
                                            (charts.RIGHT, charts.TOP)]
    assert [tick.text for tick in chart.x_ticks] == ["0", "2.5", "5", "7.5", "10"]
