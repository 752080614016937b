"""Servers for the tests, and a client."""

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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

import aocr

NAME = "aocr"
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Client:
    """A server's two ports, and requests to the REST one."""

    rest: int
    grpc: int

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str
            ) -> tuple[int, Any]:
        """One request on a connection of its own; the code and the parsed reply."""
        connection = http.client.HTTPConnection("127.0.0.1", self.rest, timeout=60)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def predict(self, document: object, where: str = "") -> tuple[int, Any]:
        """A question in JSON."""
        return self.ask("POST", f"/v1/models/{NAME}{where}:predict", json.dumps(document).encode())


def require_extra() -> None:
    """Skips the module where the packages of `aocr[serve]` are not installed."""
    for package in ("tensorflow_serving", "grpc", "uvicorn", "httptools", "starlette",
                    "prometheus_client"):
        pytest.importorskip(package, reason=f"{package} is missing: pip install 'aocr[serve]'")


def free_ports() -> tuple[int, int]:
    """Two ports that nobody listens on."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def wait_until_available(client: Client, process: subprocess.Popen[str] | None = None) -> None:
    """Waits until the model is there; a server that ends before is a failure."""
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        if process is not None and process.poll() is not None:
            pytest.fail(f"the server ended with {process.returncode} before it served")
        with contextlib.suppress(OSError, http.client.HTTPException):
            if client.ask("GET", f"/v1/models/{NAME}")[0] == 200:
                return
        time.sleep(0.05)
    pytest.fail("the server did not come up")


@contextlib.contextmanager
def in_thread(base: Path, **options: Any) -> Iterator[Client]:
    """A server in this process."""
    from aocr.serving import server
    from aocr.serving.config import ServerOptions

    client = Client(*free_ports())
    chosen = ServerOptions(NAME, port=client.grpc, rest_port=client.rest, **options)
    loop = asyncio.new_event_loop()
    stop: asyncio.Future[int] = loop.create_future()
    thread = threading.Thread(
        target=loop.run_until_complete, args=(server.run(str(base), chosen, stop),))
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
    """`aocr serve` in a process of its own, killed in the end if it still runs."""
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


def resident(process: int) -> int:
    """Resident size of a process in bytes."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
