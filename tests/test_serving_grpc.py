"""Messages of gRPC requests, without a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests import serving

serving.require_extra()

from tensorflow.core.framework import tensor_pb2, types_pb2  # noqa: E402

from aocr.serving import grpc_codec  # noqa: E402
from aocr.serving.errors import ErrorCode, RequestError  # noqa: E402

MAX_BYTES = 1000
STRING: dict[str, np.dtype[Any]] = {"input": np.dtype(object)}
TWO: dict[str, np.dtype[Any]] = {"images": np.dtype(np.float32), "widths": np.dtype(np.int32)}


def declared(dtype: int, *shape: int, **values: Any) -> tensor_pb2.TensorProto:
    """Returns a message of a type and shape, with any values."""
    message = tensor_pb2.TensorProto(dtype=dtype, **values)
    message.tensor_shape.SetInParent()
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    return message


def test_messages_become_tensors() -> None:
    images, widths = np.arange(6, dtype=np.float32).reshape(1, 2, 3), np.array([3], np.int32)
    inputs = grpc_codec.tensors({"images": tf.make_tensor_proto(images),
                                 "widths": tf.make_tensor_proto(widths)}, TWO, MAX_BYTES)
    np.testing.assert_array_equal(inputs["images"], images)
    np.testing.assert_array_equal(inputs["widths"], widths)
    (encoded,) = grpc_codec.tensors({"input": tf.make_tensor_proto(b"A")}, STRING, 8).values()
    assert encoded.shape == ()
    assert encoded.item() == b"A"


FLOATS, INTS = types_pb2.DT_FLOAT, types_pb2.DT_INT32
WIDTHS = declared(INTS, 1, int_val=[1])


@pytest.mark.parametrize(("messages", "text"), [
    ({}, r"expected the inputs images, widths, got \[\]"),
    ({"images": declared(FLOATS, 1)}, r"got \['images'\]"),
    ({f"x{n}": declared(FLOATS, 2, float_val=[0]) for n in range(300)}, "got .*…$"),
    ({"images": declared(INTS, 1), "widths": WIDTHS}, "expected the type float32, got int32"),
    ({"images": declared(types_pb2.DT_RESOURCE), "widths": WIDTHS}, "got resource"),
    ({"images": declared(99), "widths": WIDTHS}, "got the unknown type 99"),
    ({"images": declared(FLOATS, 5, -1), "widths": WIDTHS}, r"the shape \[5, -1\] does not fit"),
    ({"images": declared(FLOATS, 200), "widths": declared(INTS, 51)}, "declare 1004 bytes"),
    ({"images": declared(FLOATS, 1 << 40), "widths": WIDTHS}, "declare 4398046511108 bytes")])
def test_no_message_is_converted_unless_all_fit(
        monkeypatch: pytest.MonkeyPatch, messages: dict[str, tensor_pb2.TensorProto], text: str
        ) -> None:
    monkeypatch.setattr(tf, "make_ndarray", None)
    with pytest.raises(RequestError, match=text) as raised:
        grpc_codec.tensors(messages, TWO, MAX_BYTES)
    assert raised.value.code.grpc == "INVALID_ARGUMENT"


def test_strings_that_do_not_fill_the_shape_are_refused() -> None:
    message = declared(types_pb2.DT_STRING, 2, string_val=[b"A"])
    with pytest.raises(RequestError, match="does not fit the values"):
        grpc_codec.tensors({"input": message}, STRING, MAX_BYTES)


def test_values_beyond_the_type_are_refused() -> None:
    message = declared(types_pb2.DT_INT8, 1, int_val=[300])
    with pytest.raises(RequestError, match="does not fit") as raised:
        grpc_codec.tensors({"a": message}, {"a": np.dtype(np.int8)}, MAX_BYTES)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT
