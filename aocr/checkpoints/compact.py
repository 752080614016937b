"""Compact models: a directory with `config.json` and the weights alone, at half the size.

The file is a NumPy archive with one array for each variable, by its name. Matrices and convolution
kernels are float16; biases and the parameters of batch norm stay float32. TensorFlow is imported
by the functions that need it.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from aocr.checkpoints.choice import CheckpointChoice
from aocr.checkpoints.model_files import COMPACT_FILE
from aocr.config import ModelConfig
from aocr.errors import AocrError, reason
from aocr.runtime import filesystem

if TYPE_CHECKING:
    import tensorflow as tf

    from aocr.model import AttentionOCR

_REMEDY = "restore the file, for example by installing aocr again"


def path(directory: str) -> str:
    """Returns the path of the weights of the compact model in a directory."""
    return os.path.join(directory, COMPACT_FILE)


def exists(directory: str) -> bool:
    """Returns whether a directory holds a compact model."""
    import tensorflow as tf

    return bool(tf.io.gfile.exists(path(directory)))


def save(model: AttentionOCR, directory: str) -> None:
    """Writes the weights of a model to a directory.

    Args:
        model: The model.
        directory: An existing directory, to which the caller writes `config.json`.
    """
    import tensorflow as tf

    content = io.BytesIO()
    arrays = {name: _stored(variable) for name, variable in named_variables(model)}
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
    from aocr.model import AttentionOCR
    from aocr.model.layers import ZeroInitializer

    model, arrays = AttentionOCR(config, ZeroInitializer()), read(directory)
    for name, variable in named_variables(model):
        array = arrays.get(name)
        if array is None or array.shape != tuple(variable.shape):
            stored = "nothing" if array is None else f"shape {list(array.shape)}"
            raise AocrError(f"{path(directory)}: expected shape {list(variable.shape)} for {name}, "
                            f"got {stored}; {_REMEDY}")
        variable.assign(array.astype(variable.dtype.as_numpy_dtype))
    return model


def read(directory: str) -> dict[str, np.ndarray]:
    """Returns the weights of a compact model as they are stored, by name.

    Raises:
        AocrError: The file is damaged.
    """
    weights = path(directory)
    try:
        return dict(np.load(io.BytesIO(filesystem.read(weights)), allow_pickle=False))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise AocrError(f"{weights} cannot be read: {reason(error)}; {_REMEDY}") from error


def refuse_choice(directory: str, choice: CheckpointChoice) -> None:
    """Refuses options of checkpoints where a compact model is loaded.

    Raises:
        AocrError: The options choose a checkpoint or how to restore it.
    """
    if choice.which is not None or choice.debias:
        raise AocrError(f"{directory} holds the weights of a compact model; --checkpoint and "
                        "--debias apply to directories with checkpoints: leave them out")


def named_variables(model: AttentionOCR) -> Iterator[tuple[str, tf.Variable]]:
    """Yields the variables of a model with the names of their arrays."""
    for variable in model.variables:
        yield variable.name.removesuffix(":0"), variable


def _stored(variable: tf.Variable) -> np.ndarray:
    value = variable.numpy()
    fits = value.ndim > 1 and np.abs(value).max() < np.finfo(np.float16).max
    return value.astype(np.float16) if fits else value
