"""Layout of ONNX models; ONNX Runtime is not imported, and TensorFlow for remote paths only.

An exported model:

    DIR/model.onnx                                   the model
    DIR/assets.extra/config.json                     its settings, also in its metadata

A compact model that ONNX Runtime can run:

    DIR/graph.onnx                                   the model without weights
    DIR/weights.npz, DIR/config.json                 see `aocr.checkpoints.compact`

Inputs and outputs are those of the signature `serving_images`, with float32 probabilities. The
initializers of `graph.onnx` have the names of the weights, and `TEMPERATURE`; all are float32.
"""

from __future__ import annotations

import os

from aocr.checkpoints.model_files import CONFIG_FILE, ONNX_FILE, SAVED_MODEL_FILE
from aocr.errors import AocrError
from aocr.runtime import filesystem, startup

GRAPH_FILE = "graph.onnx"
TEMPERATURE = "temperature"  # see `ModelConfig`
CONFIG_KEY = "config.json"  # of the metadata whose value is the content of `config.json`
INPUTS = ("images", "widths")
OUTPUTS = ("ids", "probability", "character_probabilities", "attention")
_OTHER_MODELS = {CONFIG_FILE, SAVED_MODEL_FILE}  # of checkpoints, and a SavedModel


def find(path: str) -> str | None:
    """Returns the ONNX file that a path names: the file itself, or the one in a directory.

    Checkpoints and a SavedModel take precedence over an ONNX file in the same directory, which may
    be older. A directory of numbered versions stands for the newest that holds a model.

    Returns:
        The path of the file, or `None` if the path names no ONNX model.

    Raises:
        AocrError: A directory cannot be read.
    """
    if filesystem.is_remote(path):
        startup.import_tensorflow()
    if path.endswith(".onnx"):
        return None if filesystem.is_directory(path) else path
    names = _names(path)
    versions = sorted((name for name in names if name.isascii() and name.isdecimal()), key=int)
    for directory in (path, *(os.path.join(path, name) for name in reversed(versions))):
        names = _names(directory)
        if names & _OTHER_MODELS:
            return None
        if ONNX_FILE in names:
            return os.path.join(directory, ONNX_FILE)
    return None


def _names(path: str) -> set[str]:
    """Returns the names in a directory, none if there is no such directory."""
    if not filesystem.is_directory(path):
        return set()
    try:
        return {name.rstrip("/") for name in filesystem.list_directory(path)}
    except OSError as error:
        raise AocrError(f"cannot read the directory {path}: {error.strerror}") from error


def has_graph(directory: str) -> bool:
    """Returns whether a local directory holds the graph of a compact model."""
    return os.path.isfile(os.path.join(directory, GRAPH_FILE))
