"""The flags that `aocr dataset` proposes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aocr.config import ModelConfig
from aocr.data.stats import ImageSizes, NamedSize, with_headroom

SIZES = st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 3000)), min_size=1, max_size=300)
SIZE = (100, 32)


def sizes_of(pairs: Sequence[tuple[int, int]]) -> ImageSizes:
    sizes = ImageSizes()
    for n, (width, height) in enumerate(pairs):
        sizes.add(NamedSize(width, height, f"{n}.png"))
    return sizes


def input_width(pairs: Sequence[tuple[int, int]]) -> int:
    max_width, max_height, _ = sizes_of(pairs).propose()
    return ModelConfig(max_width=max_width, max_height=max_height).input_width


def test_images_of_equal_size_get_that_size() -> None:
    assert sizes_of([(160, 60)] * 5).propose() == (160, 60, 0)


def test_varying_widths_get_a_quarter_more() -> None:
    pairs = [(100, 32), (200, 32)]
    assert sizes_of(pairs).propose().max_width == 250
    assert input_width(pairs) >= 250


def test_quantiles_are_values_that_occur() -> None:
    widths, heights = sizes_of([(n, 2 * n) for n in range(1, 102)]).quantiles()
    assert widths == [1, 6, 51, 96, 101]
    assert heights == [2, 12, 102, 192, 202]


@pytest.mark.parametrize(("largest", "varies", "limit"), [
    (8, False, 8), (8, True, 10), (1, True, 2), (5, True, 7), (1, False, 1)])
def test_headroom_is_a_quarter_rounded_up(largest: int, varies: bool, limit: int) -> None:
    assert with_headroom(largest, varies) == limit


@given(SIZES)
def test_proposed_flags_use_all_images_but_the_outliers(pairs: list[tuple[int, int]]) -> None:
    proposal = sizes_of(pairs).propose()
    assert proposal.skipped == sum(width > proposal.max_width for width, _ in pairs)
    assert proposal.skipped <= max(len(pairs) // 100, len(pairs) >= 10)
    assert proposal.max_height >= 1


@given(st.tuples(st.integers(1, 3000), st.integers(1, 3000)), st.integers(1, 5))
def test_images_of_equal_size_are_never_squeezed(size: tuple[int, int], number: int) -> None:
    assert input_width([size] * number) >= -(-size[0] * 32 // size[1])


@given(st.lists(st.tuples(st.integers(20, 400), st.integers(20, 60)), min_size=2, max_size=30))
def test_images_of_usual_shapes_are_not_squeezed(pairs: list[tuple[int, int]]) -> None:
    shapes = sorted(width / height for width, height in pairs)
    width = input_width(pairs)
    usual = [shape for shape in shapes if shape <= 1.2 * shapes[len(shapes) // 2]]
    assert all(math.ceil(32 * shape - 1e-9) <= width for shape in usual)


@pytest.mark.parametrize(("others", "outliers"), [(9, 1), (11, 1), (99, 1), (198, 2), (990, 10)])
@pytest.mark.parametrize("size", [(10_000, 1), (10_000, 32), (301, 32)])
def test_outliers_do_not_change_the_proposal(
        others: int, outliers: int, size: tuple[int, int]) -> None:
    pairs = [SIZE] * others + [size] * outliers
    assert sizes_of(pairs).propose() == (*SIZE, outliers)


@pytest.mark.parametrize(("pairs", "max_width"), [
    ([SIZE] * 3 + [(10_000, 32)], 12_500), ([SIZE] * 11 + [(10_000, 32)] * 2, 12_500),
    ([SIZE] * 11 + [(300, 32)], 375), ([SIZE] * 197 + [(10_000, 32)] * 3, 12_500)],
    ids=["too few images", "two in a dozen", "three times as wide", "more than 1 %"])
def test_what_is_not_an_outlier_is_used(pairs: list[tuple[int, int]], max_width: int) -> None:
    proposal = sizes_of(pairs).propose()
    assert (proposal.max_width, proposal.skipped) == (max_width, 0)


def test_one_image_of_a_wide_shape_does_not_widen_the_input() -> None:
    assert input_width([SIZE] * 11 + [(100, 1)]) < 2 * input_width([SIZE] * 11)
    assert input_width([(100, 50)] * 500 + [(3000, 30)]) < 2 * input_width([(100, 50)] * 500)


def test_the_widest_images_are_named() -> None:
    sizes = sizes_of([(width, 32) for width in (5, 900, 7, 800, 900, 6, 1000)])
    assert sorted(sizes.widest, reverse=True) == [
        (1000, 32, "6.png"), (900, 32, "4.png"), (900, 32, "1.png")]
