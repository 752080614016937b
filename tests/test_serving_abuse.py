"""The server stays available under malformed requests, attacks and load.

A tenth of the requests is sent by default; all of them by
`AOCR_FULL=1 python -m pytest -m slow tests/test_serving_abuse.py`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import contract, drawing, serving
from tests.serving import NAME, Client

serving.require_extra()

from aocr.serving.config import ServerOptions  # noqa: E402

pytestmark = pytest.mark.slow

SHARE = float(os.environ.get("AOCR_FULL", "0.1"))
PATH = f"/v1/models/{NAME}:predict"
VALID = {"inputs": contract.b64(drawing.encoded(drawing.word("A", (8, 16))))}
ALLOWED = {200, 400, 404, 405, 408, 413, 431, 503}
MEBIBYTE = 1 << 20
_MAX_GROWTH = 512 * MEBIBYTE  # for the largest allowed bodies and images
_MAX_GROWTH_OVER_TIME = 0.03


@pytest.fixture(scope="module")
def server(exported: Path, tmp_path_factory: pytest.TempPathFactory
           ) -> Iterator[tuple[Client, Popen[str]]]:
    logs = tmp_path_factory.mktemp("abuse")
    with (logs / "stderr").open("w") as log, serving.in_process(
            exported, log, "--log-path", str(logs / "log"), "--max-connections", "200",
            "--max-body-bytes", "4000000", "--request-seconds", "5") as (client, process):
        for _ in range(50):
            assert client.predict(VALID)[0] == 200
        yield client, process
        assert process.poll() is None
    assert "Traceback" not in (logs / "stderr").read_text()


def assert_available(client: Client) -> None:
    """Asserts that a valid request succeeds."""
    code, response = client.predict(VALID)
    assert code == 200, response


def send(client: Client, method: str, path: str, body: bytes, headers: dict[str, str]) -> int:
    """Sends any request and asserts that the response is one of the application."""
    connection = http.client.HTTPConnection("127.0.0.1", client.rest, timeout=60)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    assert response.status in ALLOWED, (response.status, content)
    assert b"Traceback" not in content
    assert b".py" not in content
    if response.status != 200 and method != "HEAD":
        assert list(json.loads(content)) == ["error"], content
    return response.status


def _leaf(value: Any) -> Any:
    return {"b64": value}


IMAGES = st.sampled_from([contract.b64(file)["b64"] for file in (
    *contract.images(), drawing.undecodable_png(), drawing.png_promising(1 << 30, 1 << 30),
    drawing.png_promising(2000, 2000), b"GIF89a", b"")])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | IMAGES
    | IMAGES.map(_leaf) | st.text().map(_leaf),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(
        st.sampled_from(["input", "images", "widths", "b64"]), inner, max_size=3), max_leaves=10)
DOCUMENTS = st.fixed_dictionaries({}, optional={
    "inputs": VALUES, "instances": VALUES, "examples": VALUES,
    "signature_name": st.sampled_from(["serving_default", "serving_details", "serving_images", ""])
    | VALUES})
BODIES = DOCUMENTS.map(lambda document: json.dumps(document).encode()) | st.binary(max_size=400)
PATHS = st.sampled_from([PATH, PATH, PATH, PATH.replace(":", "/versions/3:"),
                         PATH.replace("predict", "classify"), "/v1/models", "/", "/v1/models/x",
                         "/page/x", PATH.replace(":", "/versions/99:"), PATH.replace(":", "%00:"),
                         "/v1/models/" + "y" * 3000 + ":predict", "/monitoring/prometheus/metric"])
TYPES = st.sampled_from(["application/json", "text/html", "multipart/form-data", "x", "image/png"])


@settings(max_examples=max(20, int(5000 * SHARE)), deadline=None,
          suppress_health_check=list(HealthCheck))
@given(method=st.sampled_from(["POST"] * 6 + ["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE"]),
       path=PATHS, body=BODIES, kind=TYPES, encoding=st.sampled_from(["identity"] * 5 + ["gzip"]))
def test_any_request_gets_a_response(server: tuple[Client, Popen[str]], method: str, path: str,
                                        body: bytes, kind: str, encoding: str) -> None:
    send(server[0], method, path, body, {"content-type": kind, "content-encoding": encoding})


def test_the_server_is_available_after_any_requests(server: tuple[Client, Popen[str]]) -> None:
    assert_available(server[0])


def _rows(count: int, value: bytes) -> bytes:
    return b'{"instances": [' + b",".join([value] * count) + b"]}"


@pytest.mark.parametrize(("body", "code"), [
    (b'{"inputs": ' + b"[" * 1_900_000 + b"]" * 1_900_000 + b"}", 400),
    (b'{"inputs": [' + b"[]," * 1_300_000 + b"[]]}", 413),
    (b'{"inputs": ' + b'{"a":' * 600_000, 400),
    (_rows(500_000, b"7"), 400),
    (_rows(100_000, b'{"b64": ""}'), 413),
    (b"\xff" * 3_900_000, 400),
    (b'{"signature_name": "serving_images", "inputs": {"widths": [1], "images": [' + b",".join(
        [b"0"] * 1_000_000) + b"]}}", 413),
    (b" " * 100_000_000, 413),
])
def test_bombs_take_little_memory(server: tuple[Client, Popen[str]], body: bytes, code: int
                                  ) -> None:
    client, process = server
    before = serving.resident_bytes(process.pid)
    for _ in range(max(1, int(10 * SHARE))):
        assert send(client, "POST", PATH, body, {}) == code
    assert_available(client)
    assert serving.resident_bytes(process.pid) < before + _MAX_GROWTH


def test_concurrent_large_bodies_share_a_budget(server: tuple[Client, Popen[str]]) -> None:
    client, process = server
    before, codes = serving.resident_bytes(process.pid), []
    body = b'{"inputs": "' + b"A" * 3_900_000 + b'"}'

    def send_body() -> None:
        with contextlib.suppress(OSError):  # refused while it is sending
            codes.append(send(client, "POST", PATH, body, {}))

    threads = [threading.Thread(target=send_body) for _ in range(max(20, int(100 * SHARE)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(codes) <= {400, 413, 503}
    assert 400 in codes
    assert serving.resident_bytes(process.pid) < before + _MAX_GROWTH
    assert_available(client)


def test_slow_headers_of_images_do_not_delay_others(server: tuple[Client, Popen[str]]) -> None:
    client, _ = server
    image = drawing.encoded(drawing.word("A", (8, 16)))
    header, rest = image[:33], image[33:]
    chunks = drawing.png_chunk(b"eXtr", b"") * 230_000
    body = json.dumps({"inputs": contract.b64(header + chunks + rest)}).encode()
    seconds: list[float] = []

    def send_slow() -> None:
        start = time.perf_counter()
        assert send(client, "POST", PATH, body, {}) in (200, 400, 504)  # 504 on a busy machine
        seconds.append(time.perf_counter() - start)

    thread = threading.Thread(target=send_slow)
    thread.start()
    latencies = []
    while thread.is_alive():
        start = time.perf_counter()
        assert client.request("GET", f"/v1/models/{NAME}")[0] == 200
        latencies.append(time.perf_counter() - start)
    assert max(latencies) < seconds[0] / 2


def test_slow_and_incomplete_requests_do_not_delay_others(
        server: tuple[Client, Popen[str]]) -> None:
    client, process = server
    before = serving.resident_bytes(process.pid)
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\n".encode()
    with contextlib.ExitStack() as connections:
        for n in range(int(100 + 80 * SHARE)):
            connection = connections.enter_context(
                socket.create_connection(("127.0.0.1", client.rest)))
            connection.sendall((b"", head, head + b"content-length: 1000\r\n\r\n{\"inp")[n % 3])
        for _ in range(20):
            assert_available(client)
    assert serving.resident_bytes(process.pid) < before + _MAX_GROWTH


def test_the_server_recovers_from_too_many_connections(
        server: tuple[Client, Popen[str]]) -> None:
    client, _ = server
    with contextlib.ExitStack() as connections:
        for _ in range(400):
            connections.enter_context(socket.create_connection(("127.0.0.1", client.rest)))
    serving.wait_until_available(client)
    assert_available(client)


def test_closed_connections_free_their_capacity(server: tuple[Client, Popen[str]]) -> None:
    client, _ = server
    body = json.dumps(VALID).encode()
    request = (f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
               ).encode() + body
    for _ in range(int(1000 * SHARE)):
        with socket.create_connection(("127.0.0.1", client.rest)) as connection:
            connection.sendall(request)
    serving.wait_until_available(client)  # the last of them count as open for a moment
    assert_available(client)


def test_resident_memory_is_constant_over_many_requests(server: tuple[Client, Popen[str]]) -> None:
    client, process = server
    _send_every_batch_size(client)
    before = serving.resident_bytes(process.pid)
    _send_many(client, int(100_000 * SHARE))
    after = serving.resident_bytes(process.pid)
    print(f"resident memory: {before >> 20} MiB, {after >> 20} MiB")
    assert after < before * (1 + _MAX_GROWTH_OVER_TIME)


def _send_every_batch_size(client: Client, rounds: int = 6) -> None:
    """Sends batches of every possible size.

    TensorFlow keeps state for each shape of a batch, about 3 MB per size (measured with TensorFlow
    2.21), and under load a new size may occur even after thousands of requests. After some rounds
    the memory that the allocator keeps is constant too.
    """
    for _ in range(rounds):
        for size in range(1, ServerOptions().max_batch_size + 1):
            code, response = client.predict({"instances": [VALID["inputs"]] * size})
            assert code == 200, response


def _send_many(client: Client, requests: int, connections: int = 32) -> None:
    """Sends valid requests on several persistent connections."""
    body, codes = json.dumps(VALID).encode(), set()

    def send_requests() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", client.rest, timeout=60)
        for _ in range(requests // connections + 1):
            connection.request("POST", PATH, body)
            response = connection.getresponse()
            response.read()
            codes.add(response.status)
        connection.close()

    threads = [threading.Thread(target=send_requests) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == {200}
