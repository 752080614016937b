"""Converts between JSON and tensors as TensorFlow Serving's REST API does.

Source: https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from aocr.config import shown
from aocr.serving.errors import element, invalid

ROW, COLUMN = "instances", "inputs"
_RESPONSE_KEYS = {ROW: "predictions", COLUMN: "outputs"}
_BASE64 = "b64"
_BYTES_SUFFIX = "_bytes"
_MAX_DIMS = 32  # of NumPy 1
_PYTHON_TYPES: dict[str, set[type]] = {"b": {bool}, "f": {int, float}}  # by kind of the dtype
_INFINITE = (float("inf"), float("-inf"))
DTypes = Mapping[str, np.dtype[Any]]
Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class PredictRequest:
    """The body of a prediction request.

    Attributes:
        signature: Name of the signature; empty for the default one.
        form: Key of the inputs: `ROW` or `COLUMN`.
        value: The JSON value of that key.
    """

    signature: str
    form: str
    value: Any


def parse(body: bytes) -> PredictRequest:
    """Parses a request body.

    Raises:
        RequestError: It is not a JSON object of the documented form.
    """
    try:
        document = json.loads(body.decode("utf-8-sig"))
    except RecursionError as error:
        raise invalid("JSON Parse error: nested too deeply") from error
    except ValueError as error:  # not UTF-8, not JSON, or a number of too many digits
        raise invalid(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise invalid(f"expected a JSON object, got {shown(document)}")
    signature = document.get("signature_name", "")
    if not isinstance(signature, str):
        raise invalid(f"'signature_name' must be a string, got {shown(signature)}")
    forms = [form for form in (ROW, COLUMN) if form in document]
    if len(forms) != 1:
        raise invalid("expected one of 'inputs' and 'instances', got "
                      + ("both" if forms else "neither"))
    return PredictRequest(signature, forms[0], document[forms[0]])


def tensors(request: PredictRequest, dtypes: DTypes) -> Tensors:
    """Returns the input tensors of a request.

    Args:
        request: The parsed body.
        dtypes: Type of each input of the signature.

    Raises:
        RequestError: A name, shape or type does not fit the signature.
    """
    columns = _columns(request, sorted(dtypes))
    return {name: tensor(columns[name], dtype, name) for name, dtype in dtypes.items()}


def tensor(value: object, dtype: np.dtype[Any], name: str) -> np.ndarray:
    """Converts a JSON value to a tensor.

    Args:
        value: A scalar or a nested list.
        dtype: Type of the elements; object for strings.
        name: Name of the input, for error messages.

    Raises:
        RequestError: The lists are ragged, or an element has another type.
    """
    shape: list[int] = []
    leaves = [value]
    while leaves and isinstance(leaves[0], list):
        size = len(leaves[0])
        if any(not isinstance(leaf, list) or len(leaf) != size for leaf in leaves):
            raise invalid(f"input {name!r}: the lists at depth {len(shape)} differ in length")
        shape.append(size)
        if len(shape) > _MAX_DIMS:
            raise invalid(f"input {name!r}: lists nested deeper than a tensor can be")
        leaves = list(chain.from_iterable(leaves))  # type: ignore[arg-type]
    array = np.empty(len(leaves), dtype)
    if dtype.kind == "O":
        array[:] = [_string(leaf, name, shape, n) for n, leaf in enumerate(leaves)]
    else:
        array[:] = _numbers(leaves, dtype, name)
    return array.reshape(shape)


def encode_response(outputs: Mapping[str, np.ndarray], form: str) -> bytes:
    """Returns the response body for a request of a form.

    Raises:
        RequestError: The row form was requested, but the outputs have no common batch dimension.
    """
    values = {name: _to_json(name, array) for name, array in sorted(outputs.items())}
    content: Any = values if len(values) > 1 else next(iter(values.values()))
    if form == ROW:
        if any(array.ndim == 0 for array in outputs.values()):
            raise invalid("the outputs have no batch dimension; use the 'inputs' form")
        if len({len(array) for array in outputs.values()}) > 1:
            raise invalid("the outputs differ in batch size; use the 'inputs' form")
        if len(values) > 1:
            content = [dict(zip(values, row, strict=True))
                       for row in zip(*values.values(), strict=True)]
    return json.dumps({_RESPONSE_KEYS[form]: content}, ensure_ascii=False).encode()


def _columns(request: PredictRequest, names: list[str]) -> dict[str, Any]:
    """Returns the JSON value of each input."""
    value = request.value
    if request.form == ROW:
        return _columns_of_rows(value, names)
    if not _is_named(value):
        return {_only(names): value}
    missing = [name for name in names if name not in value]
    if missing:
        raise invalid(f"missing named input {missing[0]!r} in 'inputs', got "
                      f"{shown(sorted(value))}")
    return value


def _columns_of_rows(rows: object, names: list[str]) -> dict[str, Any]:
    if not isinstance(rows, list) or not rows:
        raise invalid(f"expected 'instances' to be a list of at least one, got {shown(rows)}")
    named = [_is_named(row) for row in rows]
    if not any(named):
        return {_only(names): rows}
    if not all(named):
        raise invalid("'instances' mixes objects with plain values")
    for n, row in enumerate(rows):
        if sorted(row) != names:
            raise invalid(f"instance {n}: expected the keys {', '.join(names)}, got "
                          f"{shown(sorted(row))}")
    return {name: [row[name] for row in rows] for name in names}


def _is_named(value: object) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value: object) -> bool:
    return isinstance(value, dict) and list(value) == [_BASE64] and isinstance(
        value[_BASE64], str)


def _only(names: list[str]) -> str:
    if len(names) > 1:
        raise invalid(f"expected an object, as the signature has the inputs {', '.join(names)}")
    return names[0]


def _string(leaf: object, name: str, shape: list[int], index: int) -> bytes:
    """Returns the bytes of an element of an input."""
    try:
        if _is_base64(leaf):
            return _decode_base64(leaf[_BASE64])  # type: ignore[index]
        if isinstance(leaf, str):
            return leaf.encode()
        problem = f"expected a string or {{\"b64\": …}}, got {shown(leaf)}"
    except UnicodeEncodeError:
        problem = "a string with half of a surrogate pair"
    except ValueError as error:
        problem = f"unable to decode base64: {error}"
    raise invalid(f"{element(name, shape, index)}: {problem}")


def _decode_base64(text: str) -> bytes:
    """Decodes base64 with or without padding, which may contain whitespace.

    Raises:
        ValueError: It is malformed.
    """
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        unpadded = "".join(text.split()).rstrip("=")
    return base64.b64decode(unpadded + "=" * (-len(unpadded) % 4), validate=True)


def _numbers(leaves: list[object], dtype: np.dtype[Any], name: str) -> np.ndarray:
    wrong = set(map(type, leaves)) - _PYTHON_TYPES.get(dtype.kind, {int})
    if wrong:
        raise invalid(f"input {name!r}: expected elements of type {dtype}, got "
                      f"{', '.join(sorted(kind.__name__ for kind in wrong))}")
    try:
        with np.errstate(over="ignore"):
            array = np.array(leaves, dtype)
    except OverflowError as error:
        raise invalid(f"input {name!r}: a number does not fit the type {dtype}") from error
    if dtype.kind == "f" and np.isinf(array).sum() > sum(leaf in _INFINITE for leaf in leaves):
        raise invalid(f"input {name!r}: a number does not fit the type {dtype}")
    return array


def _to_json(name: str, array: np.ndarray) -> Any:  # noqa: ANN401
    if array.dtype == object:
        encode = _encode_base64 if name.endswith(_BYTES_SUFFIX) else _encode_text
        encoded = np.empty(array.size, object)
        encoded[:] = [encode(item) for item in array.flat]
        return encoded.reshape(array.shape).tolist()
    if array.dtype == np.float32:  # 0.1, not 0.10000000149011612
        return array.astype(str).astype(np.float64).tolist()
    return array.tolist()


def _encode_text(item: bytes) -> str:
    return item.decode("utf-8", "replace")


def _encode_base64(item: bytes) -> dict[str, str]:
    return {_BASE64: base64.b64encode(item).decode()}
