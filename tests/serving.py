"""Runs servers for the tests, and sends requests to them."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

import aocr

NAME = "aocr"
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Client:
    """Sends requests to the REST endpoint of a server on this machine.

    Attributes:
        rest: Port of the REST endpoint.
        grpc: Port of the gRPC endpoint.
    """

    rest: int
    grpc: int

    @property
    def url(self) -> str:
        """Address of the REST endpoint."""
        return f"http://127.0.0.1:{self.rest}/"

    def request(self, method: str, path: str, body: bytes | None = None,
                headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """Sends one request on a new connection; returns status code and parsed JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.rest, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def predict(self, document: object, path: str = "") -> tuple[int, Any]:
        """Sends a prediction request; `path` follows the model name."""
        return self.request("POST", f"/v1/models/{NAME}{path}:predict",
                            json.dumps(document).encode())


class Model:
    """Stands in for a servable, whose only output is its first input, and for its manager.

    Args:
        dtypes: Type of each input of every signature.
        error: Raised by each call.

    Attributes:
        version: Its number.
        max_width: Largest width of preprocessed images.
        released: Calls wait until this event is set; it is set at first.
    """

    version = 1
    max_width: int | None = None

    def __init__(self, dtypes: Mapping[str, np.dtype[Any]], error: Exception | None = None
                 ) -> None:
        self.released = threading.Event()
        self.released.set()
        self._dtypes = dtypes
        self._error = error

    def inputs(self, _signature: str) -> Mapping[str, np.dtype[Any]]:
        """Returns the types of the inputs."""
        return self._dtypes

    def outputs(self, _signature: str) -> list[str]:
        """Returns the name of the output."""
        return ["output"]

    def run(self, _signature: str, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Returns the first input, or raises the error."""
        self.released.wait()
        if self._error is not None:
            raise self._error
        return {"output": next(iter(inputs.values()))}

    @contextlib.contextmanager
    def lease(self, *_: object) -> Iterator[Model]:
        """Yields the model, whatever its requested name and version are."""
        yield self


def require_extra() -> None:
    """Skips the module if the packages of `aocr[serve]` are not installed."""
    for package in ("tensorflow_serving", "grpc", "uvicorn", "httptools", "starlette",
                    "prometheus_client"):
        pytest.importorskip(package, reason=f"{package} is missing: pip install 'aocr[serve]'")


def free_ports() -> tuple[int, int]:
    """Returns two ports that are not in use."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def wait_until_available(client: Client, process: subprocess.Popen[str] | None = None) -> None:
    """Waits until the model is served; fails if the process of the server exits before."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            pytest.fail(f"the server exited with {process.returncode} before it was available")
        with contextlib.suppress(OSError, http.client.HTTPException):
            if client.request("GET", f"/v1/models/{NAME}")[0] == 200:
                return
        time.sleep(0.05)
    pytest.fail("the server did not become available")


@contextlib.contextmanager
def in_thread(base: Path, **options: Any) -> Iterator[Client]:
    """Runs a server in a thread of this process.

    Args:
        base: The directory of numbered versions.
        options: Fields of `ServerOptions`.
    """
    from aocr.serving import server
    from aocr.serving.config import ServerOptions

    client = Client(*free_ports())
    ports = {"grpc_port": client.grpc, "rest_port": client.rest}
    server_options = ServerOptions(NAME, **{**ports, **options})
    loop = asyncio.new_event_loop()
    stop: asyncio.Future[int] = loop.create_future()
    thread = threading.Thread(
        target=loop.run_until_complete, args=(server.run(str(base), server_options, stop),))
    thread.start()
    try:
        wait_until_available(client)
        yield client
    finally:
        loop.call_soon_threadsafe(stop.set_result, 0)
        thread.join()
        loop.close()


@contextlib.contextmanager
def in_process(base: Path, log: IO[str], *flags: str
               ) -> Iterator[tuple[Client, subprocess.Popen[str]]]:
    """Runs `aocr serve` in a process, which is killed at the end if it is still running.

    Args:
        base: The directory of numbered versions.
        log: Receives the standard error of the process.
        flags: Further flags.
    """
    client = Client(*free_ports())
    command = [sys.executable, "-m", "aocr", "serve", str(base), "--model-name", NAME, "--port",
               str(client.grpc), "--rest-api-port", str(client.rest), *flags]
    environment = {**os.environ, "PYTHONPATH": str(Path(aocr.__file__).parents[1])}
    process = subprocess.Popen(command, cwd=base, env=environment, stderr=log, text=True)
    try:
        wait_until_available(client, process)
        yield client, process
    finally:
        process.kill()
        process.wait()


def resident_bytes(process: int) -> int:
    """Returns the resident memory of a process in bytes."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
