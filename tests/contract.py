"""Requests and the responses that any server of the exported model must give.

`python -m tests.contract URL VERSION CHECKPOINTS` sends them to a running server: `aocr serve`,
the binary of TensorFlow Serving, or its container.
"""

from __future__ import annotations

import base64
import json
import math
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aocr.inference.recognizer import Result
from tests import drawing

_TOLERANCE = 1e-5
Send = Callable[[str, str, bytes | None], tuple[int, Any]]


@dataclass(frozen=True)
class Exchange:
    """A request and the expected response.

    Attributes:
        name: What the request shows, for error messages.
        method: HTTP method.
        path: Path after the name of the model.
        body: The body; anything but bytes is sent as JSON.
        code: Expected status code.
        response: Expected response; `None` stands for an error with any text.
    """

    name: str
    method: str
    path: str
    body: Any
    code: int
    response: Any


def images() -> list[bytes]:
    """Returns image files of several formats and sizes."""
    formats = (("PNG", (60, 24)), ("JPEG", (90, 40)), ("GIF", (31, 32)), ("BMP", (120, 20)),
               ("WEBP", (45, 45)))
    return [drawing.encoded(drawing.word(f"A{n}", size), name)
            for n, (name, size) in enumerate(formats)]


def exchanges(files: Sequence[bytes], results: Sequence[Result], version: int) -> list[Exchange]:
    """Returns all requests with their expected responses.

    Args:
        files: Encoded images.
        results: Predictions of the checkpoint for them.
        version: The version that is served.
    """
    return [*_predictions(files, results, version), *_errors(files, version), *_statuses(version)]


def _predictions(files: Sequence[bytes], results: Sequence[Result], version: int
                 ) -> list[Exchange]:
    images = [b64(file) for file in files]
    rows: list[Any] = [{"output": result.text, "probability": result.probability}
                       for result in results]
    columns: dict[str, list[Any]] = {"output": [result.text for result in results],
                                     "probability": [result.probability for result in results]}
    requests: list[tuple[str, Any, Any]] = [
        ("a scalar, named", {"inputs": {"input": images[0]}}, {"outputs": rows[0]}),
        ("a scalar, as scripts for the original aocr send it",
         {"signature_name": "serving_default", "inputs": {"input": images[1]}},
         {"outputs": rows[1]}),
        ("a scalar, not named", {"inputs": images[2]}, {"outputs": rows[2]}),
        ("a vector, named", {"inputs": {"input": images}}, {"outputs": columns}),
        ("a vector, not named", {"inputs": images}, {"outputs": columns}),
        ("a vector of one", {"inputs": images[:1]},
         {"outputs": {name: values[:1] for name, values in columns.items()}}),
        ("a matrix", {"inputs": [images[:2]]},
         {"outputs": {name: [values[:2]] for name, values in columns.items()}}),
        ("rows", {"instances": images}, {"predictions": rows}),
        ("one row", {"instances": images[:1]}, {"predictions": rows[:1]}),
        ("named rows", {"instances": [{"input": image} for image in images]},
         {"predictions": rows}),
        ("an empty signature name", {"signature_name": "", "inputs": images[0]},
         {"outputs": rows[0]}),
    ]
    return [*(Exchange(name, "POST", ":predict", body, 200, response)
              for name, body, response in requests),
            Exchange("a version", "POST", f"/versions/{version}:predict", {"inputs": images[0]},
                     200, {"outputs": rows[0]})]


def _errors(files: Sequence[bytes], version: int) -> list[Exchange]:
    image = b64(files[0])
    bodies = {
        "empty body": b"", "not JSON": b"{", "not an object": b"[1]",
        "not UTF-8": b'{"inputs": "\xff"}',
        "neither form": {}, "both forms": {"inputs": image, "instances": [image]},
        "malformed base64": {"inputs": {"b64": "*"}}, "not an image": {"inputs": b64(b"no image")},
        "text instead of an image": {"inputs": "text"},
        "a number instead of an image": {"inputs": 7},
        "null instead of an image": {"instances": [None]}, "no rows": {"instances": []},
        "rows that are not a list": {"instances": image},
        "a wrong input name": {"inputs": {"image": image}},
        "a wrong input name in a row": {"instances": [{"image": image}]},
        "named and plain rows": {"instances": [image, {"input": image}]},
        "ragged lists": {"inputs": [[image], []]},
        "an unknown signature": {"signature_name": "other", "inputs": image},
        "a signature name that is not a string": {"signature_name": 1, "inputs": image},
        "an undecodable image": {"inputs": b64(drawing.undecodable_png())},
        "an undecodable image among others":
            {"instances": [image, b64(drawing.undecodable_png()), image]},
    }
    return [*(Exchange(name, "POST", ":predict", body, 400, None)
              for name, body in bodies.items()),
            Exchange("an unknown version", "POST", f"/versions/{version + 1}:predict",
                     {"inputs": image}, 404, None),
            Exchange("status of an unknown version", "GET", f"/versions/{version + 1}", None, 404,
                     None),
            Exchange("metadata of an unknown version", "GET", f"/versions/{version + 1}/metadata",
                     None, 404, None),
            Exchange("an unknown model", "POST", "x:predict", {"inputs": image}, 404, None),
            Exchange("status of an unknown model", "GET", "x", None, 404, None)]


def _statuses(version: int) -> list[Exchange]:
    status = {"version": str(version), "state": "AVAILABLE",
              "status": {"error_code": "OK", "error_message": ""}}
    response = {"model_version_status": [status]}
    return [Exchange("status", "GET", "", None, 200, response),
            Exchange("status of a version", "GET", f"/versions/{version}", None, 200, response)]


def check(exchange: Exchange, name: str, send: Send) -> None:
    """Sends a request and asserts that the response is the expected one.

    Args:
        exchange: The request and the expected response.
        name: Name of the model.
        send: Sends method, path and body; returns status code and parsed response.
    """
    body = exchange.body
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    code, response = send(exchange.method, f"/v1/models/{name}{exchange.path}", body)
    assert code == exchange.code, (exchange.name, code, response)
    if exchange.response is None:
        assert list(response) == ["error"], (exchange.name, response)
        assert isinstance(response["error"], str)
        assert "Traceback" not in response["error"]
    else:
        assert close(response, exchange.response), (exchange.name, response, exchange.response)


def close(actual: Any, expected: Any) -> bool:
    """Returns whether two JSON values are equal, floats within 1e-5."""
    if isinstance(actual, dict) and isinstance(expected, dict):
        return actual.keys() == expected.keys() and all(
            close(actual[key], expected[key]) for key in actual)
    if isinstance(actual, list) and isinstance(expected, list):
        return len(actual) == len(expected) and all(map(close, actual, expected))
    if isinstance(actual, float) and isinstance(expected, float):
        return math.isclose(actual, expected, abs_tol=_TOLERANCE)
    return bool(actual == expected)


def b64(data: bytes) -> dict[str, str]:
    """Returns the JSON form of bytes."""
    return {"b64": base64.b64encode(data).decode()}


def _main(url: str, version: int, checkpoints: str) -> None:
    from aocr import Recognizer

    def send(method: str, path: str, body: bytes | None) -> tuple[int, Any]:
        request = urllib.request.Request(url + path, body, method=method)
        try:
            with urllib.request.urlopen(request) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    files = images()
    results = Recognizer.load(checkpoints).predict(files)
    assert isinstance(results, list)
    all_exchanges = exchanges(files, results, version)
    for exchange in all_exchanges:
        check(exchange, "aocr", send)
    print(f"{len(all_exchanges)} passed, 0 failed")


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), sys.argv[3])


def decode_images(inputs: Any) -> Any:
    """Returns the input of a request in column form, base64 decoded."""
    def decode(value: Any) -> Any:
        if isinstance(value, list):
            return [decode(item) for item in value]
        return base64.b64decode(value["b64"])

    named = isinstance(inputs, dict) and "b64" not in inputs
    images = decode(inputs["input"] if named else inputs)
    return images if isinstance(images, bytes) else np.array(images, object)


def decode_texts(value: Any) -> Any:
    """Returns the outputs of the C API or of an exported model as JSON has them."""
    if isinstance(value, list):
        return [decode_texts(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value
