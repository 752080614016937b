"""Receives and parses request bodies of the REST endpoint within their limits."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from aocr.serving import rest_codec
from aocr.serving.config import MEBIBYTE, Limits
from aocr.serving.errors import ErrorCode, RequestError, invalid
from aocr.serving.servable import Servable

_LARGE_BODY = 256 * 1024  # bytes; larger bodies are parsed in a thread to not delay others
_BUDGET_BODIES = 8  # bodies of the largest allowed size that may be in memory together
_MAX_DISCARDED = 256 * MEBIBYTE  # bytes that are still received of a body that is too large


class BodyReader:
    """Reads request bodies; those being received share a budget of bytes.

    Args:
        limits: Limits on requests.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._free_bytes = _BUDGET_BODIES * limits.max_body_bytes
        self._parsing = asyncio.Semaphore(1)

    async def read(self, request: Request, servable: Servable
                   ) -> tuple[rest_codec.PredictRequest, rest_codec.Tensors]:
        """Returns the parsed body of a prediction request and its input tensors.

        Raises:
            RequestError: The body is too large, too slow, malformed, or beyond the budget.
        """
        if request.headers.get("content-encoding", "identity") != "identity":
            raise invalid("a compressed body is not supported; send it uncompressed")
        body = bytearray()
        try:
            await asyncio.wait_for(self._receive(request, body), self._limits.request_seconds)
            if len(body) < _LARGE_BODY:
                return _parse(bytes(body), servable)
            async with self._parsing:
                return await asyncio.to_thread(_parse, bytes(body), servable)
        except asyncio.TimeoutError as error:
            raise RequestError(ErrorCode.BODY_TIMEOUT, "the body was not received within "
                               f"{self._limits.request_seconds:g} seconds") from error
        finally:
            self._free_bytes += len(body)

    async def _receive(self, request: Request, body: bytearray) -> None:
        """Appends the body of a request to `body`."""
        max_bytes = self._limits.max_body_bytes
        too_large = _content_length(request) > max_bytes
        if too_large and request.headers.get("expect", "").lower() == "100-continue":
            raise _too_large(max_bytes)
        # A client that is still sending would not see a response: discard the body for a while.
        discardable = _MAX_DISCARDED
        async for chunk in request.stream():
            too_large = too_large or len(body) + len(chunk) > max_bytes
            if too_large:
                discardable -= len(chunk)
            elif len(chunk) > self._free_bytes:
                raise RequestError(ErrorCode.OVERLOADED,
                                   "too many large requests at a time; try again")
            else:
                self._free_bytes -= len(chunk)
                body += chunk
            if discardable < 0:
                break
        if too_large:
            raise _too_large(max_bytes)


def _parse(body: bytes, servable: Servable) -> tuple[rest_codec.PredictRequest,
                                                     rest_codec.Tensors]:
    request = rest_codec.parse(body)
    return request, rest_codec.tensors(request, servable.inputs(request.signature))


def _content_length(request: Request) -> int:
    """Returns the declared length of the body; 0 if it is missing or malformed."""
    length = request.headers.get("content-length", "0")
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else 0


def _too_large(max_bytes: int) -> RequestError:
    return RequestError(ErrorCode.TOO_LARGE,
                        f"the body has more than {max_bytes} bytes (--max-body-bytes)")
