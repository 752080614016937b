"""Versions that come, go and break; connections that waste time; the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
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
from aocr.serving import http_protocol, version_manager  # noqa: E402
from aocr.serving.config import Limits  # noqa: E402
from aocr.serving.errors import RequestError  # noqa: E402
from aocr.serving.metrics import ServerMetrics  # noqa: E402

QUESTION = {"inputs": contract.b64(contract.images()[0])}


class Stub:
    """Stands for a servable; a folder with a file `broken` cannot be loaded."""

    def __init__(self, folder: str, version: int) -> None:
        if (Path(folder) / "broken").exists():
            raise AocrError(f"{folder} is broken")
        self.version = version
        self.users = 0
        self.loaded = True

    def unload(self) -> None:
        """Notes that it was called."""
        self.loaded = False


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(version_manager, "Servable", Stub)
    (tmp_path / "notes").mkdir()
    (tmp_path / "7.part").mkdir()
    return tmp_path


def watched(base: Path, story: Callable[[version_manager.VersionManager], Any]) -> Any:
    """Runs a story with versions that have started."""
    async def whole() -> Any:
        watch = version_manager.VersionManager(str(base), NAME, ServerMetrics())
        try:
            await watch.start()
            return await story(watch)
        finally:
            watch.close()

    return asyncio.run(whole())


def states(watch: version_manager.VersionManager) -> dict[int, str]:
    return {number: status.state for number, status in watch.statuses.items()}


def test_the_newest_is_served_and_a_newer_one_takes_its_place(base: Path) -> None:
    (base / "2").mkdir()
    (base / "10").mkdir()

    async def story(watch: version_manager.VersionManager) -> None:
        assert states(watch) == {10: "AVAILABLE"}
        assert not await watch.look()
        (base / "11").mkdir()
        assert await watch.look()
        assert states(watch) == {11: "AVAILABLE", 10: "END"}
        with watch.lease(NAME, None) as servable, watch.lease(NAME, 11):
            assert servable.version == 11
        for name, version in ((NAME, 10), ("other", None)):
            with pytest.raises(RequestError, match="Servable not found"), watch.lease(
                    name, version):
                pass

    watched(base, story)


def test_the_old_one_is_unloaded_only_when_its_requests_are_answered(base: Path) -> None:
    (base / "1").mkdir()

    async def story(watch: version_manager.VersionManager) -> None:
        with watch.lease(NAME, None) as old:
            (base / "2").mkdir()
            switching = asyncio.create_task(watch.look())
            while states(watch).get(1) != "UNLOADING":
                await asyncio.sleep(0.001)
            with watch.lease(NAME, None) as new:
                assert new.version == 2
            assert old.loaded  # type: ignore[attr-defined]
            assert not switching.done()
        await switching
        assert not old.loaded  # type: ignore[attr-defined]

    watched(base, story)


def test_a_broken_version_leaves_the_old_one_until_it_is_mended(base: Path) -> None:
    (base / "1").mkdir()

    async def story(watch: version_manager.VersionManager) -> None:
        (base / "2").mkdir()
        (base / "2" / "broken").write_text("")
        assert await watch.look()
        assert not await watch.look()  # the same files are not tried again
        assert states(watch) == {2: "END", 1: "AVAILABLE"}
        assert "is broken" in watch.told(NAME, 2)[2].error
        (base / "2" / "broken").unlink()
        assert await watch.look()
        assert states(watch) == {2: "AVAILABLE", 1: "END"}

    watched(base, story)


def test_without_the_newest_the_one_before_it_is_served_and_never_nothing(base: Path) -> None:
    (base / "1").mkdir()
    (base / "2").mkdir()

    async def story(watch: version_manager.VersionManager) -> None:
        (base / "2").rmdir()
        assert await watch.look()
        assert states(watch) == {2: "END", 1: "AVAILABLE"}
        (base / "1").rmdir()
        assert not await watch.look()
        assert states(watch)[1] == "AVAILABLE"

    watched(base, story)


def test_only_the_last_of_the_ended_are_remembered(
        base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version_manager, "_REMEMBERED", 2)
    (base / "1").mkdir()

    async def story(watch: version_manager.VersionManager) -> None:
        for number in range(2, 7):
            (base / str(number)).mkdir()
            await watch.look()
        assert list(watch.statuses) == [6, 5, 4]

    watched(base, story)


@pytest.mark.parametrize(("make", "said"), [
    (lambda base: None, "no version in"),
    (lambda base: (base / "saved_model.pb").write_text(""), "is itself a SavedModel"),
    (lambda base: ((base / "1").mkdir(), (base / "1" / "broken").write_text("")), "is broken"),
    (lambda base: shutil.rmtree(base), "no folder"),
])
def test_what_cannot_be_served_is_told(base: Path, make: Callable[[Path], object], said: str
                                       ) -> None:
    async def story(_watch: version_manager.VersionManager) -> None:
        raise AssertionError("it started")

    make(base)
    with pytest.raises(AocrError, match=said):
        watched(base, story)


def test_the_command_tells_mistakes_in_one_line(tmp_path: Path,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    log = ["--log-path", str(tmp_path / "log")]
    (tmp_path / "base" / "1").mkdir(parents=True)
    (tmp_path / "base" / "1" / "saved_model.pb").write_bytes(b"damaged")
    taken, free = serving.free_ports()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", taken))
        holder.listen()
        for port, said in ((taken, f"cannot listen on 127.0.0.1:{taken}"),
                           (free, "no version in")):
            capsys.readouterr()
            assert main(["serve", str(tmp_path / "base"), "--port", "0", "--rest-api-port",
                         str(port), *log]) == 1
            last = capsys.readouterr().err.splitlines()[-1]
            assert said in last, last


def test_a_missing_extra_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("aocr.cli.serve._SERVE_PACKAGES", ("no_such_package",))
    assert main(["serve", "x", "--log-path", str(tmp_path / "log")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install '.[serve]'" in line


@pytest.fixture(scope="module")
def guarded(exported: Path) -> Iterator[Client]:
    limits = Limits(seconds=0.5, max_connections=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_protocol, "_HEAD_SECONDS", 0.3)
        with serving.in_thread(exported, limits=limits) as client:
            yield client


def raw(client: Client, data: bytes) -> bytes:
    """Sends bytes and reads until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", client.rest), timeout=30) as door:
        with contextlib.suppress(OSError):
            door.sendall(data)
        reply = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := door.recv(65536):
                reply += piece
        return reply


def test_half_open_slow_and_swollen_requests_are_ended(guarded: Client) -> None:
    head = f"POST /v1/models/{NAME}:predict HTTP/1.1\r\nhost: x\r\n".encode()
    for data, code in ((b"", b"408"), (head, b"408"),
                       (head + b"content-length: 100\r\n\r\n{", b"408"),
                       (b"\0\1\2\r\n\r\n", b"400"),
                       (head + b"x: " + b"y" * 200_000, b"431"),
                       (head + b"x: y\r\n" * 40_000, b"431")):
        reply = raw(guarded, data)
        assert reply.startswith(b"HTTP/1.1 " + code), (data[:80], reply)
        assert list(json.loads(reply.partition(b"\r\n\r\n")[2])) == ["error"]
    assert guarded.ask("GET", f"/v1/models/{NAME}")[0] == 200


def test_too_many_connections_are_told_so_and_the_rest_goes_on(guarded: Client) -> None:
    with contextlib.ExitStack() as open_ones:
        for _ in range(20):
            open_ones.enter_context(socket.create_connection(("127.0.0.1", guarded.rest)))
        assert raw(guarded, b"").startswith((b"HTTP/1.1 503", b"HTTP/1.1 408"))
    serving.wait_until_available(guarded)


@pytest.mark.slow
def test_ten_switches_under_load_fail_no_request(exported: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(exported / "3", base / "1")
    codes: list[int] = []
    stop = threading.Event()

    def load(client: Client) -> None:
        while not stop.is_set():
            codes.append(client.predict(QUESTION)[0])

    with (tmp_path / "stderr").open("w") as log, serving.in_process(
            base, log, "--poll-seconds", "0.05", "--log-path", str(tmp_path / "log")) as (
            client, _):
        threads = [threading.Thread(target=load, args=(client,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(2, 12):
            shutil.copytree(exported / "3", tmp_path / "aside")
            (tmp_path / "aside").rename(base / str(number))
            _wait_for_version(client, number)
        stop.set()
        for thread in threads:
            thread.join()
    assert set(codes) == {200}
    assert len(codes) > 20


def _wait_for_version(client: Client, number: int) -> None:
    for _ in range(3000):
        code, reply = client.ask("GET", f"/v1/models/{NAME}/versions/{number}")
        if code == 200 and reply["model_version_status"][0]["state"] == "AVAILABLE":
            return
        time.sleep(0.02)
    pytest.fail(f"version {number} was not picked up")


@pytest.mark.slow
def test_sigterm_answers_what_has_come_and_exits_with_0(exported: Path, tmp_path: Path) -> None:
    codes: list[int] = []
    many = {"instances": [QUESTION["inputs"]] * 100}
    with (tmp_path / "stderr").open("w") as log, serving.in_process(
            exported, log, "--log-level", "debug", "--log-path", str(tmp_path / "log")) as (
            client, process):
        asking = threading.Thread(target=lambda: codes.append(client.predict(many)[0]))
        asking.start()
        while "aocr_queue_images 0.0" in _metrics(client):
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        asking.join()
    assert codes == [200]
    logged = (tmp_path / "stderr").read_text()
    assert "Ending: what has come is answered first." in logged
    assert f"POST '/v1/models/{NAME}:predict' 200" in logged
    assert "Traceback" not in logged


def _metrics(client: Client) -> str:
    url = f"http://127.0.0.1:{client.rest}/monitoring/prometheus/metrics"
    with urllib.request.urlopen(url) as response:
        return str(response.read(), "utf-8")
