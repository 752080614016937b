"""Sources of images that the Python API accepts, and their encoded form for the graph."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
from PIL import Image

from aocr.errors import SkipError
from aocr.images import files, transcoding

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | np.ndarray
SOURCE_TYPES = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, np.ndarray)


class EncodedImage(NamedTuple):
    """An image file that the graph decodes correctly.

    Attributes:
        encoded: The content of the file.
        aspect_ratio: Width / height.
    """

    encoded: bytes
    aspect_ratio: float


def encode(source: Source, max_pixels: int) -> EncodedImage:
    """Reads a source and encodes it for the graph.

    Args:
        source: Path, encoded image, Pillow image or uint8 array.
        max_pixels: Largest number of pixels that the image may have.

    Raises:
        SkipError: The image cannot be read, or is too large.
    """
    encoded, (width, height) = transcoding.to_decodable(_file_content(source, max_pixels),
                                                        max_pixels)
    return EncodedImage(encoded, width / height)


def wrong_type(value: object) -> TypeError:
    """Returns the error for a value that is no source, with what to pass for an open file."""
    remedy = "; pass its content, file.read()" if hasattr(value, "read") else ""
    return TypeError("an image is a path, the bytes of a file, a Pillow image or a uint8 array, "
                     f"not {type(value).__name__}{remedy}")


def describe(source: Source) -> str:
    """Returns the path of a source, or its type where it has no path."""
    return os.fspath(source) if isinstance(source, str | os.PathLike) else type(source).__name__


def _file_content(source: Source, max_pixels: int) -> bytes:
    if not isinstance(source, SOURCE_TYPES):
        raise wrong_type(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, Image.Image):
        return transcoding.from_pillow(source)
    if isinstance(source, np.ndarray):
        return transcoding.from_array(source)
    path = os.fspath(source)
    try:
        return files.read_image_file(path, max_pixels)
    except (OSError, ValueError) as error:
        detail = getattr(error, "strerror", None) or str(error)
        raise SkipError(files.UNOPENABLE, detail) from error
