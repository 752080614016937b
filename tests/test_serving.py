"""Responses of the server: REST, gRPC, limits, metrics."""

from __future__ import annotations

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
from tests import grpc_requests  # noqa: E402

FILES = contract.images()
VERSION = 3
PATH = f"/v1/models/{NAME}:predict"
LIMITS = Limits(max_body_bytes=200_000, max_images=30, max_pixels=50_000, max_queue=24,
                request_seconds=20)


@pytest.fixture(scope="module")
def client(exported: Path) -> Iterator[Client]:
    with serving.in_thread(exported, limits=LIMITS, max_batch_size=4) as client:
        yield client


@pytest.fixture(scope="module")
def results(world: World) -> list[Result]:
    results = Recognizer.load(world.model_dir).predict(FILES)
    assert isinstance(results, list)
    return results


@pytest.fixture(scope="module")
def channel(client: Client) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{client.grpc}") as channel:
        yield channel


def test_every_request_gets_the_expected_response(client: Client, results: list[Result]) -> None:
    for exchange in contract.exchanges(FILES, results, VERSION):
        contract.check(exchange, NAME, client.request)


def test_the_c_api_gives_the_same_outputs(exported: Path, results: list[Result]) -> None:
    with capi.SavedModel(exported / str(VERSION)) as model:
        for exchange in contract.exchanges(FILES, results, VERSION):
            body = exchange.body
            if exchange.code == 200 and isinstance(body, dict) and "inputs" in body:
                outputs = {name: contract.decode_texts(value.tolist()) for name, value in model.run(
                    {"input": contract.decode_images(body["inputs"])}).items()}
                assert contract.close({"outputs": outputs}, exchange.response), exchange.name


def test_details_and_images_signatures_are_served(client: Client, results: list[Result]) -> None:
    code, response = client.predict({"signature_name": "serving_details", "inputs": b64(FILES[0])})
    assert code == 200
    details = response["outputs"]
    assert "".join(details["characters"]) == details["output"] == results[0].text
    assert np.shape(details["attention"])[0] == len(details["character_probabilities"])
    image = np.zeros((32, 40, 1)).tolist()
    code, response = client.predict({"signature_name": "serving_images", "instances": [
        {"images": image, "widths": 40}, {"images": image, "widths": 24}]})
    assert code == 200
    assert [sorted(row) for row in response["predictions"]] == 2 * [
        ["attention", "character_probabilities", "ids", "probability"]]
    code, _ = client.predict({"signature_name": "serving_images",
                              "inputs": {"images": [image], "widths": [1.5]}})
    assert code == 400


def test_images_wider_than_the_export_states_are_refused(client: Client, exported: Path) -> None:
    extra = exported / str(VERSION) / "assets.extra"
    max_width = json.loads((extra / "config.json").read_text())["serving_images"]["max_width"]
    for width, expected in ((max_width, 200), (max_width + 1, 413)):
        code, response = client.predict({"signature_name": "serving_images", "inputs": {
            "images": np.zeros((1, 32, width, 1)).tolist(), "widths": [width]}})
        assert code == expected, response


def test_metadata_describes_the_signatures(client: Client) -> None:
    code, response = client.request("GET", f"/v1/models/{NAME}/metadata")
    assert code == 200
    assert response["model_spec"] == {
        "name": NAME, "signature_name": "", "version": str(VERSION)}
    signatures = response["metadata"]["signature_def"]["signature_def"]
    assert {"serving_default", "serving_details", "serving_images"} <= signatures.keys()
    default = signatures["serving_default"]
    assert default["inputs"]["input"]["dtype"] == "DT_STRING"
    assert default["inputs"]["input"]["tensor_shape"]["unknown_rank"] is True
    assert default["outputs"]["probability"]["dtype"] == "DT_DOUBLE"
    assert default["method_name"] == "tensorflow/serving/predict"


def test_grpc_gives_the_same_outputs_as_rest(channel: grpc.Channel, results: list[Result]) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    vector = stub.Predict(grpc_requests.predict(FILES))
    assert [text.decode() for text in tf.make_ndarray(vector.outputs["output"])] == [
        result.text for result in results]
    np.testing.assert_allclose(tf.make_ndarray(vector.outputs["probability"]),
                               [result.probability for result in results], atol=1e-5)
    spec = vector.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == (
        NAME, VERSION, "serving_default")
    scalar = stub.Predict(grpc_requests.predict(FILES[0], version=VERSION))
    assert tf.make_ndarray(scalar.outputs["output"]).shape == ()
    assert scalar.outputs["output"].string_val == [results[0].text.encode()]
    filtered = grpc_requests.predict(FILES[0])
    filtered.output_filter.append("probability")
    assert list(stub.Predict(filtered).outputs) == ["probability"]


def test_grpc_serves_metadata_and_status(channel: grpc.Channel) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = NAME
    response = stub.GetModelMetadata(request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert "serving_default" in signatures.signature_def
    assert response.model_spec.version.value == VERSION
    status_request = get_model_status_pb2.GetModelStatusRequest()
    status_request.model_spec.name = NAME
    (version_status,) = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(
        status_request).model_version_status
    assert (version_status.version, version_status.state, version_status.status.error_code) == (
        VERSION, version_status.AVAILABLE, 0)


@pytest.mark.parametrize(("request_", "code"), [
    (grpc_requests.predict(FILES[0], name="other"), "NOT_FOUND"),
    (grpc_requests.predict(FILES[0], version=9), "NOT_FOUND"),
    (grpc_requests.predict(FILES[0], signature="other"), "FAILED_PRECONDITION"),
    (grpc_requests.predict(b"no image"), "INVALID_ARGUMENT"),
    (grpc_requests.predict([FILES[0], drawing.undecodable_png()]), "INVALID_ARGUMENT"),
    (grpc_requests.predict([FILES[0]] * 31), "INVALID_ARGUMENT"),
    (predict_pb2.PredictRequest(), "INVALID_ARGUMENT"),
    (grpc_requests.predict(FILES[0], signature="serving_images"), "INVALID_ARGUMENT"),
    (grpc_requests.predict(bytes(300_000)), "RESOURCE_EXHAUSTED"),
    (grpc_requests.of_wrong_shape(FILES[0]), "INVALID_ARGUMENT"),
    (grpc_requests.of_wrong_type(FILES[0]), "INVALID_ARGUMENT"),
    (grpc_requests.of_unknown_output(FILES[0]), "INVALID_ARGUMENT"),
])
def test_grpc_errors_have_grpc_status_codes(channel: grpc.Channel, request_: Any, code: str
                                            ) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    with pytest.raises(grpc.RpcError) as raised:
        stub.Predict(request_)
    assert raised.value.code().name == code
    assert "Traceback" not in raised.value.details()


def test_an_undecodable_image_fails_only_its_own_request(client: Client, results: list[Result]
                                                         ) -> None:
    undecodable = [drawing.undecodable_png(), b"no image"]
    files = [*FILES, undecodable[0], *FILES, undecodable[1], *FILES]
    with ThreadPoolExecutor(len(files)) as pool:
        responses = list(pool.map(lambda file: client.predict({"inputs": b64(file)}), files))
    for file, (code, response) in zip(files, responses, strict=True):
        if file in undecodable:
            assert code == 400, response
            assert "Graph execution error" not in response["error"]
        else:
            assert code == 200, response
            assert response["outputs"]["output"] == results[FILES.index(file)].text


@pytest.mark.parametrize(("method", "path", "body", "code"), [
    ("GET", PATH, None, 405),
    ("POST", f"/v1/models/{NAME}", b"{}", 405),
    ("PUT", PATH, b"{}", 405),
    ("POST", f"/v1/models/{NAME}:classify", b"{}", 400),
    ("POST", f"/v1/models/{NAME}/labels/stable:predict", b"{}", 400),
    ("GET", "/v1/other", None, 400),
    ("GET", "/other", None, 404),
    ("GET", f"/v1/models/{NAME}/versions/99999999999999999999", None, 400),
    ("POST", PATH, b" " * 200_001, 413),
    ("POST", PATH, b"[" * 100_000, 400),
    ("POST", PATH, b'{"inputs": ' + b"9" * 5000 + b"}", 400),
    ("POST", PATH, b'{"signature_name": "\\ud800", "inputs": "x"}', 400),
    ("POST", PATH, b'{"signature_name": "' + b"x" * 100_000 + b'", "inputs": "x"}', 400),
    ("POST", PATH,
     json.dumps({"instances": [b64(FILES[0])] * 31}).encode(), 413),
    ("POST", PATH,
     json.dumps({"inputs": b64(drawing.png_promising(5000, 5000))}).encode(), 413),
    ("POST", PATH,
     json.dumps({"inputs": b64(drawing.png_promising(1 << 30, 1 << 30))}).encode(), 413),
])
def test_exceeded_limits_and_wrong_paths_are_refused(
        client: Client, method: str, path: str, body: bytes | None, code: int) -> None:
    actual, response = client.request(method, path, body)
    assert actual == code, response
    assert list(response) == ["error"]
    assert "Traceback" not in response["error"]
    assert len(response["error"]) < 1000


def test_the_total_number_of_pixels_is_limited(client: Client) -> None:
    large = b64(drawing.encoded(drawing.word("A", (249, 200), "L")))
    assert client.predict({"instances": [large] * 8})[0] == 200
    assert client.predict({"instances": [large] * 9})[0] == 413


def test_the_body_limit_holds_for_chunked_bodies(client: Client) -> None:
    def chunks(number: int) -> Iterator[bytes]:
        for _ in range(number):
            yield b" " * 50_000

    assert client.request("POST", PATH, chunks(5))[0] == 413  # type: ignore[arg-type]
    assert client.request("POST", PATH, chunks(1))[0] == 400  # type: ignore[arg-type]


def test_the_framing_of_small_chunks_is_accepted(client: Client) -> None:
    body = json.dumps({"inputs": b64(FILES[0])}).encode().ljust(40_000)
    chunks = (body[n:n + 2] for n in range(0, len(body), 2))
    assert client.request("POST", PATH, chunks)[0] == 200  # type: ignore[arg-type]


def test_a_response_before_the_body_does_not_start_the_header_timer(
        client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_connection(("127.0.0.1", client.rest)) as connection:
        connection.sendall(b"POST /v1/models/other:predict HTTP/1.1\r\nhost: x\r\n"
                           b"content-length: 5\r\n\r\n")
        response = connection.recv(1000)
        while not response.endswith(b'"}'):
            response += connection.recv(1000)
        assert response.startswith(b"HTTP/1.1 404")
        monkeypatch.setattr(http_protocol, "_HEADER_SECONDS", 0.2)
        connection.sendall(b"12345")
        connection.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            assert connection.recv(1000) == b""


def test_a_gif_with_frames_larger_than_its_canvas_is_refused(client: Client) -> None:
    frame = b"\x2c\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x4c\x01\0"
    bomb = b"GIF89a\x01\0\x01\0\0\0\0" + frame + b"\x3b"
    assert client.predict({"inputs": b64(bomb)})[0] == 413


def test_metrics_count_requests_batches_and_queued_images(client: Client) -> None:
    client.predict({"inputs": b64(FILES[0])})
    url = f"http://127.0.0.1:{client.rest}/monitoring/prometheus/metrics"
    with urllib.request.urlopen(url) as response:
        page = response.read().decode()
    assert 'aocr_requests_total{code="200",door="rest"}' in page
    assert "aocr_request_seconds_bucket" in page
    assert "aocr_batch_images_bucket" in page
    assert "aocr_queue_images 0.0" in page
    assert f"aocr_model_version {VERSION:.1f}" in page


def test_a_full_queue_is_refused_with_503(client: Client) -> None:
    code, response = client.predict({"instances": [b64(FILES[0])] * 25})
    assert code == 503, response
    assert client.predict({"instances": [b64(FILES[0])] * 24})[0] == 200


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on the PATH")
def test_the_request_in_the_readme_gets_two_scalars(client: Client, results: list[Result],
                                                    tmp_path: Path) -> None:
    readme = Path(__file__).parents[1] / "README.md"
    (command,) = re.findall(r"<!-- serving request -->\n```sh\n(.*?)```",
                            readme.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "quickstart" / "images").mkdir(parents=True)
    (tmp_path / "quickstart" / "images" / "003198.png").write_bytes(FILES[0])
    completed = subprocess.run(
        ["bash", "-c", command.replace("localhost:8501", f"127.0.0.1:{client.rest}")],
        cwd=tmp_path, capture_output=True, check=True)
    outputs = json.loads(completed.stdout)["outputs"]
    assert outputs["output"] == results[0].text
    assert outputs["probability"] == pytest.approx(results[0].probability, abs=1e-5)


@pytest.mark.parametrize("number", range(2))
def test_the_python_examples_in_the_readme_run(
        client: Client, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str], number: int) -> None:
    readme = Path(server.__file__).with_name("README.md").read_text(encoding="utf-8")
    example = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[number]
    for port, actual in ((8500, client.grpc), (8501, client.rest)):
        example = example.replace(f"localhost:{port}", f"127.0.0.1:{actual}")
    (tmp_path / "quickstart" / "images").mkdir(parents=True)
    (tmp_path / "quickstart" / "images" / "003198.png").write_bytes(FILES[0])
    (tmp_path / "quickstart" / "exported").mkdir()
    (tmp_path / "quickstart" / "exported" / "1").symlink_to(exported / str(VERSION))
    monkeypatch.chdir(tmp_path)
    exec(example, {})  # noqa: S102
    assert 0 <= float(capsys.readouterr().out.split()[-1]) <= 1


@pytest.mark.skipif(shutil.which("tensorflow_model_server") is None,
                    reason="no tensorflow_model_server on the PATH; the workflow `serving` sends "
                    "the same requests to its container")
def test_tensorflow_serving_gives_the_same_responses(exported: Path, results: list[Result]
                                                     ) -> None:
    client = Client(*serving.free_ports())
    with subprocess.Popen(["tensorflow_model_server", f"--port={client.grpc}",
                           f"--rest_api_port={client.rest}", f"--model_name={NAME}",
                           f"--model_base_path={exported}"], text=True) as process:
        try:
            serving.wait_until_available(client, process)
            for exchange in contract.exchanges(FILES, results, VERSION):
                contract.check(exchange, NAME, client.request)
        finally:
            process.terminate()


@pytest.mark.parametrize("host", ["a..b", "no such host"])
def test_an_invalid_host_is_reported(host: str) -> None:
    with pytest.raises(AocrError, match="cannot listen on"):
        server._listen(host, 0, "--port")


def test_ipv6_addresses_are_written_in_brackets() -> None:
    assert server._url_host("::1") == "[::1]"
    assert server._url_host("127.0.0.1") == "127.0.0.1"
