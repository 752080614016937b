"""The REST endpoint as an ASGI application: routes, handlers and error responses."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aocr.inference.saved_model import MAX_VERSION
from aocr.runtime.console import log
from aocr.serving import responses, rest_codec, web_page
from aocr.serving.batching import Outputs
from aocr.serving.config import ServerOptions
from aocr.serving.errors import INTERNAL_ERROR, ErrorCode, RequestError, invalid
from aocr.serving.metrics import ServerMetrics
from aocr.serving.request_body import BodyReader
from aocr.serving.service import PredictionService

# After these errors unread bytes of the body would be parsed as the next request.
_CLOSING = (ErrorCode.TOO_LARGE, ErrorCode.BODY_TIMEOUT, ErrorCode.OVERLOADED)


class RestHandlers:
    """Handlers of the routes.

    Args:
        service: Runs predictions.
        metrics: The metrics to show.
    """

    def __init__(self, service: PredictionService, metrics: ServerMetrics) -> None:
        self._service = service
        self._bodies = BodyReader(service.limits, service.budget)
        self._metrics = metrics

    async def predict(self, request: Request) -> Response:
        """Handles `POST /v1/models/NAME[/versions/N]:predict`."""
        with self._service.versions.lease(*_model_spec(request)) as servable:
            signature, form, inputs = await self._bodies.read(request, servable)
            outputs = await _unless_disconnected(
                request, self._service.predict(servable, signature, inputs))
        return _json_response(rest_codec.encode_response(outputs, form))

    async def status(self, request: Request) -> Response:
        """Handles `GET /v1/models/NAME[/versions/N]`."""
        statuses = self._service.versions.find_statuses(*_model_spec(request))
        return _json_response(responses.status_json(statuses))

    async def metadata(self, request: Request) -> Response:
        """Handles `GET /v1/models/NAME[/versions/N]/metadata`."""
        name, version = _model_spec(request)
        with self._service.versions.lease(name, version) as servable:
            return _json_response(responses.metadata_json(name, servable))

    async def metrics(self, _request: Request) -> Response:
        """Handles `GET /monitoring/prometheus/metrics`."""
        return Response(self._metrics.render(), media_type="text/plain; version=0.0.4")

    async def unsupported(self, request: Request) -> Response:
        """Refuses `:classify` and `:regress`, which need signatures that a recognizer lacks."""
        method = request.url.path.rpartition(":")[2]
        raise invalid(f"the model has no signature for {method}; use :predict")

    async def label(self, request: Request) -> Response:
        """Refuses version labels, which this server cannot assign."""
        label = request.path_params["label"].partition(":")[0]
        raise invalid(f"Unrecognized servable version label: {label}")


def make_app(service: PredictionService, metrics: ServerMetrics, options: ServerOptions
             ) -> ASGIApp:
    """Returns the application.

    Args:
        service: Runs predictions.
        metrics: Receives each request.
        options: Model name, page and origins whose web pages may call it.
    """
    handlers = RestHandlers(service, metrics)
    register_url_convertor("model", _ModelName())
    model = "/v1/models/{name:model}"
    version = model + "/versions/{version:int}"
    routes: list[BaseRoute] = [
        Route("/monitoring/prometheus/metrics", handlers.metrics, methods=["GET"]),
        Route(model + "/labels/{label:path}", handlers.label, methods=["GET", "POST"])]
    for path in (model, version):
        routes += [Route(path + ":predict", handlers.predict, methods=["POST"]),
                   Route(path + ":classify", handlers.unsupported, methods=["POST"]),
                   Route(path + ":regress", handlers.unsupported, methods=["POST"]),
                   Route(path + "/metadata", handlers.metadata, methods=["GET"])]
    routes += [Route(path, handlers.status, methods=["GET"]) for path in (version, model)]
    if options.page:
        routes += web_page.routes(options.model_name)
    error_handlers: dict[Any, Any] = {
        RequestError: _on_request_error, HTTPException: _on_http_error, 500: _on_internal_error,
        ClientDisconnect: _on_disconnect}
    app: ASGIApp = Starlette(routes=routes, exception_handlers=error_handlers)
    if options.cors_origins:  # around Starlette, so that pages can read error 500 as well
        app = CORSMiddleware(app, options.cors_origins, allow_methods=("GET", "POST"),
                             allow_headers=("*",))
    return MetricsMiddleware(app, metrics)


class _ModelName(StringConvertor):
    regex = "[^/:]+"


class MetricsMiddleware:
    """Counts, times and logs the responses of an application.

    Args:
        app: The application.
        metrics: Receives each request.
    """

    def __init__(self, app: ASGIApp, metrics: ServerMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        start = time.perf_counter()

        async def send_recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                seconds = time.perf_counter() - start
                self._metrics.record_request("rest", str(message["status"]), seconds)
                log.debug("%s %s %d %.1f ms", scope["method"], ascii(scope["path"]),
                          message["status"], 1000 * seconds)
            await send(message)

        await self._app(scope, receive, send_recorded)


def _model_spec(request: Request) -> tuple[str, int | None]:
    """Returns the name of the model and the version that a path names."""
    version = request.path_params.get("version")
    if version is not None and version > MAX_VERSION:
        raise invalid(f"Failed to convert version: {version} to numeric.")
    return request.path_params["name"], version


async def _unless_disconnected(request: Request, prediction: Coroutine[Any, Any, Outputs]
                               ) -> Outputs:
    """Awaits a prediction; cancels it when the client closes the connection."""
    running = asyncio.ensure_future(prediction)
    # After the body, the only message that can be received is the disconnection.
    disconnect = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((running, disconnect), return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            raise ClientDisconnect
        return running.result()
    finally:
        running.cancel()
        disconnect.cancel()


def _json_response(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _error_response(text: str, code: int, headers: Mapping[str, str] | None = None) -> Response:
    # In ASCII, as the text may quote half of a surrogate pair, which UTF-8 cannot encode.
    body = json.dumps({"error": text}, separators=(",", ":"))
    return Response(body, code, headers, "application/json")


async def _on_request_error(_request: Request, error: RequestError) -> Response:
    headers = {"connection": "close"} if error.code in _CLOSING else None
    return _error_response(str(error), error.code.http, headers)


async def _on_http_error(request: Request, error: HTTPException) -> Response:
    """Returns the error for an unknown path or method.

    TensorFlow Serving has 400 instead of 404 for paths below `/v1/`.
    """
    text, code = f"Malformed request: {request.method} {request.url.path}", error.status_code
    if code == 404 and request.url.path.startswith("/v1/"):
        code = 400
    if code == 405:
        text = f"{request.method} is not allowed for {request.url.path}"
    return _error_response(text, code, error.headers)


async def _on_internal_error(_request: Request, _error: Exception) -> Response:
    return _error_response(INTERNAL_ERROR, 500)


async def _on_disconnect(_request: Request, _error: ClientDisconnect) -> Response:
    return _error_response("the client closed the connection", 400)
