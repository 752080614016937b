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
    be older.

    Returns:
        The path of the file, or `None` if the path names no ONNX model.
    """
    if path.endswith(".onnx"):
        return None if os.path.isdir(path) else path
    others = [name for name in _OTHER_MODELS if os.path.exists(os.path.join(path, name))]
    file = os.path.join(path, ONNX_FILE)
    return file if not others and os.path.isfile(file) else None


def has_graph(directory: str) -> bool:
    """Returns whether a local directory holds the graph of a compact model."""
    return os.path.isfile(os.path.join(directory, GRAPH_FILE))
