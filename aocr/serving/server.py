"""Server lifecycle: REST and gRPC endpoints over one model, with graceful shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import uvicorn

from aocr.errors import AocrError
from aocr.runtime import filesystem
from aocr.runtime.console import log
from aocr.serving import grpc_service, http_protocol, rest_app
from aocr.serving.batching import Batcher
from aocr.serving.config import ServerOptions
from aocr.serving.metrics import ServerMetrics
from aocr.serving.service import PredictionService
from aocr.serving.version_manager import VersionManager

_KEEP_ALIVE_SECONDS = 30


def serve(base: str, options: ServerOptions) -> int:
    """Serves the newest version in a base directory until SIGTERM or SIGINT.

    Args:
        base: The directory of numbered versions.
        options: Options of the server.

    Returns:
        The number of the signal.

    Raises:
        AocrError: There is no version to serve, or a port is not available.
    """
    filesystem.refuse_pattern(base)
    for name in ("uvicorn.error", "asyncio", "grpc"):
        logging.getLogger(name).setLevel(logging.ERROR)
        logging.getLogger(name).handlers = log.handlers
    gc.freeze()  # the modules loaded so far stay: collections need not traverse them
    return asyncio.run(_run_until_signal(base, options))


async def run(base: str, options: ServerOptions, stop: asyncio.Future[int]) -> None:
    """Serves until a future is done; see `serve`."""
    metrics = ServerMetrics()
    versions = VersionManager(base, options.model_name, metrics)
    batcher = Batcher(options, metrics)
    service = PredictionService(versions, batcher, options.limits)
    endpoints: list[RestEndpoint | GrpcEndpoint] = []
    try:
        # Before the model is loaded, so that an unavailable port is reported at once.
        if options.rest_port:
            endpoints.append(RestEndpoint(service, metrics, options))
        if options.grpc_port:
            endpoints.append(GrpcEndpoint(service, metrics, options))
        await versions.start()
        await asyncio.gather(*(endpoint.open() for endpoint in endpoints))
        log.info(f"Serving {options.model_name}: "
                 + ", ".join(endpoint.name for endpoint in endpoints))
        watching = asyncio.create_task(versions.watch(options.poll_seconds))
        watching.add_done_callback(_log_watch_failure)
        try:
            await _wait_until_stopped(stop, endpoints)
        finally:
            watching.cancel()
        log.info("Shutting down: pending requests are completed first.")
    finally:
        await asyncio.gather(*(endpoint.close() for endpoint in endpoints))
        await batcher.close()
        versions.close()


class RestEndpoint:
    """The REST endpoint. It listens at once; connections wait until `open` accepts them.

    Args:
        service: Runs predictions.
        metrics: Receives each request.
        options: Options of the server.

    Attributes:
        name: Protocol and address, for the log.

    Raises:
        AocrError: The port is not available.
    """

    def __init__(self, service: PredictionService, metrics: ServerMetrics,
                 options: ServerOptions) -> None:
        self._socket = _listen(options.host, options.rest_port, "--rest-api-port")
        self.name = f"REST on http://{_url_host(options.host)}:{options.rest_port}"
        self._server = _Uvicorn(uvicorn.Config(
            rest_app.make_app(service, metrics, options),
            http=http_protocol.make_protocol(options.limits.max_connections),
            ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(options.limits.request_seconds) + 1))
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Starts to accept requests.

        Raises:
            AocrError: The HTTP server ends instead of starting.
        """
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started and not self._task.done():
            await asyncio.sleep(0.01)
        if not self._server.started:
            ended, self._task = self._task, None
            raise AocrError(f"cannot start {self.name}: {ended.exception()}; choose another "
                            "address with --host or --rest-api-port") from ended.exception()

    async def close(self) -> None:
        """Stops accepting requests and returns when all pending ones have a response."""
        self._server.should_exit = True
        if self._task is None:
            self._socket.close()
        else:
            await asyncio.wait([self._task])

    def running(self) -> asyncio.Task[None]:
        """Returns the task of the server, which has been opened."""
        assert self._task is not None
        return self._task


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Does not capture signals: `_signal_future` does, for both endpoints."""
        yield


class GrpcEndpoint:
    """The gRPC endpoint. It checks its port at once and accepts calls after `open`.

    Args:
        service: Runs predictions.
        metrics: Receives each call.
        options: Options of the server.

    Attributes:
        name: Protocol and address, for the log.

    Raises:
        AocrError: The port is not available.
    """

    def __init__(self, service: PredictionService, metrics: ServerMetrics,
                 options: ServerOptions) -> None:
        handlers = grpc_service.GrpcHandlers(service, metrics)
        self._server = grpc_service.make_server(handlers, metrics, options)
        self._grace_seconds = options.limits.request_seconds + 1
        self._address = f"{_url_host(options.host)}:{options.grpc_port}"
        self.name = f"gRPC on {self._address}"
        _listen(options.host, options.grpc_port, "--port").close()  # a better error than gRPC's

    async def open(self) -> None:
        """Starts to accept calls.

        Raises:
            AocrError: The port is not available any more.
        """
        # Not before: gRPC frees the port only of a server that has started.
        try:
            self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise AocrError(f"cannot listen on {self._address}: {error}") from error
        await self._server.start()

    async def close(self) -> None:
        """Stops accepting calls and returns when all pending ones have a response."""
        await self._server.stop(self._grace_seconds)


async def _wait_until_stopped(stop: asyncio.Future[int],
                              endpoints: Sequence[RestEndpoint | GrpcEndpoint]) -> None:
    """Waits for `stop`.

    Raises:
        AocrError: The REST server ends before.
    """
    for endpoint in endpoints:
        if isinstance(endpoint, RestEndpoint):
            server = endpoint.running()
            ends: list[asyncio.Future[Any]] = [stop, server]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not stop.done():
                problem = server.exception() or "its server has stopped"
                raise AocrError(f"{endpoint.name} has ended unexpectedly: {problem}")
    await stop


async def _run_until_signal(base: str, options: ServerOptions) -> int:
    stop = _signal_future()
    await run(base, options, stop)
    return stop.result()


def _log_watch_failure(watching: asyncio.Task[None]) -> None:
    """Logs an unexpected error; the version that is loaded continues to be served."""
    if not watching.cancelled() and watching.exception() is not None:
        log.error("New versions will not be loaded any more.", exc_info=watching.exception())


def _signal_future() -> asyncio.Future[int]:
    """Returns a future that receives the number of the first SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    received: asyncio.Future[int] = loop.create_future()

    def on_signal(number: int) -> None:
        if not received.done():
            received.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return received


def _url_host(host: str) -> str:
    """Returns a host in the form that precedes a port: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def _listen(host: str, port: int, port_flag: str) -> socket.socket:
    """Returns a socket that listens on an address, so that no other server can use it.

    Raises:
        AocrError: The address is not available; the message names `port_flag`.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # With SO_REUSEADDR several sockets may be bound to an address, but only one can listen.
        listener.listen()
    except (OSError, UnicodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "not a valid host name"
        raise AocrError(f"cannot listen on {host}:{port} ({problem}); choose another "
                        f"address with --host or {port_flag}") from error
    return listener
