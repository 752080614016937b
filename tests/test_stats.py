"""The flags that `aocr dataset` proposes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aocr.config import ModelConfig
from aocr.data.stats import Sizes, with_headroom

SIZES = st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 3000)), min_size=1, max_size=30)


def noted(pairs: list[tuple[int, int]]) -> Sizes:
    sizes = Sizes()
    for width, height in pairs:
        sizes.add(width, height)
    return sizes


def input_width(sizes: Sizes) -> int:
    config = ModelConfig(max_width=sizes.max_width(), max_height=sizes.max_height())
    return config.input_width


def test_equal_images_get_their_own_size() -> None:
    sizes = noted([(160, 60)] * 5)
    assert (sizes.max_width(), sizes.max_height()) == (160, 60)


def test_varying_widths_get_a_quarter_more() -> None:
    sizes = noted([(100, 32), (200, 32)])
    assert sizes.max_width() == 250
    assert input_width(sizes) >= 250


def test_quantiles_are_values_that_occur() -> None:
    widths, heights = noted([(n, 2 * n) for n in range(1, 102)]).quantiles()
    assert widths == [1, 6, 51, 96, 101]
    assert heights == [2, 12, 102, 192, 202]


@pytest.mark.parametrize(("largest", "varies", "limit"), [
    (8, False, 8), (8, True, 10), (1, True, 2), (5, True, 7), (1, False, 1)])
def test_headroom_is_a_quarter_rounded_up(largest: int, varies: bool, limit: int) -> None:
    assert with_headroom(largest, varies) == limit


@given(SIZES)
def test_proposed_flags_use_every_image(pairs: list[tuple[int, int]]) -> None:
    sizes = noted(pairs)
    assert sizes.max_width() >= max(width for width, _ in pairs)
    assert sizes.max_height() >= 1


@given(st.tuples(st.integers(1, 3000), st.integers(1, 3000)), st.integers(1, 5))
def test_equal_images_are_never_squeezed(size: tuple[int, int], number: int) -> None:
    sizes = noted([size] * number)
    own = -(-size[0] * 32 // size[1])
    assert input_width(sizes) >= own


@given(st.lists(st.tuples(st.integers(20, 400), st.integers(20, 60)), min_size=2, max_size=30))
def test_images_of_usual_shapes_are_not_squeezed(pairs: list[tuple[int, int]]) -> None:
    shapes = sorted(width / height for width, height in pairs)
    width = input_width(noted(pairs))
    usual = [s for s in shapes if s <= 1.2 * shapes[len(shapes) // 2]]
    assert all(math.ceil(32 * shape - 1e-9) <= width for shape in usual)


def test_one_stray_banner_does_not_widen_the_input_for_all() -> None:
    pairs = [(100, 50)] * 500
    assert input_width(noted([*pairs, (3000, 30)])) < 5 * input_width(noted(pairs))
