"""Small files that appear whole or not at all, on any file system that TensorFlow knows."""

from __future__ import annotations

import os
import threading

import tensorflow as tf


def write(path: str, text: str) -> None:
    """Writes a file aside and moves it into its place.

    Raises:
        tf.errors.OpError: The file system refuses.
    """
    # Of its own name, so that two who write the same file do not write into each other's.
    part = f"{path}.{os.getpid()}-{threading.get_ident()}.part"
    try:
        with tf.io.gfile.GFile(part, "w") as file:
            file.write(text)
        tf.io.gfile.rename(part, path, overwrite=True)
    except tf.errors.OpError:
        if tf.io.gfile.exists(part):
            tf.io.gfile.remove(part)
        raise
