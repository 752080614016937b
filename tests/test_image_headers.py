"""Usual files known by their headers alone."""

from __future__ import annotations

import random
from unittest import mock

import pytest

from aocr.config import MAX_PIXELS
from aocr.errors import SkipError
from aocr.images import glance, transcoding
from tests import mutations
from tests.drawing import encoded, with_orientation, word

SIZE = (24, 12)


def cut_in_its_scan_header() -> bytes:
    whole = encoded(word("Ab", SIZE), "JPEG")
    return whole[:whole.index(b"\xff\xda") + 4]


def by_pillow(file: bytes) -> tuple[bytes, tuple[int, int]] | str:
    """What is made of a file without a glance at it, or the reason for skipping it."""
    with mock.patch.object(glance, "header_size", return_value=None):
        try:
            return transcoding.to_decodable(file)
        except SkipError as error:
            return error.reason


@pytest.mark.parametrize(("mode", "name"), [
    ("L", "JPEG"), ("RGB", "JPEG"), ("1", "PNG"), ("L", "PNG"), ("LA", "PNG"), ("P", "PNG"),
    ("RGB", "PNG"), ("RGBA", "PNG")])
def test_usual_files_are_known(mode: str, name: str) -> None:
    assert glance.header_size(encoded(word("Ab", SIZE, mode), name)) == SIZE
    if name == "JPEG":
        assert glance.header_size(encoded(word("Ab", SIZE, mode), name, progressive=True)) == SIZE


@pytest.mark.parametrize("file", [
    b"", b"\xff\xd8", encoded(word("Ab", SIZE, "CMYK"), "JPEG"), encoded(word("Ab", SIZE, "I;16")),
    encoded(word("Ab", SIZE), "GIF"), with_orientation(word("Ab", SIZE), 6, "JPEG"),
    with_orientation(word("Ab", SIZE), 6, "PNG"), cut_in_its_scan_header(),
    encoded(word("Ab", SIZE), save_all=True, append_images=[word("xy", SIZE)])],
    ids=["empty", "cut at once", "CMYK", "16 bits", "GIF", "turned JPEG", "turned PNG", "cut",
         "animation"])
def test_unusual_files_are_left_to_pillow(file: bytes) -> None:
    assert glance.header_size(file) is None


@pytest.mark.parametrize("seed", range(4))
def test_no_file_is_taken_that_pillow_refuses_or_sees_otherwise(seed: int) -> None:
    chance, files, known = random.Random(seed), mutations.images(), 0
    for _ in range(4000):
        file = mutations.damaged(chance.choice(files), files, chance)
        size = glance.header_size(file)
        if size is None:
            continue
        known += 1
        if size[0] * size[1] > MAX_PIXELS:
            assert by_pillow(file) == "image too large"
        else:
            assert by_pillow(file) == (file, size)
    assert known > 400
