"""Layout of exported models, and functions to find and load a SavedModel.

    DIR/saved_model.pb, variables/, ...              SavedModel
    DIR/frozen_graph.pb                              frozen graph
    DIR/assets.extra/config.json                     settings of the model
    DIR/assets.extra/tf_serving_warmup_requests      warm-up requests

With `--model-version N`, all of this is in `DIR/N/`.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from aocr.checkpoints import directory
from aocr.checkpoints.model_files import SAVED_MODEL_FILE
from aocr.errors import AocrError, reason
from aocr.runtime import filesystem

EXTRA_ASSETS = "assets.extra"  # where TensorFlow Serving expects files that TensorFlow ignores
DEFAULT_SIGNATURE = "serving_default"
DETAILS_SIGNATURE = "serving_details"
IMAGES_SIGNATURE = "serving_images"
MAX_VERSION = (1 << 63) - 1  # the protocols of TensorFlow Serving have int64 for versions


def find_saved_model(model_dir: str) -> str | None:
    """Returns the SavedModel directory in a directory, or the newest of its numbered versions.

    Checkpoints take precedence over a SavedModel in the same directory, which may be older.

    Returns:
        `model_dir` itself, the directory of a version, or `None` if there is no SavedModel.
    """
    if directory.exists(model_dir):
        return None
    versions = filesystem.numbered_dirs(model_dir).values()
    return next((path for path in (model_dir, *reversed(versions)) if is_saved_model(path)), None)


def is_saved_model(path: str) -> bool:
    """Returns whether a directory itself holds a SavedModel."""
    return bool(tf.io.gfile.exists(tf.io.gfile.join(path, SAVED_MODEL_FILE)))


def load_saved_model(path: str) -> Any:  # noqa: ANN401  # its class is created by TensorFlow
    """Loads a SavedModel that `aocr export` has written.

    Signatures do not keep the variables alive: hold the returned object as long as they are used.

    Args:
        path: The directory of the SavedModel.

    Returns:
        The loaded object, with all signatures in `signatures`.

    Raises:
        AocrError: The SavedModel is damaged, or has no signature `serving_details`.
    """
    try:
        loaded = tf.saved_model.load(path)
        loaded.signatures[DETAILS_SIGNATURE]
    except (tf.errors.OpError, OSError, ValueError, KeyError, IndexError) as error:
        raise AocrError(f"{path} is not a model that this version of `aocr export` wrote: "
                        f"{reason(error)}") from error
    return loaded


def read_proto(path: str) -> saved_model_pb2.SavedModel:
    """Reads the protocol buffer of a SavedModel.

    Args:
        path: The directory of the SavedModel.

    Raises:
        tf.errors.OpError: The file cannot be read.
        google.protobuf.message.DecodeError: The file is damaged.
    """
    with tf.io.gfile.GFile(tf.io.gfile.join(path, SAVED_MODEL_FILE), "rb") as file:
        return saved_model_pb2.SavedModel.FromString(file.read())


def serving_graph(model: saved_model_pb2.SavedModel) -> meta_graph_pb2.MetaGraphDef:
    """Returns the graph of a SavedModel that has the tag for serving.

    Raises:
        ValueError: There is none.
    """
    for graph in model.meta_graphs:
        if tf.saved_model.SERVING in graph.meta_info_def.tags:
            return graph
    raise ValueError(f"no graph with the tag {tf.saved_model.SERVING}")
