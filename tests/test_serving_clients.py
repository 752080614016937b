"""What clients of TensorFlow Serving and browsers send: gzip bodies, other methods, preflights."""

from __future__ import annotations

import gzip
import http.client
import json
import logging
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from aocr.cli.main import main
from aocr.errors import AocrError
from aocr.runtime.console import log
from tests import contract, drawing, serving
from tests.contract import b64
from tests.serving import NAME, Client

serving.require_extra()

import grpc  # noqa: E402
from tensorflow_serving.apis import (  # noqa: E402
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from aocr.serving.config import Limits, ServerOptions  # noqa: E402

FILES = contract.images()
PATH = f"/v1/models/{NAME}:predict"
BODY = json.dumps({"inputs": b64(FILES[0])}).encode()
MAX_BODY = 200_000
ORIGIN = "https://app.example"


@pytest.fixture(scope="module")
def client(exported: Path) -> Iterator[Client]:
    limits = Limits(max_body_bytes=MAX_BODY, max_pixels=50_000)
    with serving.in_thread(exported, limits=limits, cors_origins=(ORIGIN,)) as client:
        yield client


@pytest.fixture(scope="module")
def channel(client: Client) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{client.grpc}") as channel:
        yield channel


def send_encoded(client: Client, body: bytes, encoding: str = "gzip") -> tuple[int, Any]:
    return client.request("POST", PATH, body, {"Content-Encoding": encoding})


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
def test_a_gzip_body_gets_the_response_of_the_plain_body(client: Client, encoding: str) -> None:
    code, response = send_encoded(client, gzip.compress(BODY), encoding)
    assert code == 200, response
    assert contract.close(response, client.request("POST", PATH, BODY)[1])


def test_a_large_gzip_body_is_decompressed(client: Client) -> None:
    body = gzip.compress(BODY.ljust(MAX_BODY), mtime=0)
    assert len(body) < MAX_BODY / 10
    assert send_encoded(client, body)[0] == 200


@pytest.mark.parametrize(("body", "code"), [
    (gzip.compress(BODY.ljust(MAX_BODY + 1)), 413),
    (gzip.compress(bytes(100 * MAX_BODY)), 413),
    (gzip.compress(os.urandom(MAX_BODY)), 413),
    (gzip.compress(BODY)[:-1], 400),
    (gzip.compress(BODY)[:20], 400),
    (gzip.compress(BODY) + b"more", 400),
    (zlib.compress(BODY), 400),
    (BODY, 400),
    (b"", 400),
    (gzip.compress(b"{"), 400)],
    ids=["too large", "bomb", "random", "last byte missing", "truncated", "trailing bytes", "zlib",
         "plain", "empty", "not JSON"])
def test_gzip_bodies_that_are_damaged_or_too_large_are_refused(
        client: Client, body: bytes, code: int) -> None:
    actual, response = send_encoded(client, body)
    assert actual == code, response
    assert list(response) == ["error"]


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip"])
def test_other_content_encodings_are_refused(client: Client, encoding: str) -> None:
    code, response = send_encoded(client, BODY, encoding)
    assert code == 400
    assert "expected gzip" in response["error"]


@pytest.fixture
def debug_records(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Captures all records of the log of aocr, and those of grpc and asyncio."""
    level = log.level
    log.addHandler(caplog.handler)
    log.setLevel(logging.DEBUG)
    yield caplog
    log.removeHandler(caplog.handler)
    log.setLevel(level)


@pytest.mark.parametrize("method", [
    "tensorflow.serving.PredictionService/Classify",
    "tensorflow.serving.PredictionService/MultiInference",
    "tensorflow.serving.ModelService/HandleReloadConfigRequest",
    "tensorflow.serving.SessionService/SessionRun", "grpc.health.v1.Health/Check"])
def test_an_unknown_grpc_method_is_unimplemented_without_a_traceback(
        channel: grpc.Channel, debug_records: pytest.LogCaptureFixture, method: str) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(f"/{method}")(b"")
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
    # A second call, as the response may arrive before the server has logged the first one.
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = NAME
    model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request)
    (record,) = [record for record in debug_records.records
                 if method in record.getMessage() or record.levelno > logging.DEBUG]
    assert record.levelno == logging.DEBUG
    assert "UNIMPLEMENTED" in record.getMessage()
    assert record.exc_info is None


def test_an_unknown_streaming_grpc_method_is_unimplemented(channel: grpc.Channel) -> None:
    for multi_callable, request in ((channel.unary_stream, b""), (channel.stream_stream, iter(()))):
        with pytest.raises(grpc.RpcError) as raised:
            list(multi_callable("/grpc.health.v1.Health/Watch")(request))
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


BAD_IMAGES = {"not an image": b"no image", "undecodable": drawing.undecodable_png(),
              "too large": drawing.png_promising(5000, 5000)}


@pytest.mark.parametrize("signature", ["serving_default", "serving_details"])
@pytest.mark.parametrize("bad", BAD_IMAGES.values(), ids=BAD_IMAGES.keys())
def test_the_error_names_the_position_of_an_unreadable_image(
        client: Client, channel: grpc.Channel, bad: bytes, signature: str) -> None:
    images = [*FILES, bad, *FILES]
    coded = [b64(image) for image in images]
    for document in ({"inputs": coded}, {"instances": coded}, {"inputs": {"input": coded}},
                     {"instances": [{"input": image} for image in coded]}):
        code, response = client.predict({"signature_name": signature, **document})
        assert code in (400, 413)
        assert response["error"].startswith(f"input 'input'[{len(FILES)}]: "), response
    request = predict_pb2.PredictRequest()
    request.model_spec.name = NAME
    request.model_spec.signature_name = signature
    request.inputs["input"].CopyFrom(tf.make_tensor_proto(images))
    with pytest.raises(grpc.RpcError) as raised:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details().startswith(f"input 'input'[{len(FILES)}]: ")


def test_positions_in_nested_lists_have_an_index_per_dimension(client: Client) -> None:
    coded = [b64(image) for image in FILES[:3]]
    for bad in (b64(b"no image"), b64(drawing.undecodable_png()), {"b64": "*"}, 7):
        _, response = client.predict({"inputs": [coded, [coded[0], coded[1], bad]]})
        assert response["error"].startswith("input 'input'[1][2]: "), response
        _, response = client.predict({"inputs": bad})
        assert "[" not in response["error"].split(":")[0], response


def preflight(client: Client, origin: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", client.rest, timeout=60)
    connection.request("OPTIONS", PATH, headers={
        "Origin": origin, "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type", **headers})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


def test_a_preflight_of_an_allowed_origin_succeeds(client: Client) -> None:
    response = preflight(client, ORIGIN)
    assert response.status == 200
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in response.headers["access-control-allow-methods"]
    assert "content-type" in response.headers["access-control-allow-headers"].lower()
    assert preflight(client, "https://other.example").status == 400


def test_responses_and_errors_are_readable_for_an_allowed_origin(client: Client) -> None:
    for body, code in ((BODY, 200), (b"{", 400), (b" " * (MAX_BODY + 1), 413)):
        for origin, allowed in ((ORIGIN, ORIGIN), ("https://other.example", None)):
            connection = http.client.HTTPConnection("127.0.0.1", client.rest, timeout=60)
            connection.request("POST", PATH, body, {"Origin": origin})
            response = connection.getresponse()
            assert response.status == code
            assert response.headers["access-control-allow-origin"] == allowed
            connection.close()


def test_without_origins_a_preflight_is_refused(exported: Path) -> None:
    with serving.in_thread(exported) as client:
        response = preflight(client, ORIGIN)
        assert response.status == 405
        assert response.headers["access-control-allow-origin"] is None


@pytest.mark.parametrize("origin", [
    "app.example", "https://app.example/", "https://app.example/page", "",
    "https://", "https://*.example", "https://app.example:port", "https://user@app.example",
    "https://App.example", "https://app.example:443"])
def test_origins_that_no_browser_sends_are_refused(origin: str) -> None:
    with pytest.raises(AocrError, match="--cors-origin"):
        ServerOptions(cors_origins=(origin,))


@pytest.mark.parametrize("origin", [
    "*", "http://localhost:3000", "https://app.example", "http://[::1]:3000"])
def test_origins_that_browsers_send_are_accepted(origin: str) -> None:
    assert ServerOptions(cors_origins=(origin,)).cors_origins == (origin,)


def test_origins_on_the_command_line_are_not_taken_for_remote_paths(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for origin, message in ((ORIGIN, "no version in"), (f"{ORIGIN}/", "--cors-origin")):
        assert main(["serve", str(tmp_path), "--port", "0",
                     "--rest-api-port", str(serving.free_ports()[0]),
                     "--cors-origin", "http://localhost:3000", "--cors-origin", origin,
                     "--log-path", str(tmp_path / "log")]) == 1
        assert message in capsys.readouterr().err.splitlines()[-1]
