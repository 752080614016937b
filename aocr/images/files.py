"""Reads image files from any file system that TensorFlow supports."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import tensorflow as tf
from PIL import Image

from aocr.errors import SkipError
from aocr.images.headers import check_length
from aocr.runtime import filesystem

_UNOPENABLE = "cannot open the file"


def read_image_file(path: str, max_pixels: int) -> bytes:
    """Returns the bytes of a file, unless it is longer than an image of `max_pixels` needs.

    Raises:
        SkipError: The file is too long, or the path is a directory or not a regular file.
        tf.errors.OpError: The file cannot be read.
    """
    if not filesystem.is_remote(path) and os.path.isfile(path):
        with contextlib.suppress(OSError):  # TensorFlow's error below names the reason
            check_length(os.path.getsize(path), max_pixels)
            return Path(path).read_bytes()  # three times as fast as TensorFlow
    return _read_with_tensorflow(path, max_pixels)


def _read_with_tensorflow(path: str, max_pixels: int) -> bytes:
    with tf.io.gfile.GFile(path, "rb") as file:
        length = file.size()
        check_length(length, max_pixels)
        if not length and filesystem.is_special(path):  # reading a pipe would wait for its writer
            raise SkipError(_UNOPENABLE, "it is not a regular file")
        try:
            return bytes(file.read(length))
        except tf.errors.FailedPreconditionError as error:
            raise SkipError(_UNOPENABLE, "it is a folder; name a file, or a folder that "
                            "contains images") from error


def has_image_extension(name: str) -> bool:
    """Returns whether a file name has the extension of an image format, in upper or lower case."""
    image_format = Image.registered_extensions().get(os.path.splitext(name)[1].lower())
    return image_format in Image.OPEN or image_format == "MPO"  # a JPEG of several pictures
