"""The whole server: both doors, one model, and an end that lets nobody down."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Iterator

import uvicorn

from aocr.errors import AocrError
from aocr.runtime.console import log
from aocr.serving import grpc_service, http_protocol, rest_app
from aocr.serving.batching import Batcher
from aocr.serving.config import ServerOptions
from aocr.serving.metrics import ServerMetrics
from aocr.serving.service import PredictionService
from aocr.serving.version_manager import VersionManager

_KEEP_ALIVE_SECONDS = 30


def serve(base: str, options: ServerOptions) -> int:
    """Serves the newest version under a base path until a signal comes.

    Args:
        base: The folder of numbered versions.
        options: Where and how.

    Returns:
        The signal: SIGTERM or SIGINT.

    Raises:
        AocrError: There is no version to serve, or a port is taken.
    """
    for name in ("uvicorn.error", "asyncio", "grpc"):
        logging.getLogger(name).setLevel(logging.ERROR)
        logging.getLogger(name).handlers = log.handlers
    gc.freeze()  # what is there by now stays: no collection need look at it again
    return asyncio.run(_until_signal(base, options))


async def run(base: str, options: ServerOptions, stop: asyncio.Future[int]) -> None:
    """Serves until a future is done; see `serve`."""
    monitoring = ServerMetrics()
    versions = VersionManager(base, options.model_name, monitoring)
    batcher = Batcher(options, monitoring)
    desk = PredictionService(versions, batcher, options.limits)
    try:
        # Before the model is loaded: a port that is taken should be told at once.
        doors = [door(desk, monitoring, options)
                 for door, port in ((RestDoor, options.rest_port), (GrpcDoor, options.port))
                 if port]
        await versions.start()
        await asyncio.gather(*(door.open() for door in doors))
        log.info(f"Serving {options.model_name}: " + ", ".join(door.name for door in doors))
        watching = asyncio.create_task(versions.watch(options.poll_seconds))
        watching.add_done_callback(_tell_fault)
        await stop
        log.info("Ending: what has come is answered first.")
        watching.cancel()
        await asyncio.gather(*(door.close() for door in doors))
    finally:
        await batcher.close()
        versions.close()


class RestDoor:
    """REST, bound to its port from the start and open from `open` on.

    Raises:
        AocrError: The port cannot be had.
    """

    def __init__(self, desk: PredictionService, monitoring: ServerMetrics,
                 options: ServerOptions) -> None:
        self._socket = _bound(options.host, options.rest_port)
        self.name = f"REST on http://{_bracketed(options.host)}:{options.rest_port}"
        self._server = _Uvicorn(uvicorn.Config(
            rest_app.make(desk,
                          monitoring), http=http_protocol.protocol(options.limits.max_connections),
            ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(options.limits.seconds) + 1))

    async def open(self) -> None:
        """Takes requests from now on."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started and not self._task.done():
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """Takes no more requests, and ends when all are answered."""
        self._server.should_exit = True
        await self._task


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals to `_signals`, which closes both doors."""
        yield


class GrpcDoor:
    """gRPC, bound to its port from the start and open from `open` on.

    Raises:
        AocrError: The port cannot be had.
    """

    def __init__(self, desk: PredictionService, monitoring: ServerMetrics,
                 options: ServerOptions) -> None:
        self._server = grpc_service.make(grpc_service.Rpc(desk, monitoring), options)
        self._seconds = options.limits.seconds + 1
        host = _bracketed(options.host)
        self.name = f"gRPC on {host}:{options.port}"
        _bound(options.host, options.port).close()  # whose error tells more than gRPC's
        try:
            self._server.add_insecure_port(f"{host}:{options.port}")
        except RuntimeError as error:
            raise AocrError(f"cannot listen on {host}:{options.port}: {error}") from error

    async def open(self) -> None:
        """Takes calls from now on."""
        await self._server.start()

    async def close(self) -> None:
        """Takes no more calls, and ends when all are answered."""
        await self._server.stop(self._seconds)


async def _until_signal(base: str, options: ServerOptions) -> int:
    stop = _signals()
    await run(base, options, stop)
    return stop.result()


def _tell_fault(watching: asyncio.Task[None]) -> None:
    """What is served goes on being served when the look for versions has failed."""
    if not watching.cancelled() and watching.exception() is not None:
        log.error("No more versions will be picked up.", exc_info=watching.exception())


def _signals() -> asyncio.Future[int]:
    """Done with the number of the first SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    came: asyncio.Future[int] = loop.create_future()

    def note(number: int) -> None:
        if not came.done():
            came.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, note, number)
    return came


def _bracketed(host: str) -> str:
    """A host as it stands before a port."""
    return f"[{host}]" if ":" in host else host


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        door = socket.socket(family, kind, protocol)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(address)
    except (OSError, UnicodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "not the name of a host"
        raise AocrError(f"cannot listen on {host}:{port} ({problem}); --host, --port and "
                        "--rest-api-port choose another address") from error
    return door
