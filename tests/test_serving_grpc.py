"""Messages and errors of the gRPC endpoint, with a model that stands in for an exported one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import numpy as np
import pytest
import tensorflow as tf

from tests import contract, serving

serving.require_extra()

import grpc  # noqa: E402
from tensorflow.core.framework import tensor_pb2, types_pb2  # noqa: E402
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc  # noqa: E402

from aocr.serving import grpc_codec, grpc_service  # noqa: E402
from aocr.serving.batching import Batcher  # noqa: E402
from aocr.serving.config import Limits, ServerOptions  # noqa: E402
from aocr.serving.errors import ErrorCode, RequestError  # noqa: E402
from aocr.serving.grpc_service import GrpcHandlers  # noqa: E402
from aocr.serving.metrics import ServerMetrics  # noqa: E402
from aocr.serving.service import PredictionService  # noqa: E402
from aocr.serving.version_manager import VersionManager  # noqa: E402

MAX_BYTES = 1000
LIMITS = Limits(max_body_bytes=10_000)
IMAGE = contract.images()[0]
STRING: dict[str, np.dtype[Any]] = {"input": np.dtype(object)}
TWO: dict[str, np.dtype[Any]] = {"images": np.dtype(np.float32), "widths": np.dtype(np.int32)}


def declared(dtype: int, *shape: int, **values: Any) -> tensor_pb2.TensorProto:
    """Returns a message of a type and shape, with any values."""
    message = tensor_pb2.TensorProto(dtype=dtype, **values)
    message.tensor_shape.SetInParent()
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    return message


def test_messages_become_tensors() -> None:
    images, widths = np.arange(6, dtype=np.float32).reshape(1, 2, 3), np.array([3], np.int32)
    inputs = grpc_codec.tensors({"images": tf.make_tensor_proto(images),
                                 "widths": tf.make_tensor_proto(widths)}, TWO, MAX_BYTES)
    np.testing.assert_array_equal(inputs["images"], images)
    np.testing.assert_array_equal(inputs["widths"], widths)
    (encoded,) = grpc_codec.tensors({"input": tf.make_tensor_proto(b"A")}, STRING, 8).values()
    assert encoded.shape == ()
    assert encoded.item() == b"A"


FLOATS, INTS = types_pb2.DT_FLOAT, types_pb2.DT_INT32
WIDTHS = declared(INTS, 1, int_val=[1])


@pytest.mark.parametrize(("messages", "text"), [
    ({}, r"expected the inputs images, widths, got \[\]"),
    ({"images": declared(FLOATS, 1)}, r"got \['images'\]"),
    ({f"x{n}": declared(FLOATS, 2, float_val=[0]) for n in range(300)}, "got .*…$"),
    ({"images": declared(INTS, 1), "widths": WIDTHS}, "expected the type float32, got int32"),
    ({"images": declared(types_pb2.DT_RESOURCE), "widths": WIDTHS}, "got resource"),
    ({"images": declared(99), "widths": WIDTHS}, "got the unknown type 99"),
    ({"images": declared(FLOATS, 5, -1), "widths": WIDTHS}, r"the shape \[5, -1\] does not fit"),
    ({"images": declared(FLOATS, 200), "widths": declared(INTS, 51)}, "declare 1004 bytes"),
    ({"images": declared(FLOATS, 1 << 40), "widths": WIDTHS}, "declare 4398046511108 bytes")])
def test_no_message_is_converted_unless_all_fit(
        monkeypatch: pytest.MonkeyPatch, messages: dict[str, tensor_pb2.TensorProto], text: str
        ) -> None:
    monkeypatch.setattr(tf, "make_ndarray", None)
    with pytest.raises(RequestError, match=text) as raised:
        grpc_codec.tensors(messages, TWO, MAX_BYTES)
    assert raised.value.code.grpc == "INVALID_ARGUMENT"


def test_strings_that_do_not_fill_the_shape_are_refused() -> None:
    message = declared(types_pb2.DT_STRING, 2, string_val=[b"A"])
    with pytest.raises(RequestError, match="does not fit the values"):
        grpc_codec.tensors({"input": message}, STRING, MAX_BYTES)


def test_values_beyond_the_type_are_refused() -> None:
    message = declared(types_pb2.DT_INT8, 1, int_val=[300])
    with pytest.raises(RequestError, match="does not fit") as raised:
        grpc_codec.tensors({"a": message}, {"a": np.dtype(np.int8)}, MAX_BYTES)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT


@contextlib.asynccontextmanager
async def connect(model: serving.Model, limits: Limits = LIMITS) -> AsyncIterator[grpc.aio.Channel]:
    """Yields a channel to a server of a model."""
    options, metrics = ServerOptions(limits=limits), ServerMetrics()
    batcher = Batcher(options, metrics)
    service = PredictionService(cast("VersionManager", model), batcher, options.limits)
    server = grpc_service.make_server(GrpcHandlers(service, metrics), metrics, options)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)
        await batcher.close()


def predict(model: serving.Model) -> predict_pb2.PredictResponse:
    """Sends an image to a server of a model and returns the response."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "aocr"
    request.inputs["input"].CopyFrom(tf.make_tensor_proto(IMAGE))

    async def send() -> predict_pb2.PredictResponse:
        async with connect(model) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            return await stub.Predict(request)

    return asyncio.run(send())


def test_a_response_has_the_outputs_of_the_model() -> None:
    assert predict(serving.Model(STRING)).outputs["output"].string_val == [IMAGE]


@pytest.mark.parametrize(("error", "details"), [
    (ZeroDivisionError("a detail of the code"), "internal error; see the log of the server"),
    (RequestError(ErrorCode.INTERNAL, "the model failed: a detail of the code"),
     "the model failed: a detail of the code")])
def test_the_reason_of_an_internal_error_is_in_the_log(
        logged: list[str], error: Exception, details: str) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        predict(serving.Model(STRING, error))
    assert raised.value.code() is grpc.StatusCode.INTERNAL
    assert raised.value.details() == details
    (line,) = [line for line in logged if "failed" in line]
    assert "a detail of the code" in line


def status_of(messages: AsyncIterator[bytes], limits: Limits = LIMITS) -> tuple[Any, str]:
    """Returns code and details of the error that a call with these messages gets."""
    async def send() -> None:
        async with connect(serving.Model(STRING), limits) as channel:
            await channel.stream_unary("/tensorflow.serving.PredictionService/Predict")(messages)

    with pytest.raises(grpc.RpcError) as raised:
        asyncio.run(send())
    return raised.value.code(), raised.value.details()


async def never_ending() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def stream(*messages: bytes) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


def test_a_message_that_is_not_received_in_time_is_refused() -> None:
    assert status_of(never_ending(), Limits(request_seconds=0.1)) == (
        grpc.StatusCode.DEADLINE_EXCEEDED, "the message was not received within 0.1 seconds")


@pytest.mark.parametrize(("messages", "text"), [
    (stream(), "the call ended without one"),
    (stream(b"\xff\xff"), "expected a message of type tensorflow.serving.PredictRequest")])
def test_bytes_that_are_no_message_are_refused(messages: AsyncIterator[bytes], text: str) -> None:
    code, details = status_of(messages)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text in details


def test_a_message_beyond_the_limit_is_refused() -> None:
    code, _ = status_of(stream(bytes(100_000)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
