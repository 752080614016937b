"""Layout of ONNX models; imports neither TensorFlow nor ONNX Runtime.

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
from collections.abc import Iterator

ONNX_FILE = "model.onnx"
GRAPH_FILE = "graph.onnx"
TEMPERATURE = "temperature"  # see `ModelConfig`
CONFIG_KEY = "config.json"  # of the metadata whose value is the content of `config.json`
INPUTS = ("images", "widths")
OUTPUTS = ("ids", "probability", "character_probabilities", "attention")
_OTHER_MODELS = ("config.json", "saved_model.pb")  # of checkpoints, and a SavedModel


def find(path: str) -> str | None:
    """Returns the ONNX file that a path names: the file itself, or the one in a directory.

    Checkpoints and a SavedModel take precedence over an ONNX file in the same directory, which may
    be older. A directory of numbered versions stands for the newest that holds a model.

    Returns:
        The path of the file, or `None` if the path names no ONNX model.
    """
    if path.endswith(".onnx"):
        return None if os.path.isdir(path) else path
    for directory in (path, *_versions(path)):
        if any(os.path.exists(os.path.join(directory, name)) for name in _OTHER_MODELS):
            return None
        file = os.path.join(directory, ONNX_FILE)
        if os.path.isfile(file):
            return file
    return None


def _versions(path: str) -> Iterator[str]:
    """Yields the entries of a local directory that are named by a number, the highest first."""
    names = os.listdir(path) if os.path.isdir(path) else []
    numbers = [name for name in names if name.isascii() and name.isdecimal()]
    for name in sorted(numbers, key=int, reverse=True):
        yield os.path.join(path, name)


def has_graph(directory: str) -> bool:
    """Returns whether a local directory holds the graph of a compact model."""
    return os.path.isfile(os.path.join(directory, GRAPH_FILE))
