"""Versions that appear, disappear and break; slow connections; shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aocr.cli.main import main
from tests import contract, serving
from tests.serving import NAME, Client

serving.require_extra()

from aocr.errors import AocrError  # noqa: E402
from aocr.inference.saved_model import MAX_VERSION  # noqa: E402
from aocr.serving import http_protocol, responses, version_manager  # noqa: E402
from aocr.serving.config import Limits  # noqa: E402
from aocr.serving.errors import RequestError  # noqa: E402
from aocr.serving.metrics import ServerMetrics  # noqa: E402
from aocr.serving.version_manager import VersionManager  # noqa: E402

REQUEST = {"inputs": contract.b64(contract.images()[0])}


class FakeServable:
    """Stands in for a servable; directories with files `broken` or `large` cannot be loaded."""

    def __init__(self, path: str, version: int) -> None:
        if (Path(path) / "large").exists():
            raise MemoryError
        if (Path(path) / "broken").exists():
            raise AocrError(f"{path} is broken")
        self.version = version
        self.users = 0
        self.loaded = True

    def unload(self) -> None:
        """Records the call."""
        self.loaded = False


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(version_manager, "Servable", FakeServable)
    (tmp_path / "notes").mkdir()
    (tmp_path / "7.part").mkdir()
    return tmp_path


def run(base: Path, scenario: Callable[[VersionManager], Any]) -> Any:
    """Runs a scenario with a version manager that has started."""
    async def main() -> Any:
        versions = VersionManager(str(base), NAME, ServerMetrics())
        try:
            await versions.start()
            return await scenario(versions)
        finally:
            versions.close()

    return asyncio.run(main())


def states(versions: VersionManager) -> dict[int, str]:
    return {version: status.state for version, status in versions.statuses.items()}


def test_a_version_for_which_there_is_no_memory_does_not_replace_the_old_one(base: Path) -> None:
    (base / "1").mkdir()

    async def scenario(versions: VersionManager) -> None:
        (base / "2").mkdir()
        (base / "2" / "large").touch()
        assert await versions.poll()
        assert states(versions) == {2: "END", 1: "AVAILABLE"}

    run(base, scenario)


def test_the_newest_version_is_served_and_replaced_by_a_newer_one(base: Path) -> None:
    (base / "2").mkdir()
    (base / "10").mkdir()

    async def scenario(versions: VersionManager) -> None:
        assert states(versions) == {10: "AVAILABLE"}
        assert not await versions.poll()
        (base / "11").mkdir()
        assert await versions.poll()
        assert states(versions) == {11: "AVAILABLE", 10: "END"}
        with versions.lease(NAME, None) as servable, versions.lease(NAME, 11):
            assert servable.version == 11
        for name, version in ((NAME, 10), ("other", None)):
            with pytest.raises(RequestError, match="Servable not found"), versions.lease(
                    name, version):
                pass

    run(base, scenario)


def test_the_old_version_is_unloaded_after_its_last_request(base: Path) -> None:
    (base / "1").mkdir()

    async def scenario(versions: VersionManager) -> None:
        with versions.lease(NAME, None) as old:
            (base / "2").mkdir()
            switching = asyncio.create_task(versions.poll())
            while states(versions).get(1) != "UNLOADING":
                await asyncio.sleep(0.001)
            with versions.lease(NAME, None) as new:
                assert new.version == 2
            assert old.loaded  # type: ignore[attr-defined]
            assert not switching.done()
        await switching
        assert not old.loaded  # type: ignore[attr-defined]

    run(base, scenario)


def test_a_broken_version_does_not_replace_the_old_one_until_it_is_repaired(base: Path) -> None:
    (base / "1").mkdir()

    async def scenario(versions: VersionManager) -> None:
        (base / "2").mkdir()
        (base / "2" / "broken").write_text("")
        assert await versions.poll()
        assert not await versions.poll()  # the same files are not loaded again
        assert states(versions) == {2: "END", 1: "AVAILABLE"}
        assert "is broken" in versions.find_statuses(NAME, 2)[2].error
        (base / "2" / "broken").unlink()
        assert await versions.poll()
        assert states(versions) == {2: "AVAILABLE", 1: "END"}

    run(base, scenario)


def test_the_version_before_a_removed_one_is_served_and_the_last_one_is_kept(base: Path) -> None:
    (base / "1").mkdir()
    (base / "2").mkdir()

    async def scenario(versions: VersionManager) -> None:
        (base / "2").rmdir()
        assert await versions.poll()
        assert states(versions) == {2: "END", 1: "AVAILABLE"}
        (base / "1").rmdir()
        assert not await versions.poll()
        assert states(versions)[1] == "AVAILABLE"

    run(base, scenario)


def test_only_the_newest_ended_versions_are_listed(
        base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version_manager, "_MAX_ENDED", 2)
    (base / "1").mkdir()

    async def scenario(versions: VersionManager) -> None:
        for version in range(2, 7):
            (base / str(version)).mkdir()
            await versions.poll()
        assert list(versions.statuses) == [6, 5, 4]

    run(base, scenario)


def test_a_version_beyond_int64_is_ignored_with_one_warning(base: Path, logged: list[str]) -> None:
    too_large = MAX_VERSION + 1
    for version in (MAX_VERSION, too_large):
        (base / str(version)).mkdir()

    async def scenario(versions: VersionManager) -> None:
        assert not await versions.poll()
        assert states(versions) == {MAX_VERSION: "AVAILABLE"}
        assert f'"{MAX_VERSION}"' in responses.status_json(versions.statuses).decode()

    run(base, scenario)
    (line,) = [line for line in logged if str(too_large) in line]
    assert f"Ignoring {base / str(too_large)}" in line


@pytest.mark.parametrize(("change", "message"), [
    (lambda base: None, "no version in"),
    (lambda base: (base / str(MAX_VERSION + 1)).mkdir(), "no version in"),
    (lambda base: (base / "saved_model.pb").write_text(""), "is itself a SavedModel"),
    (lambda base: ((base / "1").mkdir(), (base / "1" / "broken").write_text("")), "is broken"),
    (lambda base: shutil.rmtree(base), "no directory"),
])
def test_a_directory_that_cannot_be_served_is_an_error(
        base: Path, change: Callable[[Path], object], message: str) -> None:
    async def scenario(_versions: VersionManager) -> None:
        raise AssertionError("it started")

    change(base)
    with pytest.raises(AocrError, match=message):
        run(base, scenario)


def test_the_command_reports_errors_in_one_line(tmp_path: Path,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    log = ["--log-path", str(tmp_path / "log")]
    (tmp_path / "base" / "1").mkdir(parents=True)
    (tmp_path / "base" / "1" / "saved_model.pb").write_bytes(b"damaged")
    used, free = serving.free_ports()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", used))
        listener.listen()
        for port, message in ((used, f"cannot listen on 127.0.0.1:{used}"),
                              (free, "no version in")):
            capsys.readouterr()
            assert main(["serve", str(tmp_path / "base"), "--port", "0", "--rest-api-port",
                         str(port), *log]) == 1
            last_line = capsys.readouterr().err.splitlines()[-1]
            assert message in last_line, last_line
            assert ("choose another address with --host or --rest-api-port" in last_line) == (
                port == used)


def test_ports_are_free_after_a_failed_start(tmp_path: Path) -> None:
    rest_port, grpc_port = serving.free_ports()
    for _ in range(2):
        assert main(["serve", str(tmp_path), "--port", str(grpc_port), "--rest-api-port",
                     str(rest_port), "--log-path", str(tmp_path / "log")]) == 1
        assert "no version in" in (tmp_path / "log").read_text().splitlines()[-1]


def test_missing_packages_are_reported_in_one_line(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
        ) -> None:
    monkeypatch.setattr("aocr.cli.serve._SERVE_PACKAGES", ("no_such_package",))
    assert main(["serve", "x", "--log-path", str(tmp_path / "log")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install '.[serve]'" in line


@pytest.fixture(scope="module")
def strict(exported: Path) -> Iterator[Client]:
    limits = Limits(request_seconds=0.5, max_connections=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_protocol, "_HEADER_SECONDS", 0.3)
        with serving.in_thread(exported, limits=limits) as client:
            yield client


def send_raw(client: Client, data: bytes) -> bytes:
    """Sends bytes and receives until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", client.rest), timeout=30) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(data)
        response = b""
        with contextlib.suppress(ConnectionResetError):
            while received := connection.recv(65536):
                response += received
        return response


def test_incomplete_slow_and_oversized_requests_are_refused(strict: Client) -> None:
    head = f"POST /v1/models/{NAME}:predict HTTP/1.1\r\nhost: x\r\n".encode()
    for data, code in ((b"", b"408"), (head, b"408"),
                       (head + b"content-length: 100\r\n\r\n{", b"408"),
                       (b"\0\1\2\r\n\r\n", b"400"),
                       (head + b"x: " + b"y" * 200_000, b"431"),
                       (head + b"x: y\r\n" * 40_000, b"431")):
        response = send_raw(strict, data)
        assert response.startswith(b"HTTP/1.1 " + code), (data[:80], response)
        assert list(json.loads(response.partition(b"\r\n\r\n")[2])) == ["error"]
    assert strict.request("GET", f"/v1/models/{NAME}")[0] == 200


def test_connections_beyond_the_limit_are_refused(strict: Client) -> None:
    with contextlib.ExitStack() as connections:
        for _ in range(20):
            connections.enter_context(socket.create_connection(("127.0.0.1", strict.rest)))
        assert send_raw(strict, b"").startswith((b"HTTP/1.1 503", b"HTTP/1.1 408"))
    serving.wait_until_available(strict)


@pytest.mark.slow
def test_version_changes_under_load_fail_no_request(exported: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(exported / "3", base / "1")
    codes: list[int] = []
    stop = threading.Event()

    def send_requests(client: Client) -> None:
        while not stop.is_set():
            codes.append(client.predict(REQUEST)[0])

    with (tmp_path / "stderr").open("w") as log, serving.in_process(
            base, log, "--poll-seconds", "0.05", "--log-path", str(tmp_path / "log")) as (
            client, _):
        threads = [threading.Thread(target=send_requests, args=(client,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for version in range(2, 12 if "AOCR_FULL" in os.environ else 6):
            shutil.copytree(exported / "3", tmp_path / "copy")
            (tmp_path / "copy").rename(base / str(version))
            _wait_for_version(client, version)
        stop.set()
        for thread in threads:
            thread.join()
    assert set(codes) == {200}
    assert len(codes) > 20


def _wait_for_version(client: Client, version: int) -> None:
    for _ in range(3000):
        code, response = client.request("GET", f"/v1/models/{NAME}/versions/{version}")
        if code == 200 and response["model_version_status"][0]["state"] == "AVAILABLE":
            return
        time.sleep(0.02)
    pytest.fail(f"version {version} was not loaded")


@pytest.mark.slow
def test_sigterm_completes_pending_requests_and_exits_with_0(exported: Path, tmp_path: Path
                                                             ) -> None:
    codes: list[int] = []
    many_images = {"instances": [REQUEST["inputs"]] * 100}
    with (tmp_path / "stderr").open("w") as log, serving.in_process(
            exported, log, "--log-level", "debug", "--log-path", str(tmp_path / "log")) as (
            client, process):
        sender = threading.Thread(target=lambda: codes.append(client.predict(many_images)[0]))
        sender.start()
        while "aocr_queue_images 0.0" in _metrics(client):
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        sender.join()
    assert codes == [200]
    logged = (tmp_path / "stderr").read_text()
    assert "Shutting down: pending requests are completed first." in logged
    assert f"POST '/v1/models/{NAME}:predict' 200" in logged
    assert "Traceback" not in logged


def _metrics(client: Client) -> str:
    url = f"http://127.0.0.1:{client.rest}/monitoring/prometheus/metrics"
    with urllib.request.urlopen(url) as response:
        return str(response.read(), "utf-8")
