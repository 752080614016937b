"""Names of files by which a directory is recognized as that of a model.

TensorFlow is not imported, because commands must know what they will read before they decide
whether they need it.
"""

from __future__ import annotations

import os
import re

from aocr.errors import AocrError

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
