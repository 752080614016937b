"""Names of the files of models, and whether a directory holds such files.

TensorFlow is not imported, because commands must know what they will read before they decide
whether they need it.
"""

from __future__ import annotations

import os
import re

from aocr.errors import AocrError

CONFIG_FILE = "config.json"
STATE_FILE = "checkpoint"  # names the checkpoints of a directory, as in the original
COMPACT_FILE = "weights.npz"
SAVED_MODEL_FILE = "saved_model.pb"
FROZEN_GRAPH_FILE = "frozen_graph.pb"
ONNX_FILE = "model.onnx"
LITE_FILE = "model.tflite"
# What a directory without checkpoints holds, by the file that it contains.
KINDS = {SAVED_MODEL_FILE: "an exported model", FROZEN_GRAPH_FILE: "a frozen graph",
         ONNX_FILE: "an ONNX model", LITE_FILE: "a LiteRT model", COMPACT_FILE: "a compact model"}
# Of checkpoints, of compact and exported models, and numbered versions. Files of any model count,
# also if others are missing: an incomplete model is an error, not an empty directory.
_MODEL_FILES = re.compile(
    r"config\.json|checkpoint|best|model\.ckpt.*|.+\.(index|meta)|.+\.data-\d.*"
    r"|.+\.(npz|onnx|pb|tflite)|variables|assets\.extra|[0-9]+")


def holds_model(directory: str) -> bool:
    """Returns whether a local directory holds files of a model, which may be damaged.

    Raises:
        AocrError: The directory cannot be read.
    """
    try:
        return any(map(_MODEL_FILES.fullmatch, os.listdir(directory)))
    except OSError as error:
        raise AocrError(f"cannot read the directory {directory}: {error.strerror}") from error
