"""Alignment of predictions with labels, and characters that cannot be seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aocr.evaluation import alignment, metrics
from aocr.evaluation.characters import code_point, visible


@pytest.mark.parametrize(("text", "label", "expected"), [
    ("12O3", "1203", [("O", "0")]),
    ("123", "1203", [("", "0")]),
    ("12033", "1203", [("3", "")]),
    ("kitten", "sitting", [("k", "s"), ("e", "i"), ("", "g")]),
    ("m1", "rn1", [("m", "rn")]),
    ("cl1", "d1", [("cl", "d")]),
    ("AB", "CD", [("A", "C"), ("B", "D")]),
    ("", "AB", [("", "A"), ("", "B")]),
    ("same", "same", []), ("", "", [])])
def test_confusions(text: str, label: str, expected: list[tuple[str, str]]) -> None:
    assert alignment.confusions(text, label) == expected


@given(st.text("abc", max_size=8), st.text("abc", max_size=8))
def test_segments_make_up_both_texts_and_have_the_fewest_errors(text: str, label: str) -> None:
    segments = alignment.align(text, label)
    assert "".join(segment.text for segment in segments) == text
    assert "".join(segment.label for segment in segments) == label
    errors = sum(max(map(len, segment)) for segment in segments if not segment.correct)
    assert errors == metrics.compare(text, label).errors
    assert all(any(segment) for segment in segments)


@pytest.mark.parametrize(("text", "expected"), [
    ("A", "A"), (" ", "␣"), ("", "∅"), ("rn", "rn"), ("\u200b", "U+200B"), ("\u202e", "U+202E"),
    ("\x07", "U+0007"), ("\u00a0", "U+00A0"), ("\u0364", "◌\u0364"), ("😀", "😀"),
    ("<b>", "<b>")])
def test_invisible_characters_are_made_visible(text: str, expected: str) -> None:
    assert visible(text) == expected


def test_a_space_has_no_code_point_to_show() -> None:
    assert code_point(" ") == ""
