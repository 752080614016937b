"""Predict requests of gRPC, valid and invalid; import it after `serving.require_extra()`."""

from __future__ import annotations

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from tests.serving import NAME


def predict(images: list[bytes] | bytes, name: str = NAME, signature: str = "",
            version: int | None = None) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    request.inputs["input"].CopyFrom(tf.make_tensor_proto(images))
    return request


def of_wrong_shape(image: bytes) -> predict_pb2.PredictRequest:
    request = predict(image)
    request.inputs["input"].tensor_shape.dim.add(size=1 << 40)
    return request


def of_wrong_type(image: bytes) -> predict_pb2.PredictRequest:
    request = predict(image)
    request.inputs["input"].dtype = tf.resource.as_datatype_enum
    return request


def of_unknown_output(image: bytes) -> predict_pb2.PredictRequest:
    request = predict(image)
    request.output_filter.append("other")
    return request
