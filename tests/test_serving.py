"""The server's replies: REST, gRPC, limits."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from aocr.errors import AocrError
from aocr.inference.recognizer import Recognizer, Result
from tests import capi, contract, drawing, serving
from tests.conftest import World
from tests.contract import b64
from tests.serving import NAME, Client

serving.require_extra()

import grpc  # noqa: E402
from tensorflow_serving.apis import (  # noqa: E402
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from aocr.serving import http_protocol, server  # noqa: E402
from aocr.serving.config import Limits  # noqa: E402

FILES = contract.images()
VERSION = 3
LIMITS = Limits(max_body=200_000, max_images=30, max_pixels=50_000, max_queue=24, seconds=20)


@pytest.fixture(scope="module")
def client(exported: Path) -> Iterator[Client]:
    with serving.in_thread(exported, limits=LIMITS, max_batch=4) as client:
        yield client


@pytest.fixture(scope="module")
def answers(world: World) -> list[Result]:
    found = Recognizer.load(world.model_dir).predict(FILES)
    assert isinstance(found, list)
    return found


@pytest.fixture(scope="module")
def channel(client: Client) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{client.grpc}") as channel:
        yield channel


def question(images: list[bytes] | bytes, name: str = NAME, signature: str = "",
             **spec: Any) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    request.inputs["input"].CopyFrom(tf.make_tensor_proto(images))
    return request


def test_every_request_gets_its_reply(client: Client, answers: list[Result]) -> None:
    for pair in contract.pairs(FILES, answers, VERSION):
        contract.check(pair, NAME, client.ask)


def test_the_same_requests_by_the_c_api(exported: Path, answers: list[Result]) -> None:
    with capi.SavedModel(exported / str(VERSION)) as model:
        for pair in contract.pairs(FILES, answers, VERSION):
            if pair.code == 200 and isinstance(pair.body, dict) and "inputs" in pair.body:
                images = _images_of(pair.body["inputs"])
                outputs = {name: _texts(value.tolist())
                           for name, value in model.run({"input": images}).items()}
                assert contract.alike({"outputs": outputs}, pair.reply), pair.name


def _images_of(inputs: Any) -> Any:
    """The value of a request in column form, base64 decoded."""
    def decoded(value: Any) -> Any:
        if isinstance(value, list):
            return [decoded(each) for each in value]
        return base64.b64decode(value["b64"])

    named = isinstance(inputs, dict) and "b64" not in inputs
    found = decoded(inputs["input"] if named else inputs)
    return found if isinstance(found, bytes) else np.array(found, object)


def _texts(value: Any) -> Any:
    if isinstance(value, list):
        return [_texts(each) for each in value]
    return value.decode() if isinstance(value, bytes) else value


def test_details_and_images_are_signatures_too(client: Client, answers: list[Result]) -> None:
    code, reply = client.predict({"signature_name": "serving_details", "inputs": b64(FILES[0])})
    assert code == 200
    details = reply["outputs"]
    assert "".join(details["characters"]) == details["output"] == answers[0].text
    assert np.shape(details["attention"])[0] == len(details["character_probabilities"])
    image = np.zeros((32, 40, 1)).tolist()
    code, reply = client.predict({"signature_name": "serving_images", "instances": [
        {"images": image, "widths": 40}, {"images": image, "widths": 24}]})
    assert code == 200
    assert [sorted(row) for row in reply["predictions"]] == 2 * [
        ["attention", "character_probabilities", "ids", "probability"]]
    code, _ = client.predict({"signature_name": "serving_images",
                              "inputs": {"images": [image], "widths": [1.5]}})
    assert code == 400


def test_metadata_tells_the_signatures(client: Client) -> None:
    code, reply = client.ask("GET", f"/v1/models/{NAME}/metadata")
    assert code == 200
    assert reply["model_spec"] == {"name": NAME, "signature_name": "", "version": str(VERSION)}
    signatures = reply["metadata"]["signature_def"]["signature_def"]
    assert {"serving_default", "serving_details", "serving_images"} <= signatures.keys()
    default = signatures["serving_default"]
    assert default["inputs"]["input"]["dtype"] == "DT_STRING"
    assert default["inputs"]["input"]["tensor_shape"]["unknown_rank"] is True
    assert default["outputs"]["probability"]["dtype"] == "DT_DOUBLE"
    assert default["method_name"] == "tensorflow/serving/predict"


def test_grpc_answers_as_rest_does(channel: grpc.Channel, answers: list[Result]) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    several = stub.Predict(question(FILES))
    assert [text.decode() for text in tf.make_ndarray(several.outputs["output"])] == [
        answer.text for answer in answers]
    np.testing.assert_allclose(tf.make_ndarray(several.outputs["probability"]),
                               [answer.probability for answer in answers], atol=1e-5)
    spec = several.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == (
        NAME, VERSION, "serving_default")
    one = stub.Predict(question(FILES[0], version=VERSION))
    assert tf.make_ndarray(one.outputs["output"]).shape == ()
    assert one.outputs["output"].string_val == [answers[0].text.encode()]
    filtered = question(FILES[0])
    filtered.output_filter.append("probability")
    assert list(stub.Predict(filtered).outputs) == ["probability"]


def test_grpc_tells_metadata_and_status(channel: grpc.Channel) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    asked.model_spec.name = NAME
    reply = stub.GetModelMetadata(asked)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert reply.metadata["signature_def"].Unpack(signatures)
    assert "serving_default" in signatures.signature_def
    assert reply.model_spec.version.value == VERSION
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = NAME
    (told,) = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(
        status).model_version_status
    assert (told.version, told.state, told.status.error_code) == (VERSION, told.AVAILABLE, 0)


def _wrong_shape() -> predict_pb2.PredictRequest:
    request = question(FILES[0])
    request.inputs["input"].tensor_shape.dim.add(size=1 << 40)
    return request


def _wrong_type() -> predict_pb2.PredictRequest:
    request = question(FILES[0])
    request.inputs["input"].dtype = tf.resource.as_datatype_enum
    return request


def _wrong_filter() -> predict_pb2.PredictRequest:
    request = question(FILES[0])
    request.output_filter.append("other")
    return request


@pytest.mark.parametrize(("request_", "code"), [
    (question(FILES[0], name="other"), "NOT_FOUND"),
    (question(FILES[0], version=9), "NOT_FOUND"),
    (question(FILES[0], signature="other"), "FAILED_PRECONDITION"),
    (question(b"no image"), "INVALID_ARGUMENT"),
    (question([FILES[0], drawing.undecodable_png()]), "INVALID_ARGUMENT"),
    (question([FILES[0]] * 31), "INVALID_ARGUMENT"),
    (predict_pb2.PredictRequest(), "INVALID_ARGUMENT"),
    (question(FILES[0], signature="serving_images"), "INVALID_ARGUMENT"),
    (question(bytes(300_000)), "RESOURCE_EXHAUSTED"),
    (_wrong_shape(), "INVALID_ARGUMENT"),
    (_wrong_type(), "INVALID_ARGUMENT"),
    (_wrong_filter(), "INVALID_ARGUMENT"),
])
def test_grpc_refuses_in_its_own_codes(channel: grpc.Channel, request_: Any, code: str) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    with pytest.raises(grpc.RpcError) as refused:
        stub.Predict(request_)
    assert refused.value.code().name == code
    assert "Traceback" not in refused.value.details()


def test_one_bad_image_costs_only_its_own_request(client: Client, answers: list[Result]) -> None:
    bad = [drawing.undecodable_png(), b"no image"]
    requests = [*FILES, bad[0], *FILES, bad[1], *FILES]
    with ThreadPoolExecutor(len(requests)) as pool:
        replies = list(pool.map(lambda file: client.predict({"inputs": b64(file)}), requests))
    for file, (code, reply) in zip(requests, replies, strict=True):
        if file in bad:
            assert code == 400, reply
            assert "Graph execution error" not in reply["error"]
        else:
            assert code == 200, reply
            assert reply["outputs"]["output"] == answers[FILES.index(file)].text


@pytest.mark.parametrize(("method", "path", "body", "code"), [
    ("GET", f"/v1/models/{NAME}:predict", None, 405),
    ("POST", f"/v1/models/{NAME}", b"{}", 405),
    ("PUT", f"/v1/models/{NAME}:predict", b"{}", 405),
    ("POST", f"/v1/models/{NAME}:classify", b"{}", 400),
    ("POST", f"/v1/models/{NAME}/labels/stable:predict", b"{}", 400),
    ("GET", "/v1/other", None, 400),
    ("GET", "/other", None, 404),
    ("GET", f"/v1/models/{NAME}/versions/99999999999999999999", None, 400),
    ("POST", f"/v1/models/{NAME}:predict", b" " * 200_001, 413),
    ("POST", f"/v1/models/{NAME}:predict", b"[" * 100_000, 400),
    ("POST", f"/v1/models/{NAME}:predict", b'{"inputs": ' + b"9" * 5000 + b"}", 400),
    ("POST", f"/v1/models/{NAME}:predict",
     json.dumps({"instances": [b64(FILES[0])] * 31}).encode(), 413),
    ("POST", f"/v1/models/{NAME}:predict",
     json.dumps({"inputs": b64(drawing.png_promising(5000, 5000))}).encode(), 413),
    ("POST", f"/v1/models/{NAME}:predict",
     json.dumps({"inputs": b64(drawing.png_promising(1 << 30, 1 << 30))}).encode(), 413),
])
def test_limits_and_wrong_paths(client: Client, method: str, path: str, body: bytes | None,
                                code: int) -> None:
    found, reply = client.ask(method, path, body)
    assert found == code, reply
    assert list(reply) == ["error"]
    assert "Traceback" not in reply["error"]


def test_the_pixels_of_a_request_are_counted_together(client: Client) -> None:
    large = b64(drawing.encoded(drawing.word("A", (249, 200), "L")))
    assert client.predict({"instances": [large] * 8})[0] == 200
    assert client.predict({"instances": [large] * 9})[0] == 413


def test_a_body_in_chunks_is_held_to_the_limit(client: Client) -> None:
    def pieces(number: int) -> Iterator[bytes]:
        for _ in range(number):
            yield b" " * 50_000

    path = f"/v1/models/{NAME}:predict"
    assert client.ask("POST", path, pieces(5))[0] == 413  # type: ignore[arg-type]
    assert client.ask("POST", path, pieces(1))[0] == 400  # type: ignore[arg-type]


def test_small_chunks_are_no_headers(client: Client) -> None:
    path = f"/v1/models/{NAME}:predict"
    body = json.dumps({"inputs": b64(FILES[0])}).encode().ljust(40_000)
    pieces = (body[n:n + 2] for n in range(0, len(body), 2))
    assert client.ask("POST", path, pieces)[0] == 200  # type: ignore[arg-type]


def test_an_early_reply_starts_no_clock(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_connection(("127.0.0.1", client.rest)) as door:
        door.sendall(b"POST /v1/models/other:predict HTTP/1.1\r\nhost: x\r\n"
                     b"content-length: 5\r\n\r\n")
        reply = door.recv(1000)
        while not reply.endswith(b'"}'):
            reply += door.recv(1000)
        assert reply.startswith(b"HTTP/1.1 404")
        monkeypatch.setattr(http_protocol, "_HEAD_SECONDS", 0.2)
        door.sendall(b"12345")
        door.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            assert door.recv(1000) == b""


def test_a_gif_whose_frames_are_larger_than_its_canvas_is_refused(client: Client) -> None:
    frame = b"\x2c\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x4c\x01\0"
    bomb = b"GIF89a\x01\0\x01\0\0\0\0" + frame + b"\x3b"
    assert client.predict({"inputs": b64(bomb)})[0] == 413


def test_metrics_tell_requests_batches_and_queue(client: Client) -> None:
    client.predict({"inputs": b64(FILES[0])})
    url = f"http://127.0.0.1:{client.rest}/monitoring/prometheus/metrics"
    with urllib.request.urlopen(url) as response:
        page = response.read().decode()
    assert 'aocr_requests_total{code="200",door="rest"}' in page
    assert "aocr_request_seconds_bucket" in page
    assert "aocr_batch_images_bucket" in page
    assert "aocr_queue_images 0.0" in page
    assert f"aocr_model_version {VERSION:.1f}" in page


def test_a_full_queue_is_told_with_503(client: Client) -> None:
    code, reply = client.predict({"instances": [b64(FILES[0])] * 25})
    assert code == 503, reply
    assert client.predict({"instances": [b64(FILES[0])] * 24})[0] == 200


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on the PATH")
def test_the_readmes_request_gets_two_scalars(client: Client, answers: list[Result],
                                              tmp_path: Path) -> None:
    readme = Path(__file__).parents[1] / "README.md"
    (command,) = re.findall(r"<!-- serving request -->\n```sh\n(.*?)```",
                            readme.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "quickstart" / "images").mkdir(parents=True)
    (tmp_path / "quickstart" / "images" / "003001.png").write_bytes(FILES[0])
    found = subprocess.run(
        ["bash", "-c", command.replace("localhost:8501", f"127.0.0.1:{client.rest}")],
        cwd=tmp_path, capture_output=True, check=True)
    outputs = json.loads(found.stdout)["outputs"]
    assert outputs["output"] == answers[0].text
    assert outputs["probability"] == pytest.approx(answers[0].probability, abs=1e-5)


@pytest.mark.skipif(shutil.which("tensorflow_model_server") is None,
                    reason="no tensorflow_model_server on the PATH; the workflow `serving` puts "
                    "the same requests to its container")
def test_tensorflow_serving_gives_the_same_replies(exported: Path, answers: list[Result]) -> None:
    client = Client(*serving.free_ports())
    with subprocess.Popen(["tensorflow_model_server", f"--port={client.grpc}",
                           f"--rest_api_port={client.rest}", f"--model_name={NAME}",
                           f"--model_base_path={exported}"], text=True) as process:
        try:
            serving.wait_until_available(client, process)
            for pair in contract.pairs(FILES, answers, VERSION):
                contract.check(pair, NAME, client.ask)
        finally:
            process.terminate()


@pytest.mark.parametrize("host", ["a..b", "no such host"])
def test_a_host_that_cannot_be_is_one_line(host: str) -> None:
    with pytest.raises(AocrError, match="cannot listen on"):
        server._bound(host, 0)


def test_an_address_of_version_6_stands_in_brackets() -> None:
    assert server._bracketed("::1") == "[::1]"
    assert server._bracketed("127.0.0.1") == "127.0.0.1"
