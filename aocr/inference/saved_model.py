"""Image bytes → text: the one path that test, predict, export and the Python API share."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from aocr.checkpoints import directory
from aocr.errors import AocrError, reason
from aocr.inference.graph import BatchPrediction
from aocr.runtime import filesystem

SAVED_MODEL_FILE = "saved_model.pb"
DETAILS_SIGNATURE = "serving_details"
EXTRA_ASSETS = "assets.extra"  # where TensorFlow Serving lets a SavedModel carry files of its own


def find_saved_model(folder: str) -> str | None:
    """The SavedModel in a folder, or in the newest of its numbered versions.

    Checkpoints come first: an export beside them may be older.
    """
    if directory.exists(folder):
        return None
    if tf.io.gfile.exists(tf.io.gfile.join(folder, SAVED_MODEL_FILE)):
        return folder
    found = [version for version in filesystem.numbered_dirs(folder).values()
             if tf.io.gfile.exists(tf.io.gfile.join(version, SAVED_MODEL_FILE))]
    return found[-1] if found else None


def load_saved_model(folder: str) -> Callable[[tf.Tensor], BatchPrediction]:
    """Loads an exported SavedModel.

    Raises:
        AocrError: `aocr export` of this version did not write it.
    """
    try:
        loaded = tf.saved_model.load(folder)
        details = loaded.signatures[DETAILS_SIGNATURE]
    except (tf.errors.OpError, OSError, ValueError, KeyError, IndexError) as error:
        raise AocrError(f"{folder} is not a model that this version of `aocr export` wrote: "
                        f"{reason(error)}") from error

    def read(encoded: tf.Tensor) -> BatchPrediction:
        return BatchPrediction(**details(input=encoded))

    read.keeps = loaded  # type: ignore[attr-defined]  # the variables live as long as their owner
    return read
