"""Image files as they lie on any file system that TensorFlow knows."""

from __future__ import annotations

import tensorflow as tf

from aocr import formats


def load(path: str, max_pixels: int) -> bytes:
    """The bytes of a file; one that is too long for an image of so many pixels is not read.

    Raises:
        SkipError: It is too long.
        tf.errors.OpError: It cannot be read.
    """
    with tf.io.gfile.GFile(path, "rb") as file:
        length = file.size()
        formats.check_length(length, max_pixels)
        return bytes(file.read(length))
