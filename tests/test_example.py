"""Parsing of serialized examples."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aocr.data import example
from aocr.data.example import Record

_NAMES = ["image", "label", "comment", "other", "imagf", ""]


def varint(number: int) -> bytes:
    """Returns protobuf's encoding of a number."""
    septets = [number & 0x7F]
    while number := number >> 7:
        septets.append(number & 0x7F)
    return bytes([*(0x80 | septet for septet in septets[:-1]), septets[-1]])


def field(number: int, content: bytes) -> bytes:
    """Returns a field that holds bytes or a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def feature(name: str, *values: bytes) -> bytes:
    """Returns a feature of some strings."""
    strings = b"".join(field(1, value) for value in values)
    return field(1, field(1, name.encode()) + field(2, field(1, strings)))


def example_of(*features: bytes) -> bytes:
    """Returns a serialized example."""
    return field(1, b"".join(features))


IMAGE, LABEL = feature("image", b"i"), feature("label", b"l")


@pytest.mark.parametrize("comment", ["", "a.png"])
@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 16_383, 16_384, 3_000_000])
def test_written_examples_are_parsed(size: int, comment: str) -> None:
    image = random.Random(size).randbytes(size)
    serialized = example.encode(Record(image, "a label é", comment))
    assert example.parse(serialized) == (image, "a label é".encode())


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 1), (1, 0)])
def test_features_may_come_in_any_order(order: tuple[int, ...]) -> None:
    features = [feature("image", b"i" * 200), feature("label", b""), feature("comment", b"c" * 99)]
    assert example.parse(example_of(*(features[n] for n in order))) == (b"i" * 200, b"")


@pytest.mark.parametrize(("serialized", "expected"), [
    (b"", (b"", b"")), (b"\n\0", (b"", b"")), (example_of(IMAGE), (b"i", b"")),
    (example_of(LABEL), (b"", b"l")), (example_of(IMAGE, LABEL, feature("label", b"m")),
                                       (b"i", b"m")),
    (example_of(IMAGE, LABEL, feature("other", b"o")), (b"i", b"l")),
    (example_of(IMAGE, LABEL) + b"\x10\x01", (b"i", b"l")),
    (example_of(IMAGE) + example_of(LABEL), (b"i", b"l")),
    (example_of(IMAGE, LABEL)[:-1], (b"", None)),
    (example_of(IMAGE, field(1, field(1, b"label") + field(2, field(1, b"")))), (b"", None)),
    (example_of(IMAGE, field(1, field(1, b"label") + field(2, field(3, b"\x0a\x01\x05")))),
     (b"", None)),
    (example_of(IMAGE, feature("label", b"l", b"m")), (b"", None)), (b"no example", (b"", None))],
    ids=["empty", "no feature", "no label", "no image", "two labels", "another name",
         "unknown field", "two parts", "truncated", "no string", "number", "two strings", "text"])
def test_image_and_label_must_be_single_strings(
        serialized: bytes, expected: tuple[bytes, bytes | None]) -> None:
    assert example.parse(serialized) == expected


@given(st.binary(max_size=60), st.lists(st.sampled_from(_NAMES), max_size=4), st.data())
def test_damaged_examples_never_raise(tail: bytes, names: list[str], data: st.DataObject) -> None:
    serialized = bytearray(example_of(*(feature(name, b"x" * 20) for name in names)) + tail)
    for _ in range(3 if serialized else 0):
        position = data.draw(st.integers(0, len(serialized) - 1))
        serialized[position] = data.draw(st.integers(0, 255))
    image, label = example.parse(bytes(serialized))
    assert isinstance(image, bytes)
    assert label is None or isinstance(label, bytes)
