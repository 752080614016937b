"""Ports that are in use, and options that a server cannot run with."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any, cast

import pytest

from aocr.cli.main import main
from tests import serving

serving.require_extra()

from aocr.errors import AocrError  # noqa: E402
from aocr.serving import grpc_service, server, version_manager  # noqa: E402
from aocr.serving.batching import Batcher  # noqa: E402
from aocr.serving.config import Limits, ServerOptions  # noqa: E402
from aocr.serving.metrics import ServerMetrics  # noqa: E402
from aocr.serving.service import PredictionService  # noqa: E402
from aocr.serving.version_manager import VersionManager  # noqa: E402


@pytest.mark.parametrize("flag", ["--port", "--rest-api-port"])
def test_a_port_on_which_no_request_is_accepted_yet_is_not_available(flag: str) -> None:
    port, _ = serving.free_ports()
    with server._listen("127.0.0.1", port, flag), pytest.raises(AocrError) as raised:
        server._listen("127.0.0.1", port, flag)
    assert f"cannot listen on 127.0.0.1:{port}" in str(raised.value)
    assert flag in str(raised.value)


def test_an_http_server_that_ends_at_the_start_is_an_error(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port, _ = serving.free_ports()

    async def fail(*_: object, **__: object) -> None:
        raise OSError("the address is in use")

    async def start() -> None:
        options, metrics = ServerOptions(rest_port=port), ServerMetrics()
        versions, batcher = VersionManager(str(tmp_path), "", metrics), Batcher(options, metrics)
        service = PredictionService(versions, batcher, options.limits)
        endpoint = server.RestEndpoint(service, metrics, options)
        monkeypatch.setattr(endpoint._server, "startup", fail)
        try:
            with pytest.raises(AocrError, match="the address is in use; choose another"):
                await endpoint.open()
        finally:
            await endpoint.close()
            await batcher.close()
            versions.close()

    asyncio.run(start())
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))


def test_a_server_whose_http_server_ends_ends_with_an_error(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port, _ = serving.free_ports()
    running: list[server.RestEndpoint] = []

    async def open_and_end(endpoint: server.RestEndpoint) -> None:
        async def end() -> None:
            raise OSError("the main loop has failed")

        endpoint._task = asyncio.create_task(end())
        running.append(endpoint)

    async def start() -> None:
        stop: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        await server.run(str(tmp_path), ServerOptions(rest_port=port, grpc_port=0), stop)

    async def do_nothing(_: VersionManager) -> None:
        return

    monkeypatch.setattr(server.RestEndpoint, "open", open_and_end)
    monkeypatch.setattr(VersionManager, "start", do_nothing)
    with pytest.raises(AocrError, match="has ended unexpectedly: the main loop has failed"):
        asyncio.run(start())
    assert running


def test_a_file_that_vanishes_while_a_version_is_examined_is_no_error(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files: list[Any] = [(str(tmp_path), [], ["vanished"])]
    monkeypatch.setattr("aocr.serving.version_manager.tf.io.gfile.walk", lambda _: files)
    assert version_manager._fingerprint(str(tmp_path)) == ()


def test_a_body_limit_beyond_that_of_a_grpc_message_names_the_flag(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tmp_path), "--max-body-bytes", str(1 << 31),
                 "--log-path", str(tmp_path / "log")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--max-body-bytes {1 << 31}" in line
    assert f"expected at most {2047 << 20}" in line


def test_a_grpc_server_accepts_the_largest_body_limit() -> None:
    async def make() -> None:
        limits = Limits(max_body_bytes=2047 << 20)
        metrics, service = ServerMetrics(), cast("PredictionService", None)
        handlers = grpc_service.GrpcHandlers(service, metrics)
        await grpc_service.make_server(handlers, metrics, ServerOptions(limits=limits)).stop(None)

    asyncio.run(make())
