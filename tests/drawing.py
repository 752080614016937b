"""Images drawn for the tests, and their encodings."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
ORIENTATION_TAG = 0x0112


@functools.cache
def _word(text: str, width: int, height: int) -> Image.Image:
    """Draws dark letters on a backbackground with two gradients, so that all corners differ."""
    across = np.linspace(150, 250, width)[None, :]
    down = np.linspace(0, -60, height)[:, None]
    background = np.stack([across + down, across[:, ::-1] + down, 0 * across + 200 + down], -1)
    image = Image.fromarray(background.round().astype(np.uint8))
    font = ImageFont.load_default(max(6, height * 2 // 3))
    ImageDraw.Draw(image).text((2, 1), text, (20, 60, 90), font)
    return image


def word(text: str, size: tuple[int, int] = (60, 24), mode: str = "RGB") -> Image.Image:
    """Returns a drawn word; with alpha, the right half of the image is partly transparent.

    Args:
        text: The letters.
        size: Width and height in pixels.
        mode: A mode of Pillow that RGB converts to, or "I;16" (the gray values times 257).
    """
    image = _word(text, *size).copy()
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode in ("LA", "RGBA"):
        image = image.convert(mode)
        image.putalpha(Image.fromarray(np.tile(
            np.where(np.arange(size[0]) < size[0] // 2, 255, 90).astype(np.uint8),
            (size[1], 1))))
        return image
    return image.convert(mode) if image.mode != mode else image


def encoded(image: Image.Image, name: str = "PNG", **options: Any) -> bytes:
    """Returns the image as a file of one of Pillow's formats."""
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def opened(file: bytes) -> Image.Image:
    """Returns the file as Pillow decodes it."""
    image = Image.open(io.BytesIO(file))
    image.load()
    return image


def with_orientation(image: Image.Image, orientation: int, name: str = "JPEG",
                     **options: Any) -> bytes:
    """Returns a file with an EXIF orientation."""
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    return encoded(image, name, exif=exif, **options)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Returns a chunk of a PNG file, with its checksum."""
    return (struct.pack(">I", len(data)) + kind + data
            + struct.pack(">I", zlib.crc32(kind + data)))


def png(samples: NDArray[Any]) -> bytes:
    """Returns a PNG file that is not written by a library.

    Args:
        samples: `[height, width, channels]` uint8 or uint16; 1 to 4 channels.
    """
    height, width, channels = samples.shape
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    big_endian = samples.astype(samples.dtype.newbyteorder(">"))
    rows = b"".join(b"\0" + row.tobytes() for row in big_endian)
    head = struct.pack(">IIBBBBB", width, height, 8 * samples.dtype.itemsize, color_type, 0, 0, 0)
    return (PNG_MAGIC + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", zlib.compress(rows))
            + png_chunk(b"IEND", b""))


def png_promising(width: int, height: int) -> bytes:
    """Returns a PNG file whose header declares a size for which it holds no data."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (PNG_MAGIC + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", zlib.compress(b"\0\0"))
            + png_chunk(b"IEND", b""))


def undecodable_png(size: tuple[int, int] = (60, 24)) -> bytes:
    """Returns a PNG file with a valid header and checksums, and invalid data."""
    head = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    return (PNG_MAGIC + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", b"\0no pixels here\xff")
            + png_chunk(b"IEND", b""))
