"""Files of every format become files that TensorFlow decodes as people see them."""

from __future__ import annotations

import io
import struct
import threading
import warnings
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from aocr.errors import SkipError
from aocr.images import preprocessing, transcoding
from tests.drawing import (
    ORIENTATION_TAG,
    encoded,
    opened,
    png,
    png_chunk,
    png_promising,
    with_orientation,
    word,
)

SIZE = (60, 24)
SMALL = (12, 8)
# The JPEG libraries of Pillow and TensorFlow upsample chroma a little differently.
JPEG_TOLERANCE = 6
DECODED_BY_TENSORFLOW = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF")


def samples(channels: int, dtype: type = np.uint16) -> NDArray[Any]:
    """Returns a gradient over the full range, another one in each channel."""
    across = np.linspace(0, 1, SIZE[0])[None, :, None]
    down = np.linspace(0.2, 1, SIZE[1])[:, None, None]
    shifted = (across * down + np.arange(channels) / 4) % 1
    return (shifted * np.iinfo(dtype).max).astype(dtype)


def partial_gif() -> bytes:
    """Returns a GIF whose only frame covers the lower right quarter of its canvas."""
    file = encoded(word("A", (30, 12), "P"), "GIF")
    offset = file.index(b"\x2c")
    while struct.unpack("<4H", file[offset + 1:offset + 9]) != (0, 0, 30, 12):
        offset = file.index(b"\x2c", offset + 1)
    moved = file[:offset + 1] + struct.pack("<2H", 30, 12) + file[offset + 5:]
    return moved[:6] + struct.pack("<2H", *SIZE) + moved[10:]


def oriented_after_pixels() -> bytes:
    """Returns a PNG whose EXIF chunk follows the pixels, as the format allows."""
    file = encoded(word("Ab1", SIZE))
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    chunk = png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    return file[:-12] + chunk + file[-12:]


def drawn(name: str, mode: str, **options: Any) -> bytes:
    return encoded(word("Ab1", SIZE, mode), name, **options)


def animated(name: str) -> bytes:
    return encoded(word("Ab1", SIZE), name, save_all=True, append_images=[word("xyz", SIZE)])


PLAIN = {
    **{f"png {mode}": drawn("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")},
    "png palette of 4": encoded(word("Ab1", SIZE).quantize(4)),
    "png palette with a transparent color": drawn("PNG", "P", transparency=3),
    "png gray with a transparent level": drawn("PNG", "L", transparency=200),
    **{f"png {n} channels written by hand": png(samples(n, np.uint8)) for n in (1, 2, 3, 4)},
    **{f"jpeg {mode}{' progressive' * progressive}": drawn("JPEG", mode, progressive=progressive)
       for mode in ("L", "RGB") for progressive in (False, True)},
    **{f"{name} upright": with_orientation(word("Ab1", SIZE), 1, name)
       for name in ("JPEG", "PNG", "WEBP")},
    **{f"gif {mode}": drawn("GIF", mode) for mode in ("1", "L", "P", "RGB")},
    "gif interlaced": drawn("GIF", "P", interlace=1),
    "bmp 24": drawn("BMP", "RGB"),
    **{f"webp {mode}{' lossless' * lossless}": drawn("WEBP", mode, lossless=lossless)
       for mode in ("L", "RGB", "RGBA") for lossless in (False, True)},
}
CONVERTED = {
    "png 16 bits": drawn("PNG", "I;16"),
    **{f"png 16 bits {n} channels": png(samples(n)) for n in (1, 2, 3, 4)},
    "jpeg CMYK": drawn("JPEG", "CMYK"),
    "jpeg CMYK progressive": drawn("JPEG", "CMYK", progressive=True),
    **{f"tiff {mode} {compression}": drawn("TIFF", mode, compression=compression)
       for mode, compression in (
           ("1", None), ("1", "group4"), ("L", None), ("L", "tiff_lzw"), ("LA", None),
           ("P", "packbits"), ("RGB", None), ("RGB", "tiff_deflate"), ("RGB", "jpeg"),
           ("RGBA", "tiff_lzw"), ("I;16", None), ("I;16", "tiff_lzw"), ("CMYK", None),
           ("YCbCr", "tiff_lzw"), ("F", None))},
    **{f"bmp {mode}": drawn("BMP", mode) for mode in ("1", "L", "P", "RGBA")},
    "gif of a part": partial_gif(),
    "gif animated": animated("GIF"),
    "webp animated": animated("WEBP"),
    "ppm": drawn("PPM", "RGB"),
    **{f"{name} orientation {n}": with_orientation(word("Ab1", SIZE), n, name)
       for name in ("JPEG", "PNG", "WEBP", "TIFF") for n in range(2, 9)},
    **{f"tiff {mode} rotated": with_orientation(word("Ab1", SIZE, mode), 6, "TIFF")
       for mode in ("LA", "RGBA", "I;16")},
    **{f"png {mode} rotated": with_orientation(word("Ab1", SIZE, mode), 6, "PNG")
       for mode in ("P", "LA", "RGBA", "I;16")},
    "png rotated after its pixels": oriented_after_pixels(),
    "jpeg rotated by xmp": drawn("JPEG", "RGB", xmp=b'<x xmlns:tiff="t" tiff:Orientation="6"/>'),
    "webp RGBA rotated": with_orientation(word("Ab1", SIZE, "RGBA"), 6, "WEBP"),
}


def displayed(file: bytes) -> Image.Image:
    """Returns what Pillow displays: upright, 8 bits, without alpha."""
    upright = ImageOps.exif_transpose(opened(file))
    if upright.mode.startswith("I"):  # "I" in older Pillows, "I;16" in newer ones
        return Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    if upright.mode in ("RGBA", "LA"):
        return upright.convert(upright.mode[:-1])
    return upright.convert("L" if upright.mode in ("1", "F") else upright.mode)


def decoded(file: bytes, channels: int) -> NDArray[np.int64]:
    return preprocessing.decode(tf.constant(file), channels, "drop").numpy().astype(np.int64)


@pytest.mark.parametrize("file", [*PLAIN.values(), *CONVERTED.values()],
                         ids=[*PLAIN, *CONVERTED])
def test_tensorflow_decodes_what_pillow_displays(file: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = displayed(file)
        by_channels = {1: expected.convert("RGB").convert("L"), 3: expected.convert("RGB")}
    stored, size = transcoding.to_decodable(file)
    assert size == expected.size
    tolerance = JPEG_TOLERANCE if stored.startswith(b"\xff\xd8") else 2
    for channels, pillow in by_channels.items():
        pixels = decoded(stored, channels)
        assert pixels.shape == (size[1], size[0], channels)
        difference = np.abs(pixels - np.asarray(pillow).reshape(pixels.shape))
        assert difference.max() <= tolerance


@pytest.mark.parametrize("file", PLAIN.values(), ids=PLAIN)
def test_files_that_tensorflow_decodes_correctly_are_not_changed(file: bytes) -> None:
    assert transcoding.to_decodable(file)[0] == file


@pytest.mark.parametrize("file", CONVERTED.values(), ids=CONVERTED)
def test_other_files_become_png_that_is_not_changed_again(file: bytes) -> None:
    stored, size = transcoding.to_decodable(file)
    assert stored.startswith(b"\x89PNG")
    assert transcoding.to_decodable(stored) == (stored, size)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_invalid_orientations_are_ignored(orientation: int, name: str) -> None:
    stored, size = transcoding.to_decodable(with_orientation(word("Ab1", SIZE), orientation, name))
    assert size == SIZE
    assert opened(stored).size == SIZE


@pytest.mark.parametrize("name", ["PNG", "TIFF", "BMP", "PPM"])
def test_lossless_formats_give_equal_pixels(name: str) -> None:
    pixels = np.asarray(word("Ab1", SIZE))
    np.testing.assert_array_equal(decoded(transcoding.to_decodable(drawn(name, "RGB"))[0], 3),
                                  pixels)
    np.testing.assert_array_equal(decoded(transcoding.from_array(pixels), 3), pixels)
    np.testing.assert_array_equal(decoded(transcoding.from_pillow(word("Ab1", SIZE)), 3), pixels)


def test_transcoding_is_reproducible() -> None:
    for file in (CONVERTED["tiff RGB None"], CONVERTED["JPEG orientation 6"]):
        assert transcoding.to_decodable(file) == transcoding.to_decodable(file)


@pytest.mark.parametrize(("file", "reason"), [
    (b"", "unreadable image"), (b"\0", "unreadable image"), (b"not an image\n" * 9, "unreadable"),
    (b"\x89PNG\r\n\x1a\n", "unreadable image"), (PLAIN["png RGB"][:30], "unreadable image"),
    (PLAIN["jpeg RGB"][:20], "unreadable image"), (PLAIN["gif P"][:8], "unreadable image"),
    (CONVERTED["tiff RGB None"][:-200], "unreadable image"),
    (CONVERTED["tiff L tiff_lzw"][:60], "unreadable image"),
    (CONVERTED["jpeg CMYK"][:len(CONVERTED["jpeg CMYK"]) // 2], "unreadable image"),
    (png_promising(50_000, 50_000), "image too large"),
    (png_promising(9_000, 9_000), "image too large"),
    (png_promising(2**31 - 1, 2**31 - 1), "image too large")],
    ids=["empty", "one byte", "text", "magic alone", "cut png", "cut jpeg", "cut gif",
         "cut tiff", "cut tiff head", "cut cmyk", "bomb", "above our limit",
         "largest bomb"])
def test_unreadable_files_are_skipped_with_a_reason(file: bytes, reason: str) -> None:
    with pytest.raises(SkipError) as caught:
        transcoding.to_decodable(file)
    assert caught.value.reason.startswith(reason)
    assert caught.value.detail


def _seeds() -> list[bytes]:
    small = {mode: word("A", SMALL, mode)
             for mode in ("1", "L", "P", "RGB", "RGBA", "I;16", "CMYK")}
    files = [encoded(small[mode]) for mode in ("1", "L", "P", "RGBA", "I;16")]
    files += [encoded(small[mode], "TIFF", compression=compression)
              for mode in ("1", "RGB", "I;16") for compression in (None, "tiff_lzw", "packbits")]
    files += [encoded(small["CMYK"], "JPEG"), encoded(small["RGB"], "JPEG", progressive=True)]
    files += [encoded(small[mode], name) for name in ("GIF", "BMP") for mode in ("1", "P", "RGB")]
    files += [encoded(small["RGB"], "WEBP"), encoded(small["RGBA"], "WEBP", lossless=True)]
    files += [with_orientation(small["RGB"], 6, name) for name in ("JPEG", "PNG", "TIFF")]
    return files


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(_seeds()),
       st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
       st.integers(0, 60))
def test_damaged_files_are_transcoded_or_skipped(
        file: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    damaged = bytearray(file)
    for offset, value in changes:
        damaged[offset % len(file)] = value
    if cut < 20:
        del damaged[len(file) * cut // 20:]
    try:
        stored, size = transcoding.to_decodable(bytes(damaged))
    except SkipError as error:
        assert error.reason
        return
    assert stored.startswith(DECODED_BY_TENSORFLOW)
    assert Image.open(io.BytesIO(stored)).size == size


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM",
                        b"II*\0", b"RIFF\x20\0\0\0WEBPVP8 "]), st.binary(max_size=80))
def test_random_bytes_are_skipped(magic: bytes, content: bytes) -> None:
    try:
        transcoding.to_decodable(magic + content)
    except SkipError as error:
        assert error.detail


def test_threads_do_not_change_the_warning_filters() -> None:
    before = list(warnings.filters)
    file = encoded(word("A", SMALL, "CMYK"), "JPEG")
    threads = [threading.Thread(target=lambda: [transcoding.to_decodable(file) for _ in range(40)])
               for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


@pytest.mark.parametrize(("name", "expected"), [
    ("a.png", True), ("a.JPG", True), ("a.mpo", True), ("a.tif", True), ("a.webp", True),
    ("favicon.ico", False), ("a.eps", False), ("a.ps", False), ("a.wmf", False), ("a.h5", False),
    ("a.mpg", False), ("a.grib", False), ("a.pdf", False), ("png", False)])
def test_files_are_images_by_the_extensions_of_formats_that_are_read(name: str, expected: bool
                                                                     ) -> None:
    assert transcoding.has_image_extension(name) == expected


@pytest.mark.parametrize(("mode", "stored"), [
    ("1", "L"), ("L", "L"), ("LA", "LA"), ("I;16", "L"), ("F", "L"), ("P", "RGB"), ("RGB", "RGB"),
    ("RGBA", "RGBA"), ("CMYK", "RGB"), ("YCbCr", "RGB"), ("HSV", "RGB"), ("RGBX", "RGB")])
def test_pillow_images_of_all_modes_keep_their_colors(mode: str, stored: str) -> None:
    result = opened(transcoding.from_pillow(word("Ab1", SIZE, mode)))
    assert (result.mode, result.size) == (stored, SIZE)
    gray = word("Ab1", SIZE, "1" if mode == "1" else "L").convert("L")
    tolerance = 40 if mode == "P" else 4
    difference = np.asarray(result.convert("L"), int) - np.asarray(gray, int)
    assert np.abs(difference).max() <= tolerance


def test_pillow_images_are_rotated_upright_in_a_copy() -> None:
    image = opened(with_orientation(word("Ab1", SIZE), 6, "PNG"))
    assert opened(transcoding.from_pillow(image)).size == (24, 60)
    assert image.size == SIZE


def test_a_pillow_image_without_pixels_is_skipped() -> None:
    with pytest.raises(SkipError):
        transcoding.from_pillow(Image.new("L", (0, 4)))


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_premultiplied_alpha_becomes_straight_alpha(mode: str) -> None:
    stored = opened(transcoding.from_pillow(Image.new(mode, (5, 4))))
    assert (stored.mode, stored.size) == (mode.upper(), (5, 4))


@pytest.mark.parametrize(("shape", "mode"), [
    ((24, 60), "L"), ((24, 60, 1), "L"), ((24, 60, 2), "LA"), ((24, 60, 3), "RGB"),
    ((24, 60, 4), "RGBA"), ((1, 1), "L"), ((3, 1, 1), "L")])
def test_arrays_keep_their_pixels(shape: tuple[int, ...], mode: str) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, shape, np.uint8)
    result = opened(transcoding.from_array(pixels))
    assert (result.mode, result.size) == (mode, (shape[1], shape[0]))
    expected = pixels.reshape(*shape[:2], -1)
    np.testing.assert_array_equal(np.asarray(result).reshape(expected.shape), expected)


def test_arrays_need_not_be_contiguous() -> None:
    pixels = np.asarray(word("Ab1", SIZE))[::-2, ::3]
    np.testing.assert_array_equal(np.asarray(opened(transcoding.from_array(pixels))), pixels)


@pytest.mark.parametrize(("shape", "dtype"), [
    ((4, 5), "float32"), ((4, 5), "bool"), ((4, 5), "uint16"), ((4, 5), "int8"), ((5,), "uint8"),
    ((), "uint8"), ((4, 5, 5), "uint8"), ((4, 5, 0), "uint8"), ((0, 5), "uint8"),
    ((1, 4, 5, 3), "uint8"), ((4, 5, 1, 1), "uint8")])
def test_other_arrays_are_refused_by_type_and_shape(shape: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(SkipError) as caught:
        transcoding.from_array(np.zeros(shape, dtype))
    assert dtype in caught.value.detail
    assert str(list(shape)) in caught.value.detail
