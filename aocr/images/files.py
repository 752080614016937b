"""Image files as they lie on any file system that TensorFlow knows."""

from __future__ import annotations

import os
import stat

import tensorflow as tf
from PIL import Image

from aocr.errors import SkipError
from aocr.images import transcoding
from aocr.runtime import filesystem

# On Windows files are text without O_BINARY, which is unknown elsewhere.
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0)


def read_image_file(path: str, max_pixels: int) -> bytes:
    """The bytes of a file; one that is too long for an image of so many pixels is not read.

    Raises:
        SkipError: It is too long, a folder, or no plain file.
        tf.errors.OpError: It cannot be read.
    """
    # Three times as fast as what TensorFlow has for all file systems.
    encoded = None if filesystem.is_remote(path) else _local(path, max_pixels)
    return _any(path, max_pixels) if encoded is None else encoded


def _local(path: str, max_pixels: int) -> bytes | None:
    """A plain local file; `None` for whatever is unusual."""
    try:
        about = os.stat(path)  # before it is opened: whoever opens a pipe waits, or ends its writer
        if not stat.S_ISREG(about.st_mode) or not about.st_size:
            return None
        transcoding.check_length(about.st_size, max_pixels)
        file = os.open(path, _FLAGS)
    except (OSError, ValueError):
        return None
    try:
        encoded = os.read(file, about.st_size + 1)
    except OSError:
        return None
    finally:
        os.close(file)
    return encoded if len(encoded) == about.st_size else None


def _any(path: str, max_pixels: int) -> bytes:
    with tf.io.gfile.GFile(path, "rb") as file:
        length = file.size()
        transcoding.check_length(length, max_pixels)
        if not length and filesystem.is_special(path):  # whoever opens a pipe waits for its writer
            raise SkipError("cannot open the file", "it is no plain file")
        try:
            return bytes(file.read(length))
        except tf.errors.FailedPreconditionError as error:
            raise SkipError("cannot open the file", "it is a folder; name a file, or a folder "
                            "that holds some") from error


def has_image_extension(name: str) -> bool:
    """Returns whether a file name ends as those of an image format do, in upper or lower case."""
    image_format = Image.registered_extensions().get(os.path.splitext(name)[1].lower())
    return image_format in Image.OPEN or image_format == "MPO"  # a JPEG of several pictures
