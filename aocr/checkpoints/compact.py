"""Compact models: a directory with `config.json` and the weights alone, at half the size.

The file is a NumPy archive with one array for each variable, by its name. Matrices and convolution
kernels are float16; biases and the parameters of batch norm stay float32.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from aocr.config import ModelConfig
from aocr.errors import AocrError, reason
from aocr.model import AttentionOCR
from aocr.model.layers import ZeroInitializer

FILE = "weights.npz"
_REMEDY = "restore the file, for example by installing aocr again"


def path(directory: str) -> str:
    """Returns the path of the weights of the compact model in a directory."""
    return str(tf.io.gfile.join(directory, FILE))


def exists(directory: str) -> bool:
    """Returns whether a directory holds a compact model."""
    return bool(tf.io.gfile.exists(path(directory)))


def save(model: AttentionOCR, directory: str) -> None:
    """Writes the weights of a model to a directory.

    Args:
        model: The model.
        directory: An existing directory, to which the caller writes `config.json`.
    """
    content = io.BytesIO()
    arrays = {name: _stored(variable) for name, variable in _named(model)}
    np.savez(content, **arrays)  # type: ignore[arg-type]  # it has a flag beside the arrays
    with tf.io.gfile.GFile(path(directory), "wb") as file:
        file.write(content.getvalue())


def load(directory: str, config: ModelConfig) -> AttentionOCR:
    """Loads a compact model.

    Args:
        directory: Its directory.
        config: The model's settings.

    Raises:
        AocrError: The file is damaged, or has weights of other shapes.
    """
    weights, model = path(directory), AttentionOCR(config, ZeroInitializer())
    try:
        with tf.io.gfile.GFile(weights, "rb") as file:
            arrays = dict(np.load(io.BytesIO(file.read()), allow_pickle=False))
    except (tf.errors.OpError, OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise AocrError(f"{weights} cannot be read: {reason(error)}; {_REMEDY}") from error
    for name, variable in _named(model):
        array = arrays.get(name)
        if array is None or array.shape != tuple(variable.shape):
            stored = "nothing" if array is None else f"shape {list(array.shape)}"
            raise AocrError(f"{weights}: expected shape {list(variable.shape)} for {name}, got "
                            f"{stored}; {_REMEDY}")
        variable.assign(array.astype(variable.dtype.as_numpy_dtype))
    return model


def _named(model: AttentionOCR) -> Iterator[tuple[str, tf.Variable]]:
    for variable in model.variables:
        yield variable.name.removesuffix(":0"), variable


def _stored(variable: tf.Variable) -> np.ndarray:
    value = variable.numpy()
    fits = value.ndim > 1 and np.abs(value).max() < np.finfo(np.float16).max
    return value.astype(np.float16) if fits else value
