"""Directories of attention pictures, one for each evaluated image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from aocr.errors import AocrError, reason
from aocr.evaluation import attention
from aocr.evaluation.report import EvaluationRow

_SUBDIRECTORIES = ("incorrect", "correct")
_TEXT_FILE = "word.txt"


def clear(directory: str) -> None:
    """Removes the pictures of an earlier evaluation, and no other files.

    Raises:
        AocrError: They cannot be removed.
    """
    with _write_errors(directory):
        for subdirectory in _SUBDIRECTORIES:
            _clear(tf.io.gfile.join(directory, subdirectory))


def write(directory: str, number: int, row: EvaluationRow, image: bytes, alpha: str) -> None:
    """Writes the text and the pictures of one image to a subdirectory of its own.

    Args:
        directory: The directory of all pictures.
        number: Number of the image in the evaluation, from 1; it names the subdirectory.
        row: The prediction, with the attention.
        image: The encoded image.
        alpha: How the model sees transparent pixels, see `ModelConfig`.

    Raises:
        AocrError: They cannot be written.
    """
    files = _files(row, image, alpha)
    with _write_errors(directory):
        path = tf.io.gfile.join(directory, _SUBDIRECTORIES[row.correct], f"{number:06}")
        tf.io.gfile.makedirs(path)
        for name, content in files.items():
            with tf.io.gfile.GFile(tf.io.gfile.join(path, name), "wb") as file:
                file.write(content)


def _files(row: EvaluationRow, image: bytes, alpha: str) -> dict[str, bytes]:
    """Returns the content of each file of an image, by name."""
    drawn = attention.draw(image, np.asarray(row.result.attention), row.width, row.result.text,
                           alpha)
    stills = {f"image_{n}.jpg": still for n, still in enumerate(drawn.stills)}
    return {_TEXT_FILE: f"{row.result.text}\n{row.label}\n".encode(), **stills,
            "image.gif": drawn.animation}


def _clear(directory: str) -> None:
    """Removes the subdirectories that `write` has written, which hold the text of an image."""
    for name in tf.io.gfile.listdir(directory) if tf.io.gfile.isdir(directory) else ():
        path = tf.io.gfile.join(directory, name.rstrip("/"))
        if tf.io.gfile.exists(tf.io.gfile.join(path, _TEXT_FILE)):
            tf.io.gfile.rmtree(path)


@contextmanager
def _write_errors(directory: str) -> Iterator[None]:
    try:
        yield
    except tf.errors.OpError as error:
        raise AocrError(f"cannot write pictures to {directory}: {reason(error)}; --output-dir "
                        "chooses another directory") from error
