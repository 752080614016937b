"""Preprocessing with Pillow and NumPy gives the input that TensorFlow gives."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from aocr.config import ALPHA_RULES, KERNELS, LAYOUTS, MAX_PIXELS, ModelConfig
from aocr.errors import SkipError
from aocr.images import numpy_preprocessing, preprocessing, transcoding

SIZES = ((1, 1), (20, 60), (31, 64), (32, 32), (45, 301), (120, 40), (7, 3), (300, 900))
LEVEL = 1 / 128  # of an 8-bit value in the network's input
CONFIG = ModelConfig()


def noise(mode: str, height: int, width: int) -> Image.Image:
    channels = {"L": (), "LA": (2,), "RGB": (3,), "RGBA": (4,)}[mode]
    random = np.random.default_rng(height * width)
    return Image.fromarray(random.integers(0, 256, (height, width, *channels), np.uint8))


def encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def largest_difference(encoded: bytes, config: ModelConfig) -> float:
    expected = preprocessing.preprocess(tf.constant(encoded), config).numpy()
    actual = numpy_preprocessing.preprocess(encoded, config, MAX_PIXELS)
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    return float(np.abs(actual - expected).max())


def with_chunk(png: bytes, name: bytes, content: bytes) -> bytes:
    """Inserts a chunk after the header of a PNG file."""
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return png[:33] + struct.pack(">I", len(content)) + name + content + checksum + png[33:]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("color", [False, True])
def test_png_images_of_all_sizes_are_equal(kernel: str, layout: str, color: bool) -> None:
    config = replace(CONFIG, kernel=kernel, layout=layout, color=color)
    for size in SIZES:
        assert largest_difference(encode(noise("RGB", *size), "PNG"), config) < 1e-3, size


@pytest.mark.parametrize("alpha", ALPHA_RULES)
@pytest.mark.parametrize("color", [False, True])
def test_png_images_of_all_modes_are_equal(color: bool, alpha: str) -> None:
    config = replace(CONFIG, color=color, alpha=alpha)
    rgb = noise("RGB", 40, 100)
    images = [*(noise(mode, 40, 100) for mode in ("L", "LA", "RGB", "RGBA")), rgb.convert("1"),
              rgb.convert("P"), rgb.quantize(4), noise("L", 40, 100).quantize(4)]
    for image in images:
        assert largest_difference(encode(image, "PNG"), config) < 1e-3, image.mode
    for image in images[0], rgb.convert("1"), rgb.convert("P"):
        assert largest_difference(encode(image, "PNG", transparency=0), config) < 1e-3, image.mode
    transparent = encode(rgb, "PNG", transparency=rgb.getpixel((0, 0)))
    assert largest_difference(transparent, config) < 1e-3


@pytest.mark.parametrize(("name", "content"), [
    (b"gAMA", struct.pack(">I", 45455)), (b"gAMA", struct.pack(">I", 100000)),
    (b"gAMA", struct.pack(">I", 60000)), (b"sRGB", b"\0")])
def test_the_gamma_of_a_png_image_counts(name: bytes, content: bytes) -> None:
    encoded = with_chunk(encode(noise("RGB", 40, 100), "PNG"), name, content)
    assert largest_difference(encoded, CONFIG) < 1e-3


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("image_format", ["GIF", "BMP", "WEBP"])
def test_other_formats_are_equal(image_format: str, color: bool) -> None:
    options = {"lossless": True} if image_format == "WEBP" else {}
    encoded = encode(noise("RGB", 40, 100), image_format, **options)
    assert largest_difference(encoded, replace(CONFIG, color=color)) < 1e-3


@pytest.mark.parametrize("alpha", ALPHA_RULES)
@pytest.mark.parametrize("color", [False, True])
def test_transparent_webp_images_are_equal(color: bool, alpha: str) -> None:
    encoded = encode(noise("RGBA", 40, 100), "WEBP", lossless=True, exact=True)
    assert largest_difference(encoded, replace(CONFIG, color=color, alpha=alpha)) < 1e-3


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_gray_values_of_jpeg_images_are_equal(mode: str) -> None:
    for quality in (50, 85, 95):
        encoded = encode(noise(mode, 40, 100), "JPEG", quality=quality)
        assert largest_difference(encoded, CONFIG) < 1e-3


def test_colors_of_jpeg_images_differ_by_the_rounding_of_the_decoders() -> None:
    encoded = encode(noise("RGB", 40, 100), "JPEG", quality=85)
    assert largest_difference(encoded, replace(CONFIG, color=True)) < 12 * LEVEL


def test_images_that_are_encoded_again_are_equal() -> None:
    tiff = encode(noise("RGB", 40, 100), "TIFF")
    encoded, _ = transcoding.to_decodable(tiff)
    assert largest_difference(encoded, CONFIG) < 1e-3


@pytest.mark.parametrize("kernel", KERNELS)
def test_scaling_copies_a_part_of_the_image_at_a_time(kernel: str) -> None:
    pixels = np.zeros((1000, 1000, 3), np.uint8)
    tracemalloc.start()
    numpy_preprocessing.preprocess(transcoding.from_array(pixels), replace(
        CONFIG, color=True, kernel=kernel), MAX_PIXELS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 4 * pixels.size  # of which the pixels in float32 are a third


def test_a_batch_is_padded_like_that_of_tensorflow() -> None:
    encoded = [encode(noise("L", *size), "PNG") for size in SIZES]
    expected, expected_widths = preprocessing.preprocess_batch(tf.constant(encoded), CONFIG)
    images, widths = numpy_preprocessing.pad_batch(
        [numpy_preprocessing.preprocess(image, CONFIG, MAX_PIXELS) for image in encoded])
    np.testing.assert_array_equal(widths, expected_widths)
    np.testing.assert_allclose(images, expected, atol=1e-3)
    assert [images.dtype.name, widths.dtype.name] == ["float32", "int32"]


def test_damaged_images_are_refused() -> None:
    png = encode(noise("L", 40, 100), "PNG")
    for damaged in (png[:100], b"", b"text", png[:60] + bytes(30) + png[90:]):
        with pytest.raises(SkipError):
            numpy_preprocessing.preprocess(damaged, CONFIG, MAX_PIXELS)
    with pytest.raises(SkipError, match="too large"):
        numpy_preprocessing.preprocess(png, CONFIG, 100)
