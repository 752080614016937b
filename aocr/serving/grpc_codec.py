"""Converts the messages of tensors that gRPC requests hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from aocr.config import shown
from aocr.serving.errors import ErrorCode, RequestError, invalid


def tensors(messages: Mapping[str, Any], dtypes: Mapping[str, np.dtype[Any]], max_bytes: int
            ) -> dict[str, np.ndarray]:
    """Returns the input tensors of a request.

    Args:
        messages: The `TensorProto` of each input.
        dtypes: Type of each input of the signature; object for strings.
        max_bytes: Largest allowed size of all tensors together. A message of a few bytes can
            declare a large tensor, as its last value is repeated until the shape is full.

    Raises:
        RequestError: A name, type or shape does not fit the signature, or the tensors are too
            large.
    """
    if set(messages) != set(dtypes):
        raise invalid(f"expected the inputs {', '.join(sorted(dtypes))}, got "
                      f"{shown(sorted(messages))}")
    sizes = [_elements(name, messages[name], dtype) * dtype.itemsize
             for name, dtype in dtypes.items()]
    if sum(sizes) > max_bytes:
        raise RequestError(ErrorCode.TOO_LARGE, f"the shapes of the inputs declare {sum(sizes)} "
                           f"bytes; at most {max_bytes} are accepted (--max-body-bytes)")
    return {name: _to_array(name, messages[name]) for name in dtypes}


def _elements(name: str, message: Any, dtype: np.dtype[Any]) -> int:  # noqa: ANN401
    """Returns the number of elements that a message declares; refuses another type."""
    expected = tf.dtypes.as_dtype(dtype)
    if message.dtype != expected.as_datatype_enum:
        raise invalid(f"input {name!r}: expected the type {expected.name}, got "
                      f"{_type_name(message.dtype)}")
    sizes = [axis.size for axis in message.tensor_shape.dim]
    elements = math.prod(sizes)
    strings = len(message.string_val) if expected == tf.string else 0
    if message.tensor_shape.unknown_rank or min(sizes, default=0) < 0 or (
            strings and strings != elements):
        raise invalid(f"input {name!r}: the shape {shown(sizes)} does not fit the values")
    return elements


def _type_name(number: int) -> str:
    try:
        return tf.dtypes.as_dtype(number).name
    except TypeError:
        return f"the unknown type {number}"


def _to_array(name: str, message: Any) -> np.ndarray:  # noqa: ANN401
    try:
        return tf.make_ndarray(message)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise invalid(f"input {name!r}: the shape or type does not fit the values") from error
