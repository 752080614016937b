"""The gRPC endpoint: the prediction and model services of TensorFlow Serving."""

from __future__ import annotations

import asyncio
import functools
import operator
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from aocr.config import shown
from aocr.inference.saved_model import DEFAULT_SIGNATURE
from aocr.runtime.console import log
from aocr.serving import grpc_codec, responses
from aocr.serving.config import ServerOptions
from aocr.serving.errors import INTERNAL_ERROR, ErrorCode, RequestError, invalid
from aocr.serving.metrics import ServerMetrics
from aocr.serving.service import PredictionService

_MESSAGE_OVERHEAD = 64 * 1024  # bytes of a message beside its images
Handler = Callable[[Any], Awaitable[Message]]


class GrpcHandlers:
    """Handlers of the gRPC methods; request errors become status codes.

    Args:
        service: Runs predictions.
        metrics: Receives each call.
    """

    def __init__(self, service: PredictionService, metrics: ServerMetrics) -> None:
        self._service = service
        self._metrics = metrics

    async def predict(self, request: Any) -> Any:  # noqa: ANN401
        """Handles `PredictionService.Predict`."""
        name, version = _model_spec(request)
        signature = request.model_spec.signature_name
        with self._service.versions.lease(name, version) as servable:
            dtypes = servable.inputs(signature)
            aliases = _filter_outputs(request.output_filter, servable.outputs(signature))
            inputs = grpc_codec.tensors(
                request.inputs, dtypes, self._service.limits.max_body_bytes)
            del request  # otherwise its images would be in memory twice while the model runs
            outputs = await self._service.predict(servable, signature, inputs)
            response = predict_pb2.PredictResponse()
            response.model_spec.name = name
            response.model_spec.version.value = servable.version
            response.model_spec.signature_name = signature or DEFAULT_SIGNATURE
        for alias in aliases:
            response.outputs[alias].CopyFrom(tf.make_tensor_proto(outputs[alias]))
        return response

    async def metadata(self, request: Any) -> Any:  # noqa: ANN401
        """Handles `PredictionService.GetModelMetadata`."""
        name, version = _model_spec(request)
        if set(request.metadata_field) != {responses.SIGNATURE_DEF}:
            raise invalid(f"expected the metadata_field {responses.SIGNATURE_DEF}, got "
                          f"{', '.join(request.metadata_field) or 'none'}")
        with self._service.versions.lease(name, version) as servable:
            return responses.metadata(name, servable)

    async def status(self, request: Any) -> Any:  # noqa: ANN401
        """Handles `ModelService.GetModelStatus`."""
        return responses.status(self._service.versions.find_statuses(*_model_spec(request)))

    def method(self, handler: Handler, request_type: type[Message]) -> grpc.RpcMethodHandler:
        """Returns a handler as a gRPC method of one message, for unary calls.

        For gRPC the message is a stream of one: of a unary method the handler would only be called
        when the whole message has been received, however long that takes.
        """
        return grpc.stream_unary_rpc_method_handler(
            functools.partial(self._run, handler, request_type), None,
            operator.methodcaller("SerializeToString"))

    async def _run(self, handler: Handler, request_type: type[Message], _requests: object,
                   context: grpc.aio.ServicerContext) -> Message:
        """Receives a request and runs a handler; counts, times and logs the call."""
        start, code = time.perf_counter(), "CANCELLED"
        try:
            outcomes = await asyncio.gather(
                self._handle(handler, request_type, context), return_exceptions=True)
            outcome = outcomes[0]
            if isinstance(outcome, BaseException):
                error = _request_error(outcome)
                code = error.code.grpc
                return await context.abort(grpc.StatusCode[code], str(error))
            code = "OK"
            return outcome
        finally:
            seconds = time.perf_counter() - start
            self._metrics.record_request("grpc", code, seconds)
            log.debug("%s %s %.1f ms", handler.__name__, code, 1000 * seconds)

    async def _handle(self, handler: Handler, request_type: type[Message],
                      context: grpc.aio.ServicerContext) -> Message:
        return await handler(await self._receive(request_type, context))

    async def _receive(self, request_type: type[Message], context: grpc.aio.ServicerContext
                       ) -> Message:
        seconds = self._service.limits.request_seconds
        try:
            received = await asyncio.wait_for(context.read(), seconds)
        except asyncio.TimeoutError as error:
            raise RequestError(ErrorCode.BODY_TIMEOUT, "the message was not received within "
                               f"{seconds:g} seconds") from error
        if received is grpc.aio.EOF:
            raise invalid("expected a message, but the call ended without one")
        try:
            return request_type.FromString(received)
        except DecodeError as error:
            raise invalid(f"expected a message of type {request_type.DESCRIPTOR.full_name}, got "
                          f"{len(received)} bytes that are none") from error


class _UnknownMethods(grpc.GenericRpcHandler):
    """Refuses every method that no other handler has, in any service."""

    def __init__(self, metrics: ServerMetrics) -> None:
        self._metrics = metrics

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Returns a handler for any kind of call, unary or streaming."""
        return grpc.stream_stream_rpc_method_handler(
            functools.partial(self._refuse, handler_call_details.method))

    async def _refuse(self, method: str, _requests: object, context: grpc.aio.ServicerContext
                      ) -> None:
        self._metrics.record_request("grpc", "UNIMPLEMENTED", 0.0)
        log.debug("%s UNIMPLEMENTED", shown(method))
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"unknown method {shown(method)}")


def make_server(handlers: GrpcHandlers, metrics: ServerMetrics, options: ServerOptions
                ) -> grpc.aio.Server:
    """Returns the gRPC server, not yet bound to a port.

    Args:
        handlers: Handlers of the methods.
        metrics: Receives calls of unknown methods.
        options: Limits.
    """
    server = grpc.aio.server(maximum_concurrent_rpcs=options.limits.max_connections, options=[
        ("grpc.max_receive_message_length", options.limits.max_body_bytes + _MESSAGE_OVERHEAD),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0)])  # so that a second server on the port fails
    services = {
        "PredictionService": {
            "Predict": handlers.method(handlers.predict, predict_pb2.PredictRequest),
            "GetModelMetadata": handlers.method(
                handlers.metadata, get_model_metadata_pb2.GetModelMetadataRequest)},
        "ModelService": {
            "GetModelStatus": handlers.method(
                handlers.status, get_model_status_pb2.GetModelStatusRequest)}}
    # Not the generated servicers: their methods raise NotImplementedError unless overridden,
    # which gRPC logs with a traceback.
    server.add_generic_rpc_handlers((
        *(grpc.method_handlers_generic_handler(f"tensorflow.serving.{name}", methods)
          for name, methods in services.items()),
        _UnknownMethods(metrics)))
    return server


def _request_error(error: BaseException) -> RequestError:
    """Returns the error for the client; logs an unexpected one, which clients do not see."""
    if isinstance(error, RequestError):
        return error
    log.error(f"A gRPC call failed unexpectedly: {error!r}", exc_info=error)
    return RequestError(ErrorCode.INTERNAL, INTERNAL_ERROR)


def _model_spec(request: Any) -> tuple[str, int | None]:  # noqa: ANN401
    """Returns the name of the model and the version that a request names."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    spec = request.model_spec
    if spec.version_label:
        raise invalid(f"Unrecognized servable version label: {spec.version_label}")
    return spec.name, spec.version.value if spec.HasField("version") else None


def _filter_outputs(requested: Any, known: list[str]) -> list[str]:  # noqa: ANN401
    """Returns the names of the outputs to send."""
    for alias in requested:
        if alias not in known:
            raise invalid(f"output tensor alias not found in signature: {alias} Outputs expected "
                          f"to be in the set {{{','.join(known)}}}.")
    if len(set(requested)) < len(requested):
        raise invalid("duplicate output tensor alias")
    return list(requested) or known
