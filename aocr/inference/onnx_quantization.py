"""Quantizes ONNX models to int8 with ONNX Runtime.

The convolutions compute with fixed ranges of values, which are those of sample images. The first
three remain in float32: they hold 4 % of the weights, and their errors pass through all others. The
LSTM and the matrix products compute the range of their input at each call. All weights are scaled
by output channel. Those of the convolutions have 7 bits, since sums of products with signed 8-bit
weights overflow on processors without the instruction set VNNI. The others are unsigned, for which
ONNX Runtime has instructions that are slower and do not overflow: 7 bits would cost a model that
reads 46 % of a set two percentage points.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aocr.images import numpy_preprocessing
from aocr.inference import onnx_model

if TYPE_CHECKING:
    import onnx

_FLOAT_CONVOLUTIONS = 3


def quantize_convolutions(proto: onnx.ModelProto, images: Iterable[np.ndarray]) -> onnx.ModelProto:
    """Quantizes the convolutions of a model except for the first three.

    Args:
        proto: A model with the inputs `images` and `widths`.
        images: Sample images, `[32, width, channels]` each.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Samples(CalibrationDataReader):
        _batches = (numpy_preprocessing.pad_batch([image]) for image in images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._batches, None)
            return batch and dict(zip(onnx_model.INPUTS, batch, strict=True))

    convolutions = [node.name for node in proto.graph.node if node.op_type == "Conv"]
    return _apply(proto, lambda source, target: quantize_static(
        source, target, Samples(), op_types_to_quantize=["Conv"],
        nodes_to_exclude=convolutions[:_FLOAT_CONVOLUTIONS], per_channel=True, reduce_range=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8))


def quantize_matrices(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Quantizes the operations LSTM and MatMul of a model, also within loops."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    return _apply(proto, lambda source, target: quantize_dynamic(
        source, target, op_types_to_quantize=["LSTM", "MatMul"], per_channel=True,
        weight_type=QuantType.QUInt8,
        extra_options={"EnableSubgraph": True, "MatMulConstBOnly": True}))


def _apply(proto: onnx.ModelProto, quantize: Callable[[Path, Path], None]) -> onnx.ModelProto:
    """Applies a function from file to file, since those of ONNX Runtime change a model itself."""
    import onnx

    with tempfile.TemporaryDirectory() as directory:
        source, target = (Path(directory) / name for name in ("source.onnx", "target.onnx"))
        onnx.save(proto, source)
        with _hidden_warnings():
            quantize(source, target)
        return onnx.load(target)


@contextlib.contextmanager
def _hidden_warnings() -> Iterator[None]:
    """Hides the advice that ONNX Runtime writes to the root logger."""
    logger, handler = logging.getLogger(), logging.NullHandler()
    level = logger.level
    logger.addHandler(handler)  # without one, the first warning would set up another
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
