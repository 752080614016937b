"""Encoded images before TensorFlow sees them; what only Pillow reads right becomes PNG here.

TensorFlow reads PNG, JPEG, GIF, BMP and WebP. It refuses TIFF and CMYK, ignores EXIF rotation,
and cuts 16-bit samples; such images are re-encoded, all others pass unchanged.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from aocr.config import MAX_PIXELS, max_bytes
from aocr.errors import SkipError
from aocr.images import glance

ORIENTATION_TAG = 0x0112
_PLAIN_MODES = {
    "PNG": {"1", "L", "LA", "P", "PA", "RGB", "RGBA"},
    "JPEG": {"L", "RGB"},
    "GIF": {"1", "L", "P", "RGB", "RGBA"},
    "BMP": {"RGB"},
    "WEBP": {"RGB", "RGBA"},
}
# Pillow hands these to other programs.
_FOREIGN = {"EPS", "WMF"}
# These hold other files, which may be larger than the size that is told.
_CONTAINERS = {"BLP", "CUR", "FPX", "FTEX", "ICNS", "ICO", "IPTC", "MIC"}
Image.init()
# Pillow tries them in this order: the usual ones first.
_FORMATS = ("PNG", "JPEG", *(name for name in Image.OPEN if name not in {
    "PNG", "JPEG"} | _FOREIGN | _CONTAINERS))
# Pillow warns of odd metadata, which do not matter here; a filter for each call would not be
# safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
# Pillow's decoders raise any of these for damaged files.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError,
           ArithmeticError, MemoryError, NotImplementedError, RuntimeError, struct.error,
           zlib.error)
_PNG_BIT_DEPTH = slice(24, 25)
_BMP_HEAD = slice(28, 34)
_BMP_PLAIN = b"\x18\x00\x00\x00\x00\x00"  # 24 bits a pixel, no compression
def to_decodable(encoded: bytes, max_pixels: int = MAX_PIXELS) -> tuple[bytes, tuple[int, int]]:
    """Bytes that TensorFlow reads as people see them.

    Args:
        encoded: An image file of any format that Pillow knows.
        max_pixels: Most pixels that its header may promise.

    Returns:
        The bytes, unchanged where possible, and their `(width, height)` in pixels.

    Raises:
        SkipError: The file is empty, not an image, damaged, or larger than allowed.
    """
    if not encoded:
        raise SkipError("unreadable image", "the file is empty")
    check_length(len(encoded), max_pixels)
    size = glance.header_size(encoded)
    if size is not None:
        _check_size(*size, max_pixels)
        return encoded, size
    try:
        with Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
            return _readable(image, encoded, max_pixels)
    except Image.DecompressionBombError as error:
        raise _too_large(str(error).split(" exceeds")[0], max_pixels) from error
    except UnidentifiedImageError as error:
        raise SkipError("unreadable image", "not an image file that can be read") from error
    except _DAMAGE as error:
        raise SkipError("unreadable image", f"damaged: {error}") from error


def check_length(length: int, max_pixels: int) -> None:
    """Refuses files that are too long to be read at all.

    Raises:
        SkipError: An image of that many pixels needs less.
    """
    if length > max_bytes(max_pixels):
        raise SkipError("image too large", f"{length} bytes; an image of {max_pixels} pixels "
                        f"has at most {max_bytes(max_pixels)}")


def from_pillow(image: Image.Image) -> bytes:
    """PNG bytes of a Pillow image, turned upright by its EXIF orientation.

    Raises:
        SkipError: The image has no pixels, or is of a damaged file that was not read before.
    """
    try:
        return _png(_plain(image))
    except _DAMAGE as error:
        raise SkipError("unreadable image", f"damaged: {error}") from error


def _plain(image: Image.Image) -> Image.Image:
    """The image upright, in mode L or RGB."""
    if 0 in image.size:
        raise SkipError("unreadable image", "it has no pixels")
    image = ImageOps.exif_transpose(image)
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "I;16N"):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    elif image.mode not in ("L", "RGB"):
        grey = image.mode in ("1", "LA", "F")
        image = image.convert("L" if grey else "RGB")
    return image


def _eight_bits(samples: np.ndarray) -> np.ndarray:
    """Samples of whole numbers as people see them, uint8.

    16-bit samples show their high byte, in TensorFlow and in browsers. 32-bit ones tell nothing
    of their range: they are taken for 8 bits where all of them fit, else for 16.
    """
    if samples.dtype.itemsize > 2 and samples.max() <= np.iinfo(np.uint8).max:
        return samples.clip(0).astype(np.uint8)
    return (samples.clip(0, np.iinfo(np.uint16).max) >> 8).astype(np.uint8)


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def from_array(pixels: np.ndarray) -> bytes:
    """PNG bytes of uint8 pixels `[height, width]` or `[height, width, 1, 2, 3 or 4]`.

    Raises:
        SkipError: Another type or shape.
    """
    squeezed = pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    if pixels.dtype != np.uint8 or squeezed.ndim not in (2, 3) or 0 in pixels.shape or (
            squeezed.ndim == 3 and squeezed.shape[2] not in (2, 3, 4)):
        raise SkipError("unreadable image", "expected uint8 pixels [height, width] or [height, "
                        f"width, channels], got {pixels.dtype} {list(pixels.shape)}")
    image = Image.fromarray(squeezed)
    if image.mode in ("RGBA", "LA"):
        image = image.convert(image.mode[:-1])  # alpha is dropped, as everywhere
    return from_pillow(image)


def _readable(image: Image.Image, encoded: bytes, max_pixels: int
              ) -> tuple[bytes, tuple[int, int]]:
    _check_size(*image.size, max_pixels)
    if _is_plain(image, encoded):
        return encoded, image.size
    if image.mode in ("RGBA", "LA", "PA"):
        image = image.convert("L" if image.mode == "LA" else "RGB")
    plain = _plain(image)
    return _png(plain), plain.size


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise _too_large(f"{width} x {height} pixels", max_pixels)


def _too_large(found: str, max_pixels: int) -> SkipError:
    return SkipError("image too large", f"{found}; at most {max_pixels} are read (--max-pixels)")


def _is_plain(image: Image.Image, encoded: bytes) -> bool:
    name = "JPEG" if image.format == "MPO" else str(image.format)
    if image.mode not in _PLAIN_MODES.get(name, ()):
        return False
    if name == "PNG" and encoded[_PNG_BIT_DEPTH] == b"\x10":
        return False
    if name == "BMP" and encoded[_BMP_HEAD] != _BMP_PLAIN:
        return False
    if name in ("GIF", "WEBP") and not _fills_canvas(image):
        return False
    return not _may_be_turned(image, encoded) or image.getexif().get(ORIENTATION_TAG, 1) in (0, 1)


def _may_be_turned(image: Image.Image, encoded: bytes) -> bool:
    """Whether there is any orientation to ask for: Pillow decodes a whole PNG to look for it."""
    if image.format == "PNG":
        return glance.may_be_turned(encoded)
    return "exif" in image.info or "xmp" in image.info


def _fills_canvas(image: Image.Image) -> bool:
    """Whether the file is a still that covers its canvas.

    TensorFlow takes memory for all frames of an animation.
    """
    if getattr(image, "is_animated", False):
        return False
    tile = getattr(image, "tile", None)
    return not tile or tuple(tile[0][1]) == (0, 0, *image.size)
