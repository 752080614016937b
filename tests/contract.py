"""Requests and the replies they must get, from whatever serves the export.

`python -m tests.contract URL VERSION CHECKPOINTS` puts them to a server: ours, TensorFlow
Serving's binary, or its container.
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

from aocr.inference.recognizer import Result
from tests import drawing

_TOLERANCE = 1e-5
Ask = Callable[[str, str, bytes | None], tuple[int, Any]]


@dataclass(frozen=True)
class Pair:
    """A request, and its reply.

    Attributes:
        name: What it is about.
        method: HTTP method.
        path: Path after the model's name.
        body: The body; a document becomes JSON.
        code: The reply's code.
        reply: The reply; `None` stands for any error text.
    """

    name: str
    method: str
    path: str
    body: Any
    code: int
    reply: Any


def images() -> list[bytes]:
    """Files of mixed formats and sizes."""
    formats = (("PNG", (60, 24)), ("JPEG", (90, 40)), ("GIF", (31, 32)), ("BMP", (120, 20)),
               ("WEBP", (45, 45)))
    return [drawing.encoded(drawing.word(f"A{n}", size), name)
            for n, (name, size) in enumerate(formats)]


def pairs(files: Sequence[bytes], answers: Sequence[Result], version: int) -> list[Pair]:
    """All of them.

    Args:
        files: Encoded images.
        answers: What the checkpoint reads in them.
        version: The version that is served.
    """
    return [*_good(files, answers, version), *_bad(files, version), *_told(version)]


def _good(files: Sequence[bytes], answers: Sequence[Result], version: int) -> list[Pair]:
    coded = [b64(file) for file in files]
    rows: list[Any] = [{"output": a.text, "probability": a.probability} for a in answers]
    columns: dict[str, list[Any]] = {"output": [a.text for a in answers],
                                     "probability": [a.probability for a in answers]}
    one = {name: values[:1] for name, values in columns.items()}
    questions: list[tuple[str, Any, Any]] = [
        ("a scalar, named", {"inputs": {"input": coded[0]}}, {"outputs": rows[0]}),
        ("a scalar of the original's scripts",
         {"signature_name": "serving_default", "inputs": {"input": coded[1]}},
         {"outputs": rows[1]}),
        ("a scalar, bare", {"inputs": coded[2]}, {"outputs": rows[2]}),
        ("a vector, named", {"inputs": {"input": coded}}, {"outputs": columns}),
        ("a vector, bare", {"inputs": coded}, {"outputs": columns}),
        ("a vector of one", {"inputs": coded[:1]}, {"outputs": one}),
        ("a matrix", {"inputs": [coded[:2]]},
         {"outputs": {name: [values[:2]] for name, values in columns.items()}}),
        ("rows", {"instances": coded}, {"predictions": rows}),
        ("one row", {"instances": coded[:1]}, {"predictions": rows[:1]}),
        ("named rows", {"instances": [{"input": each} for each in coded]}, {"predictions": rows}),
        ("a signature by its empty name", {"signature_name": "", "inputs": coded[0]},
         {"outputs": rows[0]}),
    ]
    found = [Pair(name, "POST", ":predict", body, 200, reply) for name, body, reply in questions]
    return [*found, Pair("a version", "POST", f"/versions/{version}:predict", {"inputs": coded[0]},
                         200, {"outputs": rows[0]})]


def _bad(files: Sequence[bytes], version: int) -> list[Pair]:
    coded = b64(files[0])
    bodies = {
        "nothing": b"", "no JSON": b"{", "no object": b"[1]", "no UTF-8": b'{"inputs": "\xff"}',
        "neither form": {}, "both forms": {"inputs": coded, "instances": [coded]},
        "bad base64": {"inputs": {"b64": "*"}}, "no image": {"inputs": b64(b"no image")},
        "text for an image": {"inputs": "text"}, "a number for an image": {"inputs": 7},
        "null for an image": {"instances": [None]}, "no rows": {"instances": []},
        "rows that are no list": {"instances": coded},
        "a wrong name": {"inputs": {"image": coded}},
        "a wrong name in a row": {"instances": [{"image": coded}]},
        "mixed rows": {"instances": [coded, {"input": coded}]},
        "ragged": {"inputs": [[coded], []]},
        "an unknown signature": {"signature_name": "other", "inputs": coded},
        "a signature that is no text": {"signature_name": 1, "inputs": coded},
        "a damaged image": {"inputs": b64(drawing.undecodable_png())},
        "a damaged image among good ones":
            {"instances": [coded, b64(drawing.undecodable_png()), coded]},
    }
    found = [Pair(name, "POST", ":predict", body, 400, None) for name, body in bodies.items()]
    return [*found,
            Pair("an unknown version", "POST", f"/versions/{version + 1}:predict",
                 {"inputs": coded}, 404, None),
            Pair("status of an unknown version", "GET", f"/versions/{version + 1}", None, 404,
                 None),
            Pair("metadata of an unknown version", "GET", f"/versions/{version + 1}/metadata",
                 None, 404, None),
            Pair("an unknown model", "POST", "x:predict", {"inputs": coded}, 404, None),
            Pair("status of an unknown model", "GET", "x", None, 404, None)]


def _told(version: int) -> list[Pair]:
    status = {"version": str(version), "state": "AVAILABLE",
              "status": {"error_code": "OK", "error_message": ""}}
    reply = {"model_version_status": [status]}
    return [Pair("status", "GET", "", None, 200, reply),
            Pair("status of a version", "GET", f"/versions/{version}", None, 200, reply)]


def check(pair: Pair, name: str, ask: Ask) -> None:
    """Puts a request to a server.

    Args:
        pair: The request.
        name: The model's name.
        ask: Sends method, path and body; gives code and parsed reply.
    """
    body = pair.body
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    code, reply = ask(pair.method, f"/v1/models/{name}{pair.path}", body)
    assert code == pair.code, (pair.name, code, reply)
    if pair.reply is None:
        assert list(reply) == ["error"], (pair.name, reply)
        assert isinstance(reply["error"], str)
        assert "Traceback" not in reply["error"]
    else:
        assert alike(reply, pair.reply), (pair.name, reply, pair.reply)


def alike(one: Any, other: Any) -> bool:
    """Equal, numbers to 1e-5."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, abs_tol=_TOLERANCE)
    return bool(one == other)


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


def _main(url: str, version: int, checkpoints: str) -> None:
    from aocr import Recognizer

    def ask(method: str, path: str, body: bytes | None) -> tuple[int, Any]:
        request = urllib.request.Request(url + path, body, method=method)
        try:
            with urllib.request.urlopen(request) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    files = images()
    answers = Recognizer.load(checkpoints).predict(files)
    assert isinstance(answers, list)
    found = pairs(files, answers, version)
    for pair in found:
        check(pair, "aocr", ask)
    print(f"{len(found)} passed, 0 failed")


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
