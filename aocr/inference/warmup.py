"""Warm-up requests, in the place and form in which TensorFlow Serving reads them.

They stand in TensorFlow Serving's own messages, which `aocr[serve]` brings.
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
    """Whether the messages are installed."""
    return importlib.util.find_spec("tensorflow_serving") is not None


def write(folder: str, requests: Iterable[Request]) -> None:
    """Writes requests beside a SavedModel.

    Args:
        folder: The folder of the SavedModel.
        requests: Signature names, and the input tensors by name.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    extra = tf.io.gfile.join(folder, EXTRA_ASSETS)
    tf.io.gfile.makedirs(extra)
    with tf.io.TFRecordWriter(tf.io.gfile.join(extra, FILE)) as file:
        for signature, inputs in requests:
            record = prediction_log_pb2.PredictionLog()
            request = record.predict_log.request
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            file.write(record.SerializeToString())


def read(folder: str) -> list[Request]:
    """The requests beside a SavedModel; none where there is no such file.

    Raises:
        ValueError: The file is damaged.
    """
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    path = tf.io.gfile.join(folder, EXTRA_ASSETS, FILE)
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
