"""HTTP/1.1 protocol with limits on connections and on the size and time of request headers."""

from __future__ import annotations

import asyncio
import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEADER_SECONDS = 10.0
_MAX_HEADER_BYTES = 64 * 1024
# Bytes that may be received for one byte of a chunked body, that byte included.
_MAX_CHUNK_OVERHEAD = 8
_RESPONSE = ("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n"
             "connection: close\r\n\r\n{body}")


class LimitedHttpProtocol(HttpToolsProtocol):
    """Uvicorn's protocol with limits that prevent idle and endless requests from accumulating."""

    max_connections = 512

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accepts a connection, or refuses it if too many are open."""
        super().connection_made(transport)
        self._header_timer: asyncio.TimerHandle | None = None
        self._overhead = 0  # bytes received for this message that are not its body
        if len(self.connections) > self.max_connections:
            self._refuse("503 Service Unavailable", "too many open connections; try again")
            return
        self._start_header_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cleans up after a closed connection."""
        self._stop_header_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses received bytes; refuses the request if its headers are too large."""
        if self.transport.is_closing():
            return
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead > _MAX_HEADER_BYTES and not self.transport.is_closing():
            self._refuse("431 Request Header Fields Too Large",
                         "the headers, or the chunk framing of the body, are too large")

    def on_message_begin(self) -> None:
        """Starts a request."""
        self._start_header_timer()
        self._overhead = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Hands a request with complete headers to the application."""
        self._stop_header_timer()
        self._overhead = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Receives a part of the body."""
        # Chunks carry framing, which is large relative to the data if they are small.
        self._overhead = max(0, self._overhead - _MAX_CHUNK_OVERHEAD * len(body))
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Refuses bytes that are not HTTP."""
        self._refuse("400 Bad Request", msg)

    def _start_header_timer(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(_HEADER_SECONDS, self._on_header_timeout)

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _on_header_timeout(self) -> None:
        self._header_timer = None
        self._refuse("408 Request Timeout", f"no request within {_HEADER_SECONDS:g} seconds")

    def _refuse(self, status: str, message: str) -> None:
        body = json.dumps({"error": message})
        response = _RESPONSE.format(status=status, length=len(body), body=body)
        self.transport.write(response.encode())
        self.transport.close()


def make_protocol(max_connections: int) -> type[LimitedHttpProtocol]:
    """Returns the protocol class with a limit on open connections."""
    return type("Protocol", (LimitedHttpProtocol,), {"max_connections": max_connections})
