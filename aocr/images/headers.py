"""A look at an image's header before the model decodes it: size, and what would burst memory."""

from __future__ import annotations

import io
import struct
import warnings
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from aocr.errors import SkipError
from aocr.images.header_ops import TOO_LARGE

_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")  # what the model decodes
_GIF_FRAME, _GIF_EXTENSION = 0x2C, 0x21


def _unreadable(detail: str) -> SkipError:
    return SkipError("unreadable image", detail)


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int

    @property
    def shape(self) -> float:
        """Width over height: what decides how wide the network's input is."""
        return self.width / self.height


def inspect(encoded: bytes, max_pixels: int) -> Size:
    """The size that an image's header tells.

    Raises:
        SkipError: It is no image that the model decodes, or has too many pixels.
    """
    size = _header(encoded, max_pixels)
    if 0 in size:
        raise _unreadable("expected an image, got one without pixels")
    pixels = size.width * size.height
    if encoded.startswith(b"GIF"):  # its decoder unpacks all frames, whatever the canvas is
        pixels = max(pixels, _gif_pixels(encoded))
    if pixels > max_pixels:
        raise SkipError(TOO_LARGE, f"an image of {pixels} pixels; at most "
                           f"{max_pixels} are read (--max-pixels)")
    return size


def _header(encoded: bytes, max_pixels: int) -> Size:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
                return Size(*image.size)
    except Image.DecompressionBombError as error:
        found = str(error).split(" exceeds")[0]
        raise SkipError(TOO_LARGE, f"{found}; at most {max_pixels} are read "
                           "(--max-pixels)") from error
    except UnidentifiedImageError as error:
        raise _unreadable("expected a PNG, JPEG, GIF, BMP or WebP image, got "
                      f"{len(encoded)} bytes of something else") from error
    # Pillow's readers raise any of these for damaged headers.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError,
            ArithmeticError, MemoryError, NotImplementedError, RuntimeError,
            struct.error) as error:
        raise _unreadable("expected an image, got one with a damaged header") from error


def _gif_pixels(encoded: bytes) -> int:
    """Pixels of all frames together; what cannot be followed ends the count.

    Source: the GIF89a specification.
    """
    total, at = 0, 13 + _colours(encoded, 10)
    while 0 <= at < len(encoded):
        if encoded[at] == _GIF_FRAME and at + 10 <= len(encoded):
            width, height = struct.unpack_from("<HH", encoded, at + 5)
            total += width * height
            at = _after_blocks(encoded, at + 11 + _colours(encoded, at + 9))
        elif encoded[at] == _GIF_EXTENSION:
            at = _after_blocks(encoded, at + 2)
        else:
            break
    return total


def _colours(encoded: bytes, at: int) -> int:
    """Bytes of the colour table that the flags at a place announce."""
    flags = encoded[at] if at < len(encoded) else 0
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_blocks(encoded: bytes, at: int) -> int:
    while at < len(encoded) and encoded[at]:
        at += encoded[at] + 1
    return at + 1
