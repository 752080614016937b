"""Headers read with Pillow: sizes, limits and damaged files."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aocr.errors import SkipError
from aocr.images.headers import TOO_LARGE, UNREADABLE, Size, decoded_size
from tests import contract, drawing

SIZE = (24, 12)
LIMIT = 10_000


def refusal(file: bytes, max_pixels: int = LIMIT) -> SkipError:
    with pytest.raises(SkipError) as caught:
        decoded_size(file, max_pixels)
    return caught.value


def gif(frames: int) -> bytes:
    """An animation whose frames differ everywhere."""
    first, *others = (drawing.word(str(n), SIZE, "P").point(lambda value, n=n: (value + n) % 256)
                      for n in range(frames))
    return drawing.encoded(first, "GIF", save_all=True, append_images=others)


def test_headers_declare_the_size() -> None:
    assert [decoded_size(file, LIMIT) for file in contract.images()] == [
        Size(60, 24), Size(90, 40), Size(31, 32), Size(120, 20), Size(45, 45)]


@pytest.mark.parametrize("file", [b"", b"GIF89a", b"text", drawing.png_promising(0, 5),
                                  b"\xff\xd8\xff", drawing.encoded(drawing.word("A"), "TIFF")],
                         ids=["empty", "cut", "text", "no pixels", "cut JPEG", "TIFF"])
def test_what_tensorflow_does_not_decode_is_unreadable(file: bytes) -> None:
    assert refusal(file).reason == UNREADABLE


def test_too_many_pixels_are_refused_with_the_flag_to_change() -> None:
    error = refusal(drawing.png_promising(101, 100))
    assert error.reason == TOO_LARGE
    assert "101 x 100 pixels" in error.detail
    assert "--max-pixels" in error.detail


def test_the_limit_of_pillow_is_named_if_it_is_smaller() -> None:
    error = refusal(drawing.png_promising(20_000, 10_000), 10**9)
    assert error.reason == TOO_LARGE
    assert "200000000 pixels" in error.detail
    assert "at most 178956970 are read" in error.detail


def test_every_frame_of_a_gif_counts() -> None:
    area = SIZE[0] * SIZE[1]
    assert decoded_size(gif(3), 3 * area) == SIZE
    error = refusal(gif(3), 3 * area - 1)
    assert error.reason == TOO_LARGE
    assert "3 frames of 24 x 12 pixels" in error.detail


def test_a_first_frame_larger_than_the_canvas_counts_as_it_is() -> None:
    frame = b"\x2c\0\0\0\0" + struct.pack("<2H", 101, 100) + b"\0\x02\x02\x4c\x01\0"
    assert refusal(b"GIF89a\x01\0\x01\0\0\0\0" + frame + b"\x3b").reason == TOO_LARGE


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 4), st.data())
def test_damaged_headers_give_a_size_or_a_refusal(which: int, data: st.DataObject) -> None:
    file = bytearray(contract.images()[which])
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, min(60, len(file) - 1)))] = data.draw(st.integers(0, 255))
    try:
        size = decoded_size(bytes(file), 10_000_000)
    except SkipError as error:
        assert error.reason in (UNREADABLE, TOO_LARGE)
    else:
        assert min(size) > 0
