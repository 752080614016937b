"""Reads the headers of image files with Pillow, without decoding pixels."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from aocr.config import max_bytes
from aocr.errors import SkipError

UNREADABLE = "unreadable image"
TOO_LARGE = "image too large"
# Pillow's decoders raise any of these for damaged files.
DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError,
                   ArithmeticError, MemoryError, NotImplementedError, RuntimeError, struct.error,
                   zlib.error)
_SAFELY_DECODED = (b"\x89PNG", b"\xff\xd8")
_PILLOW_LIMIT = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # Pillow opens no image of more pixels
_TENSORFLOW_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
# Pillow warns about unusual metadata, which does not matter here. A filter for each call would not
# be thread-safe.
warnings.filterwarnings("ignore", module=r"PIL\.")


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int

    @property
    def shape(self) -> float:
        """Aspect ratio, width / height, which decides how wide the network's input is."""
        return self.width / self.height


@contextmanager
def open_image(encoded: bytes, max_pixels: int, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """Opens an encoded image whose header declares an acceptable size.

    Pillow decodes the pixels when they are first used; its errors within the `with` block are
    translated as well.

    Args:
        encoded: An image file.
        max_pixels: Maximum number of pixels that the header may declare.
        formats: Pillow's names of the accepted formats.

    Raises:
        SkipError: The file is empty, too large, damaged, or in another format.
    """
    if not encoded:
        raise SkipError(UNREADABLE, "the file is empty")
    check_length(len(encoded), max_pixels)
    try:
        with Image.open(io.BytesIO(encoded), formats=formats) as image:
            width, height = image.size
            _check_pixels(width * height, f"{width} x {height} pixels", max_pixels)
            yield image
    except Image.DecompressionBombError as error:
        raise _too_large(str(error).split(" exceeds")[0], min(max_pixels, _PILLOW_LIMIT)) from error
    except UnidentifiedImageError as error:
        raise SkipError(UNREADABLE, "expected an image file, got "
                        f"{len(encoded)} bytes in an unknown format") from error
    except DECODING_ERRORS as error:
        raise SkipError(UNREADABLE, f"damaged: {error}") from error


def decoded_size(encoded: bytes, max_pixels: int) -> Size:
    """Returns the size of an image that TensorFlow decodes.

    Raises:
        SkipError: TensorFlow does not decode it, or decoding takes memory for more than
            `max_pixels`. All frames of a GIF count, each as large as the canvas.
    """
    with open_image(encoded, max_pixels, _TENSORFLOW_FORMATS) as image:
        size = Size(*image.size)
        if image.format == "GIF":  # TensorFlow decodes all frames to return the first
            frames = int(getattr(image, "n_frames", 1))
            _check_pixels(frames * size.width * size.height,
                          f"{frames} frames of {size.width} x {size.height} pixels", max_pixels)
    return size


def is_safely_decoded(encoded: bytes) -> bool:
    """Returns whether a file whose header Pillow accepts is safe for TensorFlow's decoders.

    PNG and JPEG files are. For GIF and WebP, TensorFlow 2.21 allocates memory according to the
    data after the header, and a damaged WebP file may overwrite memory: `header_ops` refuses these.
    """
    return encoded.startswith(_SAFELY_DECODED)


def check_length(length: int, max_pixels: int) -> None:
    """Refuses files that are longer than an image of `max_pixels` needs.

    Raises:
        SkipError: The file has more bytes than `aocr.config.max_bytes` allows.
    """
    if length > max_bytes(max_pixels):
        raise SkipError(TOO_LARGE, f"{length} bytes; an image of {max_pixels} pixels has at most "
                        f"{max_bytes(max_pixels)}")


def _check_pixels(pixels: int, declared: str, max_pixels: int) -> None:
    if pixels > max_pixels:
        raise _too_large(declared, max_pixels)


def _too_large(declared: str, max_pixels: int) -> SkipError:
    return SkipError(TOO_LARGE, f"{declared}; at most {max_pixels} are read (--max-pixels)")
