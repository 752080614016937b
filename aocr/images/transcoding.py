"""Re-encodes images that TensorFlow cannot decode, or decodes differently from image viewers.

TensorFlow decodes PNG, JPEG, GIF, BMP and WebP. It rejects TIFF and CMYK, ignores EXIF orientation
and the transparency of GIF and BMP, and truncates 16-bit samples. Such images become PNG files; all
others keep their bytes. Transparency is kept, because its treatment depends on the model (see
`preprocessing.decode`).
"""

from __future__ import annotations

import io
import os

import numpy as np
from PIL import Image, ImageOps

from aocr.config import MAX_PIXELS
from aocr.errors import SkipError
from aocr.images.headers import DECODING_ERRORS, UNREADABLE, Size, open_image

ORIENTATION_TAG = 0x0112
_OPAQUE = 255
_PLAIN_MODES = {
    "PNG": {"1", "L", "LA", "P", "PA", "RGB", "RGBA"},
    "JPEG": {"L", "RGB"},
    "GIF": {"1", "L", "P", "RGB", "RGBA"},
    "BMP": {"RGB"},
    "WEBP": {"RGB", "RGBA"},
}
# Pillow runs other programs to decode these.
_EXTERNAL = {"EPS", "WMF"}
# The files embedded in these may be larger than the size in the outer header.
_CONTAINERS = {"BLP", "CUR", "FPX", "FTEX", "ICNS", "ICO", "IPTC", "MIC"}
# Pillow recognizes these, but has no decoder for them.
_WITHOUT_DECODER = {"BUFR", "GRIB", "HDF5", "MPEG"}
Image.init()
# Pillow tries formats in this order, so the frequent ones come first.
_FORMATS = ("PNG", "JPEG", *(name for name in Image.OPEN if name not in {
    "PNG", "JPEG"} | _EXTERNAL | _CONTAINERS | _WITHOUT_DECODER))
# TensorFlow reads the bits per pixel and the compression from these bytes, whatever the version of
# the BMP header. Pillow does not report the version, so they are compared directly.
_BMP_PIXEL_FORMAT = slice(28, 34)
_BMP_24_BITS_UNCOMPRESSED = b"\x18\x00\x00\x00\x00\x00"
_PNG_ORIENTATION_TAGS = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")


def to_decodable(encoded: bytes, max_pixels: int = MAX_PIXELS) -> tuple[bytes, Size]:
    """Returns an image file that TensorFlow decodes as image viewers do.

    Args:
        encoded: An image file of any format that Pillow decodes without other programs.
        max_pixels: Maximum number of pixels that its header may declare.

    Returns:
        The bytes, unchanged where possible, otherwise those of a PNG file, and the image's size.

    Raises:
        SkipError: The file is empty, not an image, damaged, or larger than allowed.
    """
    with open_image(encoded, max_pixels, _FORMATS) as image:
        if _decodes_correctly(image, encoded):
            return encoded, Size(*image.size)
        if _has_16_bit_samples(image):
            image.info.pop("transparency", None)  # Pillow would compare it with 8-bit samples
        if image.format == "GIF" and _fills_canvas(image) and _is_transparent(image):
            image = _with_black_transparency(image)
        upright = _upright(image)
        return _encode_png(upright), Size(*upright.size)


def has_image_extension(name: str) -> bool:
    """Returns whether a file name has an extension of a format that `to_decodable` reads."""
    image_format = Image.registered_extensions().get(os.path.splitext(name)[1].lower())
    return image_format in _FORMATS or image_format == "MPO"  # a JPEG of several pictures


def from_pillow(image: Image.Image) -> bytes:
    """Returns the PNG encoding of a Pillow image, rotated upright by its EXIF orientation.

    Transparency is kept.

    Raises:
        SkipError: The image has no pixels, or its file is damaged.
    """
    try:
        return _encode_png(_upright(image))
    except DECODING_ERRORS as error:
        raise SkipError(UNREADABLE, f"damaged: {error}") from error


def from_array(pixels: np.ndarray) -> bytes:
    """Returns the PNG encoding of uint8 pixels `[height, width]` or `[height, width, channels]`.

    Args:
        pixels: One channel (gray), two (gray, alpha), three (RGB) or four (RGBA).

    Raises:
        SkipError: The array has another type or shape.
    """
    squeezed = pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    if pixels.dtype != np.uint8 or squeezed.ndim not in (2, 3) or 0 in pixels.shape or (
            squeezed.ndim == 3 and squeezed.shape[2] not in (2, 3, 4)):
        raise SkipError(UNREADABLE, "expected uint8 pixels [height, width] or [height, "
                        f"width, channels], got {pixels.dtype} {list(pixels.shape)}")
    return from_pillow(Image.fromarray(squeezed))


def _upright(image: Image.Image) -> Image.Image:
    """Returns the image rotated by its EXIF orientation, in mode L, LA, RGB or RGBA.

    Modes with alpha are for images that are transparent somewhere.
    """
    if 0 in image.size:
        raise SkipError(UNREADABLE, "it has no pixels")
    image = ImageOps.exif_transpose(image)
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "I;16N"):
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    else:
        mode = "L" if image.mode in ("1", "L", "LA", "F") else "RGB"
        image = image.convert(mode + "A" * _is_transparent(image))
    return image


def _is_transparent(image: Image.Image) -> bool:
    """Returns whether a pixel is not opaque."""
    if not image.has_transparency_data:
        return False
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    return bool(alpha.min(initial=_OPAQUE) < _OPAQUE)


def _with_black_transparency(gif: Image.Image) -> Image.Image:
    """Returns the image as TensorFlow decodes it, with alpha: transparent pixels are black."""
    image = gif.convert("RGBA")
    return Image.composite(image, Image.new("RGBA", image.size), image.getchannel("A"))


def _to_8_bits(samples: np.ndarray) -> np.ndarray:
    """Reduces integer samples to uint8 as image viewers do.

    Of 16-bit samples the high byte is kept, as in TensorFlow and in browsers. The range of 32-bit
    samples is unknown: they are taken for 8 bits if all of them fit, otherwise for 16.
    """
    if samples.dtype.itemsize > 2 and samples.max() <= np.iinfo(np.uint8).max:
        return samples.clip(0).astype(np.uint8)
    return (samples.clip(0, np.iinfo(np.uint16).max) >> 8).astype(np.uint8)


def _encode_png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _decodes_correctly(image: Image.Image, encoded: bytes) -> bool:
    """Returns whether TensorFlow decodes a file to what Pillow shows."""
    name = "JPEG" if image.format == "MPO" else str(image.format)
    if image.mode not in _PLAIN_MODES.get(name, ()):
        return False
    if name == "PNG" and _has_16_bit_samples(image):
        return False
    if name == "BMP" and encoded[_BMP_PIXEL_FORMAT] != _BMP_24_BITS_UNCOMPRESSED:
        return False
    if name in ("GIF", "WEBP") and not _fills_canvas(image):
        return False
    if name == "GIF" and _is_transparent(image):
        return False
    return not _may_have_orientation(image, encoded) or (
        image.getexif().get(ORIENTATION_TAG, 1) in (0, 1))


def _has_16_bit_samples(png: Image.Image) -> bool:
    """Returns whether a PNG file has 16-bit samples, of which Pillow's mode shows only 8."""
    return any(str(tile[3]).endswith(";16B") for tile in getattr(png, "tile", ()))


def _may_have_orientation(image: Image.Image, encoded: bytes) -> bool:
    """Returns whether a file may hold an orientation.

    A PNG file may hold it after the pixels, and Pillow decodes all of them to look for it.
    Searching the bytes takes a fraction of that time.
    """
    if image.format == "PNG":
        return any(tag in encoded for tag in _PNG_ORIENTATION_TAGS)
    return "exif" in image.info or "xmp" in image.info


def _fills_canvas(image: Image.Image) -> bool:
    """Returns whether a file holds a single frame that covers its canvas.

    TensorFlow allocates memory for all frames of an animation.
    """
    if getattr(image, "is_animated", False):
        return False
    tile = getattr(image, "tile", None)
    return not tile or tuple(tile[0][1]) == (0, 0, *image.size)
