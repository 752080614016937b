"""Image files as they lie on any file system that TensorFlow knows."""

from __future__ import annotations

import tensorflow as tf

from aocr import files, formats
from aocr.errors import SkipError


def load(path: str, max_pixels: int) -> bytes:
    """The bytes of a file; one that is too long for an image of so many pixels is not read.

    Raises:
        SkipError: It is too long, a folder, or no plain file.
        tf.errors.OpError: It cannot be read.
    """
    with tf.io.gfile.GFile(path, "rb") as file:
        length = file.size()
        formats.check_length(length, max_pixels)
        if not length and files.is_special(path):  # whoever opens a pipe waits for its writer
            raise SkipError("cannot open the file", "it is no plain file")
        try:
            return bytes(file.read(length))
        except tf.errors.FailedPreconditionError as error:
            raise SkipError("cannot open the file", "it is a folder; name a file, or a folder "
                            "that holds some") from error
