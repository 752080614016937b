"""The REST door: paths, bodies within their limits, replies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from starlette.applications import Starlette
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aocr.runtime.console import log
from aocr.serving import responses, rest_codec
from aocr.serving.batching import Outputs
from aocr.serving.config import MEBIBYTE, Limits
from aocr.serving.errors import ErrorCode, RequestError, invalid
from aocr.serving.metrics import ServerMetrics
from aocr.serving.servable import Servable
from aocr.serving.service import PredictionService

_LARGE = 256 * 1024  # a larger body is parsed in a thread, so that others need not wait
_BUDGET = 8  # bodies of the largest size that may be in memory at a time
_PATIENCE = 256 * MEBIBYTE  # bytes that are read of a body that is too large anyway
_INT64 = 1 << 63


class Bodies:
    """Reads bodies; all those being read share a budget of bytes."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._left = _BUDGET * limits.max_body
        self._parsing = asyncio.Semaphore(1)

    async def question(self, request: Request, servable: Servable
                       ) -> tuple[rest_codec.PredictRequest, rest_codec.Tensors]:
        """What a request asks of a model.

        Raises:
            RefusalError: The body is too large, too slow, not for now, or no question.
        """
        if request.headers.get("content-encoding", "identity") != "identity":
            raise invalid("a compressed body is not read; send it as it is")
        taken = bytearray()
        try:
            await asyncio.wait_for(self._read(request, taken), self._limits.seconds)
            if len(taken) < _LARGE:
                return _question(bytes(taken), servable)
            async with self._parsing:
                return await asyncio.to_thread(_question, bytes(taken), servable)
        except asyncio.TimeoutError as error:
            raise RequestError(ErrorCode.SLOW_BODY, "the body did not come within "
                               f"{self._limits.seconds:g} seconds") from error
        finally:
            self._left += len(taken)

    async def _read(self, request: Request, taken: bytearray) -> None:
        most = self._limits.max_body
        over = _length(request) > most
        if over and request.headers.get("expect", "").lower() == "100-continue":
            raise _too_large(most)
        # What is over is read on for a while: a client still sending would not see the reply.
        patience = _PATIENCE
        async for piece in request.stream():
            over = over or len(taken) + len(piece) > most
            if over:
                patience -= len(piece)
            elif len(piece) > self._left:
                raise RequestError(ErrorCode.FULL, "too many large requests at a time; try again")
            else:
                self._left -= len(piece)
                taken += piece
            if patience < 0:
                break
        if over:
            raise _too_large(most)


class Rest:
    """The handlers of all paths."""

    def __init__(self, desk: PredictionService, monitoring: ServerMetrics) -> None:
        self._desk = desk
        self._bodies = Bodies(desk.limits)
        self._monitoring = monitoring

    async def predict(self, request: Request) -> Response:
        """`POST /v1/models/NAME[/versions/N]:predict`."""
        name, version = _asked(request)
        with self._desk.versions.lease(name, version) as servable:
            question, inputs = await self._bodies.question(request, servable)
            outputs = await _unless_gone(request, self._desk.answer(
                servable, question.signature, inputs))
        return _json(rest_codec.reply(outputs, question.form))

    async def status(self, request: Request) -> Response:
        """`GET /v1/models/NAME[/versions/N]`."""
        return _json(responses.status_json(self._desk.versions.told(*_asked(request))))

    async def metadata(self, request: Request) -> Response:
        """`GET /v1/models/NAME[/versions/N]/metadata`."""
        name, version = _asked(request)
        with self._desk.versions.lease(name, version) as servable:
            return _json(responses.metadata_json(name, servable))

    async def metrics(self, _request: Request) -> Response:
        """`GET /monitoring/prometheus/metrics`."""
        return Response(self._monitoring.page(), media_type="text/plain; version=0.0.4")

    async def unsupported(self, request: Request) -> Response:
        """`:classify` and `:regress`, which no signature of a recogniser is for."""
        method = request.url.path.rpartition(":")[2]
        raise invalid(f"the model has no signature for {method}; use :predict")

    async def label(self, request: Request) -> Response:
        """Paths with a version label; no label is ever given here."""
        label = request.path_params["label"].partition(":")[0]
        raise invalid(f"Unrecognized servable version label: {label}")


def make(desk: PredictionService, monitoring: ServerMetrics) -> ASGIApp:
    """The application."""
    door = Rest(desk, monitoring)
    register_url_convertor("model", _ModelName())
    model = "/v1/models/{name:model}"
    version = model + "/versions/{version:int}"
    routes = [Route("/monitoring/prometheus/metrics", door.metrics, methods=["GET"]),
              Route(model + "/labels/{label:path}", door.label, methods=["GET", "POST"])]
    for path in (model, version):
        routes += [Route(path + ":predict", door.predict, methods=["POST"]),
                   Route(path + ":classify", door.unsupported, methods=["POST"]),
                   Route(path + ":regress", door.unsupported, methods=["POST"]),
                   Route(path + "/metadata", door.metadata, methods=["GET"])]
    routes += [Route(path, door.status, methods=["GET"]) for path in (version, model)]
    handlers: dict[Any, Any] = {RequestError: _refused, HTTPException: _unrouted, 500: _broken,
                                ClientDisconnect: _gone}
    return Watched(Starlette(routes=routes, exception_handlers=handlers), monitoring)


class _ModelName(StringConvertor):
    regex = "[^/:]+"


class Watched:
    """Counts and times the replies of an application."""

    def __init__(self, app: ASGIApp, monitoring: ServerMetrics) -> None:
        self._app = app
        self._monitoring = monitoring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        start = time.perf_counter()

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                seconds = time.perf_counter() - start
                self._monitoring.answered("rest", str(message["status"]), seconds)
                log.debug("%s %s %d %.1f ms", scope["method"], ascii(scope["path"]),
                          message["status"], 1000 * seconds)
            await send(message)

        await self._app(scope, receive, noting)


def _asked(request: Request) -> tuple[str, int | None]:
    version = request.path_params.get("version")
    if version is not None and version >= _INT64:
        raise invalid(f"Failed to convert version: {version} to numeric.")
    return request.path_params["name"], version


async def _unless_gone(request: Request, answering: Coroutine[Any, Any, Outputs]) -> Outputs:
    """An answer, given up when its client closes the connection."""
    answer = asyncio.ensure_future(answering)
    gone = asyncio.ensure_future(request.receive())  # after the body nothing else can come
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()


def _question(body: bytes, servable: Servable) -> tuple[rest_codec.PredictRequest,
                                                        rest_codec.Tensors]:
    question = rest_codec.parse(body)
    return question, rest_codec.tensors(question, servable.inputs(question.signature))


def _length(request: Request) -> int:
    length = request.headers.get("content-length", "0")
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else 0


def _too_large(most: int) -> RequestError:
    return RequestError(ErrorCode.TOO_LARGE, f"a body of more than {most} bytes (--max-body-bytes)")


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


async def _refused(_request: Request, error: RequestError) -> Response:
    # What is left of an unread body would be taken for the next request.
    close = error.reason in (ErrorCode.TOO_LARGE, ErrorCode.SLOW_BODY, ErrorCode.FULL)
    return JSONResponse({"error": str(error)}, error.reason.http,
                        {"connection": "close"} if close else None)


async def _unrouted(request: Request, error: HTTPException) -> Response:
    """Under `/v1/` what TensorFlow Serving cannot read is a bad request, not a missing page."""
    text, code = f"Malformed request: {request.method} {request.url.path}", error.status_code
    if code == 404 and request.url.path.startswith("/v1/"):
        code = 400
    if code == 405:
        text = f"{request.method} is not allowed for {request.url.path}"
    return JSONResponse({"error": text}, code, error.headers)


async def _broken(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"error": "internal error; the server's log has it"}, 500)


async def _gone(_request: Request, _error: ClientDisconnect) -> Response:
    return JSONResponse({"error": "the client has gone"}, 400)
