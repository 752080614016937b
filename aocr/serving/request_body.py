"""Receives and parses request bodies of the REST endpoint within their limits."""

from __future__ import annotations

import asyncio
import zlib

from starlette.requests import Request

from aocr.config import shown
from aocr.serving import rest_codec
from aocr.serving.budget import ByteBudget
from aocr.serving.config import MEBIBYTE, Limits
from aocr.serving.errors import ErrorCode, RequestError, invalid
from aocr.serving.servable import Servable

_LARGE_BODY = 256 * 1024  # bytes; larger bodies are parsed in a thread to not delay others
_MAX_DISCARDED = 256 * MEBIBYTE  # bytes that are still received of a body that is too large
_GZIP_WINDOW = 16 + zlib.MAX_WBITS

ParsedBody = tuple[str, str, rest_codec.Tensors]  # signature, form, inputs


class BodyReader:
    """Reads request bodies.

    Args:
        limits: Limits on requests.
        budget: Each body takes its bytes until it has been parsed.
    """

    def __init__(self, limits: Limits, budget: ByteBudget) -> None:
        self._limits = limits
        self._budget = budget
        self._parsing = asyncio.Semaphore(1)

    async def read(self, request: Request, servable: Servable) -> ParsedBody:
        """Returns signature and form of a prediction request, and its input tensors.

        Raises:
            RequestError: The body is too large, too slow, malformed, or beyond the budget.
        """
        compressed = _is_gzip(request)
        parse = self._parse_gzip if compressed else _parse
        body = bytearray()
        try:
            await asyncio.wait_for(self._receive(request, body), self._limits.request_seconds)
            if not compressed and len(body) < _LARGE_BODY:
                return parse(bytes(body), servable)
            async with self._parsing:  # one at a time, so that decompressed bodies need no budget
                return await asyncio.to_thread(parse, bytes(body), servable)
        except asyncio.TimeoutError as error:
            raise RequestError(ErrorCode.BODY_TIMEOUT, "the body was not received within "
                               f"{self._limits.request_seconds:g} seconds") from error
        finally:
            self._budget.give_back(len(body))

    def _parse_gzip(self, body: bytes, servable: Servable) -> ParsedBody:
        return _parse(decompress(body, self._limits.max_body_bytes), servable)

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
            else:
                self._budget.take(len(chunk))
                body += chunk
            if discardable < 0:
                break
        if too_large:
            raise _too_large(max_bytes)


def decompress(body: bytes, max_bytes: int) -> bytes:
    """Decompresses a gzip body, no further than to a maximum size.

    Args:
        body: A gzip file of one member.
        max_bytes: Largest allowed size of the result.

    Raises:
        RequestError: The body is damaged, or its content is too large.
    """
    decompressor = zlib.decompressobj(_GZIP_WINDOW)
    try:
        content = decompressor.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise invalid(f"the body is not valid gzip: {error}") from error
    if len(content) > max_bytes:
        raise _too_large(max_bytes)
    if not decompressor.eof or decompressor.unused_data:
        raise invalid("the body is not valid gzip: "
                      + ("data after its end" if decompressor.eof else "it is incomplete"))
    return content


def _is_gzip(request: Request) -> bool:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise invalid(f"Content-Encoding {shown(encoding)} is not supported: expected gzip or "
                      "an uncompressed body")
    return encoding != "identity"


def _parse(body: bytes, servable: Servable) -> ParsedBody:
    request = rest_codec.parse(body)
    inputs = rest_codec.tensors(request, servable.inputs(request.signature))
    return request.signature, request.form, inputs


def _content_length(request: Request) -> int:
    """Returns the declared length of the body; 0 if it is missing or malformed."""
    length = request.headers.get("content-length", "0")
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else 0


def _too_large(max_bytes: int) -> RequestError:
    return RequestError(ErrorCode.TOO_LARGE,
                        f"the body has more than {max_bytes} bytes (--max-body-bytes)")
