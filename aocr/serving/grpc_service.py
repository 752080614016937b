"""The gRPC door: TensorFlow Serving's own services."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc

from aocr.runtime.console import log
from aocr.serving import responses
from aocr.serving.config import ServerOptions
from aocr.serving.errors import ErrorCode, RequestError, invalid
from aocr.serving.metrics import ServerMetrics
from aocr.serving.service import PredictionService

_MARGIN = 64 * 1024  # what a message holds beside its images
Handler = Callable[[Any], Awaitable[Any]]


class Rpc:
    """The calls that are answered, refusals as status codes."""

    def __init__(self, desk: PredictionService, monitoring: ServerMetrics) -> None:
        self._desk = desk
        self._monitoring = monitoring

    async def predict(self, request: Any) -> Any:  # noqa: ANN401
        """`PredictionService.Predict`."""
        name, version = _asked(request)
        signature = request.model_spec.signature_name
        with self._desk.versions.lease(name, version) as servable:
            known = servable.outputs(signature) if servable.inputs(signature) else []
            wanted = _filtered(request.output_filter, known)
            inputs = {alias: _array(alias, value, self._desk.limits.max_body)
                      for alias, value in request.inputs.items()}
            outputs = await self._desk.answer(servable, signature, inputs)
            response = predict_pb2.PredictResponse()
            response.model_spec.name = name
            response.model_spec.version.value = servable.version
            response.model_spec.signature_name = signature or "serving_default"
        for alias in wanted:
            response.outputs[alias].CopyFrom(tf.make_tensor_proto(outputs[alias]))
        return response

    async def metadata(self, request: Any) -> Any:  # noqa: ANN401
        """`PredictionService.GetModelMetadata`."""
        name, version = _asked(request)
        if set(request.metadata_field) != {responses.SIGNATURES}:
            raise invalid(f"expected the metadata_field {responses.SIGNATURES}, got "
                          f"{', '.join(request.metadata_field) or 'none'}")
        with self._desk.versions.lease(name, version) as servable:
            return responses.metadata(name, servable)

    async def status(self, request: Any) -> Any:  # noqa: ANN401
        """`ModelService.GetModelStatus`."""
        return responses.status(self._desk.versions.told(*_asked(request)))

    async def answered(self, handler: Handler, request: Any,  # noqa: ANN401
                       context: grpc.aio.ServicerContext) -> Any:  # noqa: ANN401
        """Runs a handler; counts, times and logs the call."""
        start, code = time.perf_counter(), "INTERNAL"
        try:
            response = await handler(request)
            code = "OK"
            return response
        except RequestError as error:
            code = error.reason.grpc
            return await context.abort(grpc.StatusCode[code], str(error))
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        finally:
            seconds = time.perf_counter() - start
            self._monitoring.answered("grpc", code, seconds)
            log.debug("%s %s %.1f ms", handler.__name__, code, 1000 * seconds)


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    async def Predict(self, request: Any, context: Any) -> Any:  # noqa: ANN401, N802
        return await self._rpc.answered(self._rpc.predict, request, context)

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: ANN401, N802
        return await self._rpc.answered(self._rpc.metadata, request, context)


class _Model(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    async def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: ANN401, N802
        return await self._rpc.answered(self._rpc.status, request, context)


def make(rpc: Rpc, options: ServerOptions) -> grpc.aio.Server:
    """The gRPC server, without a port."""
    server = grpc.aio.server(maximum_concurrent_rpcs=options.limits.max_connections, options=[
        ("grpc.max_receive_message_length", options.limits.max_body + _MARGIN),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0)])  # a second server on the port is a mistake to be told
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Prediction(rpc), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Model(rpc), server)
    return server


def _asked(request: Any) -> tuple[str, int | None]:  # noqa: ANN401
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    spec = request.model_spec
    if spec.version_label:
        raise invalid(f"Unrecognized servable version label: {spec.version_label}")
    return spec.name, spec.version.value if spec.HasField("version") else None


def _filtered(wanted: Any, known: list[str]) -> list[str]:  # noqa: ANN401
    for alias in wanted:
        if alias not in known:
            raise invalid(f"output tensor alias not found in signature: {alias} Outputs expected "
                          f"to be in the set {{{','.join(known)}}}.")
    if len(set(wanted)) < len(wanted):
        raise invalid("duplicate output tensor alias")
    return list(wanted) or known


def _array(alias: str, value: Any, max_bytes: int) -> np.ndarray:  # noqa: ANN401
    """A tensor of a message whose shape promises no more than its values may hold."""
    sizes = [axis.size for axis in value.tensor_shape.dim]
    least = len(value.string_val) if value.dtype == tf.string.as_datatype_enum else 0
    number = math.prod(sizes)
    if value.tensor_shape.unknown_rank or min(sizes, default=0) < 0 or (
            least and least != number):
        raise invalid(f"input {alias!r}: the shape {sizes} does not fit the values")
    if 8 * number > 2 * max_bytes:
        raise RequestError(ErrorCode.TOO_LARGE, f"input {alias!r}: the shape {sizes} is too large")
    try:
        return tf.make_ndarray(value)
    except (TypeError, ValueError, KeyError) as error:
        raise invalid(f"input {alias!r}: the shape or type does not fit the values") from error
