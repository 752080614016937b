"""Conversion between JSON and tensors, without a server."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aocr.serving import rest_codec
from aocr.serving.errors import ErrorCode, RequestError

STRING: dict[str, np.dtype[Any]] = {"input": np.dtype(object)}
TWO: dict[str, np.dtype[Any]] = {"a": np.dtype(np.float32), "b": np.dtype(np.int32)}


def decode(document: object, dtypes: dict[str, np.dtype[Any]]) -> rest_codec.Tensors:
    return rest_codec.tensors(rest_codec.parse(json.dumps(document).encode()), dtypes)


@pytest.mark.parametrize(("text", "data"), [
    ("AAEC", b"\0\1\2"), ("AAE=", b"\0\1"), ("AAE", b"\0\1"), ("AA", b"\0"), ("", b""),
    ("AA\nEC", b"\0\1\2"), (" AAE = ", b"\0\1")])
def test_base64_is_decoded_with_and_without_padding(text: str, data: bytes) -> None:
    assert decode({"inputs": {"b64": text}}, STRING)["input"].item() == data


@pytest.mark.parametrize("text", ["A", "*", "AA-_", "ö", "AAECA", "\ud800"])
def test_malformed_base64_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        decode({"inputs": {"b64": text}}, STRING)


def test_both_forms_give_the_same_tensors() -> None:
    column = decode({"inputs": {"a": [[1, 2.5], [3, 4]], "b": [5, 6]}}, TWO)
    row = decode({"instances": [{"a": [1, 2.5], "b": 5}, {"a": [3, 4], "b": 6}]}, TWO)
    for name in TWO:
        np.testing.assert_array_equal(column[name], row[name])
        assert column[name].dtype == row[name].dtype == TWO[name]


@pytest.mark.parametrize("document", [
    {"inputs": [1]}, {"instances": [1]}, {"inputs": {"a": 1}}, {"instances": [{"a": 1}]},
    {"instances": [{"a": 1, "b": 1, "c": 1}]}, {"inputs": {"a": 1, "b": 1.0}},
    {"inputs": {"a": 1, "b": 1 << 31}}, {"inputs": {"a": True, "b": 1}},
    {"inputs": {"a": 1e39, "b": 1}}, {"inputs": {"a": 10 ** 400, "b": 1}},
    {"inputs": {"a": "1", "b": 1}}, {"inputs": {"a": None, "b": 1}},
    {"inputs": {"a": [[1], [2, 3]], "b": 1}}, {"inputs": {"a": [[1], 2], "b": 1}},
    {"inputs": {"a": {"b64": "AA=="}, "b": 1}}])
def test_inputs_that_do_not_fit_the_signature_are_refused(document: object) -> None:
    with pytest.raises(RequestError) as raised:
        decode(document, TWO)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT


def test_nan_and_infinity_are_accepted() -> None:
    inputs = decode({"inputs": {"a": [math.nan, math.inf, -math.inf], "b": []}}, TWO)
    assert np.isnan(inputs["a"][0])
    assert inputs["a"][1:].tolist() == [math.inf, -math.inf]
    assert inputs["b"].shape == (0,)


def test_lists_nested_deeper_than_a_tensor_are_refused() -> None:
    with pytest.raises(RequestError, match="deeper"):
        rest_codec.tensors(rest_codec.parse(b'{"inputs": ' + b"[" * 90 + b"]" * 90 + b"}"), STRING)


def respond(outputs: dict[str, np.ndarray], form: str) -> Any:
    return json.loads(rest_codec.encode_response(outputs, form))


def test_responses_have_the_form_of_the_request() -> None:
    outputs = {"text": np.array([b"A", "ö".encode()], object), "p": np.array([0.1, 1], np.float32)}
    assert respond(outputs, rest_codec.COLUMN) == {
        "outputs": {"text": ["A", "ö"], "p": [0.1, 1.0]}}
    assert respond(outputs, rest_codec.ROW) == {
        "predictions": [{"text": "A", "p": 0.1}, {"text": "ö", "p": 1.0}]}
    single = {"p": np.array([[1], [2]])}
    assert respond(single, rest_codec.COLUMN) == {"outputs": [[1], [2]]}
    assert respond(single, rest_codec.ROW) == {"predictions": [[1], [2]]}
    assert respond({"x_bytes": np.array(b"\xff", object)}, rest_codec.COLUMN) == {
        "outputs": {"b64": "/w=="}}
    for wrong in ({"p": np.array(1.0)}, {"p": np.zeros(1), "q": np.zeros(2)}):
        with pytest.raises(RequestError):
            respond(wrong, rest_codec.ROW)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("AAAA"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["inputs", "instances", "b64", "input", "a", "b", "signature_name"]),
        inner, max_size=4), max_leaves=12)


@settings(max_examples=200, deadline=None)
@given(JSON, st.sampled_from([STRING, TWO]))
def test_any_json_gives_tensors_or_a_request_error(document: object, dtypes: dict[str, Any]
                                                   ) -> None:
    for key in ("inputs", "instances"):
        for body in (document, {key: document}):
            try:
                inputs = decode(body, dtypes)
            except RequestError as error:
                assert error.code is ErrorCode.INVALID_ARGUMENT
            else:
                assert {name: array.dtype for name, array in inputs.items()} == dtypes


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_a_request_error(body: bytes) -> None:
    try:
        rest_codec.parse(body)
    except RequestError as error:
        assert error.code is ErrorCode.INVALID_ARGUMENT
