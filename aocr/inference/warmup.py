"""Warm-up requests in the file and format from which TensorFlow Serving reads them.

The format consists of messages of TensorFlow Serving, which `aocr[serve]` installs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from aocr.inference.saved_model import EXTRA_ASSETS

FILE = "tf_serving_warmup_requests"
Request = tuple[str, Mapping[str, np.ndarray]]


def available() -> bool:
    """Returns whether the messages are installed."""
    return importlib.util.find_spec("tensorflow_serving") is not None


def write(directory: str, requests: Iterable[Request]) -> None:
    """Writes warm-up requests beside a SavedModel.

    Args:
        directory: The directory of the SavedModel.
        requests: Names of signatures, and their inputs by name.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    extra = tf.io.gfile.join(directory, EXTRA_ASSETS)
    tf.io.gfile.makedirs(extra)
    with tf.io.TFRecordWriter(tf.io.gfile.join(extra, FILE)) as file:
        for signature, inputs in requests:
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            file.write(log.SerializeToString())


def read(directory: str) -> list[Request]:
    """Reads the warm-up requests beside a SavedModel; returns none if there is no file.

    Raises:
        ValueError: The file is damaged.
    """
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    path = tf.io.gfile.join(directory, EXTRA_ASSETS, FILE)
    if not tf.io.gfile.exists(path):
        return []
    requests: list[Request] = []
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
        try:
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        except DecodeError as error:
            raise ValueError(f"{path} holds no warm-up requests") from error
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        requests.append((request.model_spec.signature_name, inputs))
    return requests
