"""Reads image files from any file system that TensorFlow supports.

Local files are read without TensorFlow, which is imported for others.
"""

from __future__ import annotations

import os
import stat

from aocr.errors import SkipError
from aocr.images.headers import check_length
from aocr.runtime import filesystem, startup

UNOPENABLE = "cannot open the file"
_FOLDER = "it is a folder; name a file, or a folder that contains images"


def read_image_file(path: str, max_pixels: int) -> bytes:
    """Returns the bytes of a file, unless it is longer than an image of `max_pixels` needs.

    Raises:
        SkipError: The file is too long, or the path is a directory or not a regular file.
        FileNotFoundError: There is no such file.
        OSError: The file cannot be read.
        ValueError: The path holds the character NUL.
    """
    if filesystem.is_remote(path):
        return _read_with_tensorflow(path, max_pixels)
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise SkipError(UNOPENABLE, _FOLDER)
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for its writer
        raise SkipError(UNOPENABLE, "it is not a regular file")
    check_length(status.st_size, max_pixels)
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _read_with_tensorflow(path: str, max_pixels: int) -> bytes:
    startup.import_tensorflow()
    import tensorflow as tf

    try:
        with filesystem.os_errors(), tf.io.gfile.GFile(path, "rb") as file:
            length = file.size()
            check_length(length, max_pixels)
            return bytes(file.read(length))
    except IsADirectoryError as error:
        raise SkipError(UNOPENABLE, _FOLDER) from error
