"""Records taken apart together and by protobuf: the same image and label."""

from __future__ import annotations

import random

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from aocr.data import example
from aocr.data.example import Record

_NAMES = ["image", "label", "comment", "other", "imagf", ""]
_PLAIN = tf.function(example.plain, autograph=False,
                     input_signature=[tf.TensorSpec([None], tf.string)])


def varint(number: int, extra: int = 0) -> bytes:
    """Protobuf's encoding of a number, with bytes more than it needs."""
    septets: list[int] = []
    while number or not septets:
        septets.append(number & 0x7F)
        number >>= 7
    septets += [0] * extra
    return bytes([*(0x80 | each for each in septets[:-1]), septets[-1]])


def field(number: int, content: bytes, extra: int = 0) -> bytes:
    """A field of bytes or a message."""
    return varint(number << 3 | 2) + varint(len(content), extra) + content


def entry(name: str, value: bytes, extra: int = 0) -> bytes:
    """A feature of one string."""
    feature = field(1, field(1, value, extra), extra)
    return field(1, field(1, name.encode(), extra) + field(2, feature, extra), extra)


def example_of(*entries: bytes, extra: int = 0) -> bytes:
    """A serialized example."""
    return field(1, b"".join(entries), extra)


@st.composite
def serialized(draw: st.DrawFn) -> bytes:
    """Examples that are laid out plainly, nearly so, or damaged."""
    extra = draw(st.sampled_from([0, 0, 1, 3]))
    lengths = st.sampled_from([0, 1, 127, 128, 300, 20_000])
    names = draw(st.permutations(_NAMES[:3]) | st.permutations(_NAMES[:2])
                 | st.lists(st.sampled_from(_NAMES), max_size=4))
    entries = [entry(name, bytes(draw(lengths)), extra) for name in names]
    made = bytearray(example_of(*entries, extra=extra))
    damage = draw(st.sampled_from(["none", "none", "bytes", "cut", "more"]))
    if damage == "bytes":
        for _ in range(draw(st.integers(1, 3))):
            made[draw(st.integers(0, min(60, len(made) - 1)))] = draw(st.integers(0, 255))
    if damage == "cut":
        del made[draw(st.integers(0, len(made) - 1)):]
    if damage == "more":
        made += draw(st.binary(max_size=3) | st.just(example_of(entry("image", b"x"))))
    return bytes(made)


def found(batch: list[bytes]) -> list[tuple[bytes, bytes] | None]:
    """What is found without protobuf."""
    columns = (part.numpy().tolist() for part in _PLAIN(tf.constant(batch, tf.string)))
    return [(image, label) if there else None for image, label, there in zip(*columns, strict=True)]


@given(st.lists(serialized(), max_size=8))
def test_what_is_plain_is_what_protobuf_finds(batch: list[bytes]) -> None:
    for one, plain in zip(batch, found(batch), strict=True):
        assert plain is None or plain == example.parse(one)


@pytest.mark.parametrize("comment", ["", "a.png"])
@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 16_383, 16_384, 3_000_000])
def test_what_this_package_and_tensorflow_write_is_plain(size: int, comment: str) -> None:
    image = random.Random(size).randbytes(size)
    one = example.encode(Record(image, "a label é", comment))
    assert found([one]) == [(image, "a label é".encode())]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 1), (1, 0)])
def test_features_come_in_any_order(order: tuple[int, ...]) -> None:
    entries = [entry("image", b"i" * 200), entry("label", b""), entry("comment", b"c" * 99)]
    assert found([example_of(*(entries[n] for n in order))]) == [(b"i" * 200, b"")]


@pytest.mark.parametrize("other", [
    b"", b"\n\0", example_of(entry("image", b"i")), example_of(entry("label", b"l")),
    example_of(entry("image", b"i"), entry("label", b"l"), entry("label", b"m")),
    example_of(entry("image", b"i"), entry("label", b"l"), entry("other", b"o")),
    example_of(entry("image", b"i"), entry("label", b"l")) + b"\x10\x01",
    example_of(entry("image", b"i"), entry("label", b"l"))[:-1],
    example_of(entry("image", b"i"), field(1, field(1, b"label") + field(2, field(1, b"")))),
    example_of(entry("image", b"i")) + example_of(entry("label", b"l")),
    example_of(entry("image", b"i"), entry("label", b"l"), extra=4)],
    ids=["empty", "no feature", "no label", "no image", "two labels", "another name", "more behind",
         "cut", "no string", "two parts", "five bytes of length"])
def test_everything_else_is_left_to_protobuf(other: bytes) -> None:
    one = example_of(entry("image", b"i"), entry("label", b"l"))
    assert found([other, one]) == [None, (b"i", b"l")]


def test_nothing_gives_nothing() -> None:
    assert found([]) == []
