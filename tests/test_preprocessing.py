"""Header sizes, decoding and resizing, compared with Pillow."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from aocr.config import ModelConfig
from aocr.images import header_ops, preprocessing
from tests.drawing import encoded, png_promising, with_orientation, word

GRAY, COLOR = ModelConfig(), ModelConfig(color=True)
SIZE = (60, 24)

ENCODINGS = {
    **{f"png {mode}": encoded(word("Ab", SIZE, mode))
       for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")},
    "gif": encoded(word("Ab", SIZE), "GIF"),
    "bmp": encoded(word("Ab", SIZE), "BMP"),
    "bmp gray": encoded(word("Ab", SIZE, "L"), "BMP"),
    "jpeg": encoded(word("Ab", SIZE), "JPEG"),
    "jpeg gray": encoded(word("Ab", SIZE, "L"), "JPEG"),
    "jpeg progressive": encoded(word("Ab", SIZE), "JPEG", progressive=True),
    "jpeg cmyk": encoded(word("Ab", SIZE, "CMYK"), "JPEG"),
    "jpeg exif": with_orientation(word("Ab", SIZE), 6),
    "jpeg profile": encoded(word("Ab", SIZE), "JPEG", icc_profile=bytes(200_000)),
    "jpeg comment": encoded(word("Ab", SIZE), "JPEG", comment=b"\xff\xc0" * 30_000),
    "webp": encoded(word("Ab", SIZE), "WEBP"),
    "webp lossless": encoded(word("Ab", SIZE), "WEBP", lossless=True),
    "webp alpha": encoded(word("Ab", SIZE, "RGBA"), "WEBP"),
    "webp exif": with_orientation(word("Ab", SIZE), 1, "WEBP"),
}
HEADERS = ("png RGB", "gif", "bmp", "jpeg", "webp", "webp lossless", "webp alpha")

sizes_of = tf.function(header_ops.sizes, input_signature=[tf.TensorSpec([None], tf.string)])


def header_sizes(files: list[bytes]) -> list[tuple[int, int]]:
    """Returns the width and height that each header declares."""
    heights, widths = sizes_of(tf.constant(files, tf.string, [len(files)]))
    return list(zip(widths.numpy().tolist(), heights.numpy().tolist(), strict=True))


def load(file: bytes, config: ModelConfig = GRAY) -> np.ndarray:
    image: np.ndarray = preprocessing.preprocess(tf.constant(file), config).numpy()
    return image


def test_header_sizes_are_those_of_pillow_for_every_format() -> None:
    sizes = dict(zip(ENCODINGS, header_sizes(list(ENCODINGS.values())), strict=True))
    assert sizes == dict.fromkeys(ENCODINGS, SIZE)


@pytest.mark.parametrize("name", ["PNG", "GIF", "BMP", "JPEG", "WEBP"])
@pytest.mark.parametrize("size", [(1, 1), (1, 700), (3000, 2), (255, 257)])
def test_header_sizes_of_extreme_shapes(name: str, size: tuple[int, int]) -> None:
    blank = Image.new("RGB", size, (9, 90, 200))
    files = [encoded(blank, name)]
    files += [encoded(blank, name, lossless=True)] * (name == "WEBP")
    assert header_sizes(files) == [size] * len(files)


def test_header_sizes_too_large_to_be_decoded() -> None:
    assert header_sizes([png_promising(2**31 - 1, 70_000)]) == [(2**31 - 1, 70_000)]


def test_top_down_bmp_has_a_positive_height() -> None:
    file = bytearray(ENCODINGS["bmp"])
    file[22:26] = (-SIZE[1]).to_bytes(4, "little", signed=True)
    assert header_sizes([bytes(file)]) == [SIZE]


def test_the_size_of_a_jpeg_file_with_many_segments() -> None:
    file = ENCODINGS["jpeg"]
    assert header_sizes([file[:2] + b"\xff\xfe\0\x05abc" * 200 + file[2:]]) == [SIZE]
    assert header_sizes([file[:2] + b"\xff" * 9 + file[2:]]) == [SIZE]


@pytest.mark.parametrize("junk", [b"\0", b"abc" * 9, b"\xff\0", bytes(300)])
def test_bytes_between_jpeg_segments_are_skipped_as_decoders_do(junk: bytes) -> None:
    file = ENCODINGS["jpeg"]
    at = file.index(b"\xff\xdb")
    damaged = file[:at] + junk + file[at:]
    assert header_sizes([damaged, b"text" * 20, file]) == [SIZE, (0, 0), SIZE]
    assert preprocessing.decode(tf.constant(damaged), 3, "drop").shape == (SIZE[1], SIZE[0], 3)


def test_an_empty_batch_has_no_sizes() -> None:
    assert header_sizes([]) == []


@pytest.mark.parametrize("file", [
    b"", b"\0", b"text" * 20, b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", b"\x89PNG",
    b"II*\0" + bytes(60), b"RIFF\0\0\0\0WAVEfmt " + bytes(30),
    b"\xff\xd8\0\xc0\0\x11\x08\x01\x01\x01\x01" + bytes(20)],
    ids=["empty", "zero", "text", "soi", "soi ff", "soi eoi", "png magic", "tiff", "wave",
         "no marker"])
def test_files_that_are_no_images_have_size_0(file: bytes) -> None:
    assert header_sizes([file]) == [(0, 0)]


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_truncated_before_the_size_has_size_0(name: str) -> None:
    file = ENCODINGS[name]
    before = {"gif": 6, "png RGB": 16, "bmp": 18, "jpeg": 20}.get(name, 20)
    assert all(0 in size for size in header_sizes([file[:n] for n in range(before + 1)]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(
    st.binary(max_size=60),
    st.builds(lambda file, at, new: file[:at] + new + file[at + len(new):],
              st.sampled_from([ENCODINGS[name] for name in HEADERS]), st.integers(0, 60),
              st.binary(max_size=6)),
    st.binary(max_size=80).map(lambda rest: b"\xff\xd8" + rest)), max_size=20))
def test_header_sizes_of_any_file_do_not_depend_on_the_batch(files: list[bytes]) -> None:
    sizes = header_sizes(files)
    assert all(width >= 0 and height >= 0 for width, height in sizes)
    assert [header_sizes([file])[0] for file in files[:3]] == sizes[:3]


@pytest.mark.parametrize(("size", "width"), [
    ((160, 60), 86), ((60, 24), 80), ((1, 1), 32), ((1, 5000), 1), ((5000, 1), 86),
    ((161, 60), 86), ((30, 60), 16), ((31, 60), 17), ((86, 32), 86), ((10, 10), 32)])
def test_the_width_keeps_the_aspect_ratio_up_to_the_limit(
        size: tuple[int, int], width: int) -> None:
    file = encoded(Image.new("L", size, 200))
    assert load(file).shape == (32, width, 1)


@given(st.integers(1, 10**5), st.integers(1, 10**5), st.integers(1, 500))
@settings(max_examples=50, deadline=None)
def test_the_width_is_rounded_up_exactly(height: int, width: int, widest: int) -> None:
    config = ModelConfig(max_width=widest, max_height=32)
    size = preprocessing.scaled_size(tf.constant(height), tf.constant(width), config)
    assert [int(side) for side in size] == [32, min(widest, -(-width * 32 // height))]


@pytest.mark.parametrize(("size", "scaled"), [
    ((60, 24), (24, 60)), ((86, 32), (32, 86)), ((86, 31), (31, 86)), ((70, 30), (30, 70)),
    ((100, 50), (32, 64)), ((160, 60), (32, 86)), ((160, 20), (11, 86)), ((5000, 1), (1, 86)),
    ((1, 1), (1, 1)), ((1, 5000), (32, 1))])
def test_the_padded_layout_never_enlarges_and_keeps_the_aspect_ratio(
        size: tuple[int, int], scaled: tuple[int, int]) -> None:
    """The expected sizes follow the rules of the original, with an input 86 pixels wide."""
    config = ModelConfig(layout="padded", kernel="bicubic-tf1")
    sides = preprocessing.scaled_size(tf.constant(size[1]), tf.constant(size[0]), config)
    assert tuple(int(side) for side in sides) == scaled
    loaded = load(encoded(Image.new("L", size, 255)), config)
    assert loaded.shape == (32, 86, 1)
    np.testing.assert_allclose(loaded[:scaled[0], :scaled[1]], 127 / 128, atol=1e-5)
    assert (loaded[scaled[0]:] == -1).all()
    assert (loaded[:, scaled[1]:] == -1).all()


@pytest.mark.parametrize("level", [0, 64, 128, 255])
@pytest.mark.parametrize("size", [(20, 10), (50, 90)])
def test_values_are_normalized_around_128(level: int, size: tuple[int, int]) -> None:
    loaded = load(encoded(Image.new("L", size, level)))
    assert loaded.dtype == np.float32
    np.testing.assert_allclose(loaded, (level - 128) / 128, atol=1e-5)


def test_color_keeps_the_channels_and_gray_is_their_weighted_sum() -> None:
    file = encoded(Image.new("RGB", (64, 32), (250, 100, 10)))
    np.testing.assert_allclose(load(file, COLOR)[5, 5] * 128 + 128, [250, 100, 10], atol=1e-3)
    np.testing.assert_allclose(load(file)[5, 5] * 128 + 128, 0.299 * 250 + 58.7 + 1.14, atol=1.5)


def test_gray_files_have_three_equal_channels_in_a_color_model() -> None:
    for name in ("png L", "png 1", "jpeg gray", "bmp gray"):
        loaded = load(ENCODINGS[name], COLOR)
        np.testing.assert_allclose(loaded, np.repeat(load(ENCODINGS[name]), 3, 2), atol=1e-2)


def test_transparent_pixels_are_composited_or_show_their_colors_as_the_config_says() -> None:
    opaque = word("Ab", SIZE)
    transparent = opaque.convert("RGBA")
    transparent.putalpha(0)
    dropping = dataclasses.replace(COLOR, alpha="drop")
    np.testing.assert_array_equal(load(encoded(transparent), dropping),
                                  load(encoded(opaque), COLOR))
    np.testing.assert_allclose(load(encoded(transparent), COLOR), 127 / 128, atol=1e-5)


@pytest.mark.parametrize("size", [(60, 24), (160, 60), (333, 101), (900, 60), (86, 32), (5, 200)])
@pytest.mark.parametrize("config", [GRAY, COLOR], ids=["gray", "color"])
def test_resizing_equals_pillows_bicubic_with_antialiasing(
        size: tuple[int, int], config: ModelConfig) -> None:
    drawn = word("Abg8", size, "RGB" if config.color else "L")
    loaded = load(encoded(drawn), config) * 128 + 128
    for channel, band in enumerate(drawn.split()):
        expected = band.convert("F").resize(loaded.shape[1::-1], Image.Resampling.BICUBIC)
        np.testing.assert_allclose(loaded[:, :, channel], np.asarray(expected), atol=0.05)


@pytest.mark.parametrize("config", [GRAY, COLOR], ids=["gray", "color"])
def test_a_batch_holds_its_images_padded_with_zeros(config: ModelConfig) -> None:
    files = [ENCODINGS[name] for name in ("png RGB", "jpeg", "gif", "bmp", "webp")]
    files += [encoded(word("I", (9, 40))), encoded(word("wide", (300, 20)))]
    images, widths = preprocessing.preprocess_batch(tf.constant(files), config)
    assert images.shape == (len(files), 32, 86, config.channels)
    for row, width, file in zip(images.numpy(), widths.numpy(), files, strict=True):
        alone = load(file, config)
        assert width == alone.shape[1]
        np.testing.assert_array_equal(row[:, :width], alone)
        assert not row[:, width:].any()


def _batch(files: tf.Tensor) -> Any:
    return preprocessing.preprocess_batch(files, GRAY)


def test_eager_mode_function_and_pipeline_give_equal_results() -> None:
    files = tf.constant([ENCODINGS["png RGB"], ENCODINGS["jpeg"], encoded(word("I", (9, 40)))])
    eager = _batch(files)
    in_function = tf.function(_batch, input_signature=[tf.TensorSpec([None], tf.string)])(files)
    (in_pipeline,) = tf.data.Dataset.from_tensors(files).map(_batch)
    for other in (in_function, in_pipeline):
        for expected, actual in zip(eager, other, strict=True):
            np.testing.assert_array_equal(actual, expected)


def test_an_empty_batch_gives_an_empty_batch() -> None:
    run = tf.function(_batch, input_signature=[tf.TensorSpec([None], tf.string)])
    images, widths = run(tf.constant([], tf.string))
    assert images.shape[0] == 0
    assert images.shape[1] == 32
    assert widths.shape == (0,)


@pytest.mark.parametrize("file", [b"", b"text", ENCODINGS["png RGB"][:200],
                                  ENCODINGS["jpeg"][:300]])
def test_an_undecodable_file_is_an_invalid_argument(file: bytes) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        load(file)
