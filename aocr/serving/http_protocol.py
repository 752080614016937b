"""HTTP connections that cannot be held open, or filled up, for nothing."""

from __future__ import annotations

import asyncio
import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD_SECONDS = 10.0
_HEAD_BYTES = 64 * 1024
_FRAMING = 8  # bytes that one byte of the body may come with, itself among them
_REPLY = ("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n"
          "connection: close\r\n\r\n{body}")


class GuardedProtocol(HttpToolsProtocol):
    """Uvicorn's protocol with a limit of connections, and of the time and size of a head."""

    max_connections = 512

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes a connection, or refuses it where too many are open."""
        super().connection_made(transport)
        self._head_end: asyncio.TimerHandle | None = None
        self._overhead = 0  # bytes of the message that are not its body
        if len(self.connections) > self.max_connections:
            self._refuse("503 Service Unavailable", "too many open connections; try again")
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._head_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes bytes of a request, as long as its head does not grow without end."""
        if self.transport.is_closing():
            return
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead > _HEAD_BYTES and not self.transport.is_closing():
            self._refuse("431 Request Header Fields Too Large",
                         "the headers, or the framing of the body's chunks, are too large")

    def on_message_begin(self) -> None:
        """Starts a request."""
        self._await_head()
        self._overhead = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Hands a request with a complete head to the application."""
        self._head_is_here()
        self._overhead = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Takes a piece of the body."""
        # A body in chunks pays for their framing, of small ones too.
        self._overhead = max(0, self._overhead - _FRAMING * len(body))
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no HTTP."""
        self._refuse("400 Bad Request", msg)

    def _await_head(self) -> None:
        if self._head_end is None:
            self._head_end = self.loop.call_later(_HEAD_SECONDS, self._too_slow)

    def _head_is_here(self) -> None:
        if self._head_end is not None:
            self._head_end.cancel()
            self._head_end = None

    def _too_slow(self) -> None:
        self._head_end = None
        self._refuse("408 Request Timeout", f"no request within {_HEAD_SECONDS:g} seconds")

    def _refuse(self, status: str, text: str) -> None:
        body = json.dumps({"error": text})
        self.transport.write(_REPLY.format(status=status, length=len(body), body=body).encode())
        self.transport.close()


def protocol(max_connections: int) -> type[GuardedProtocol]:
    """The protocol with a limit of open connections."""
    return type("Protocol", (GuardedProtocol,), {"max_connections": max_connections})
