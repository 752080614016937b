"""Writes a model in the format ONNX, for ONNX Runtime, OpenVINO and web browsers.

The file contains the network and greedy decoding; images are decoded and scaled by the caller (see
`aocr.images.numpy_preprocessing`). Its metadata hold the content of `config.json`.

The graph of a compact model (`write_graph`) has no weights: they are inputs of the functions that
are converted, and become initializers whose values ONNX Runtime gets from the caller.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import tensorflow as tf

from aocr.checkpoints import compact, config_file, model_files
from aocr.config import MAX_PIXELS, ModelConfig
from aocr.errors import AocrError
from aocr.images import numpy_preprocessing
from aocr.inference import onnx_model, onnx_quantization
from aocr.inference.decoding import GreedyDecoding
from aocr.inference.exported_model import (
    ExportedModel,
    config_sections,
    images_outputs,
    images_signature,
)
from aocr.inference.graph import RecognitionGraph
from aocr.inference.onnx_recognizer import OnnxRecognizer
from aocr.model import AttentionOCR
from aocr.model.encoder import Encoder
from aocr.model.layers import Initializer

if TYPE_CHECKING:
    import onnx

# The newest that the converter writes; ONNX Runtime reads it from version 1.14 on.
_OPSET = 18
_AXES = {"images": ("batch", "", "width", ""), "widths": ("batch",), "ids": ("batch", "steps"),
         "probability": ("batch",), "character_probabilities": ("batch", "steps"),
         "attention": ("batch", "steps", "columns")}
_PACKAGES = ("tf2onnx", "onnx", "onnxruntime")
# Values that one part of the graph computes for the next; the outputs of the encoder are those of
# the ONNX operation LSTM.
_FEATURES = ("columns", "lengths")
_LSTM_WEIGHTS = ("input_weights", "recurrent_weights", "biases")
_ENCODED = ("outputs", "last_h", "last_c")


class _Network(NamedTuple):
    """A network whose weights are constants or inputs of the functions that are converted.

    Attributes:
        config: The model's settings.
        build: Returns the graph around the network, given the weights that are inputs.
        weights: Types of these inputs; none if the weights are constants.
    """

    config: ModelConfig
    build: Callable[..., RecognitionGraph]
    weights: Sequence[tf.TensorSpec] = ()


class _GivenWeights(Initializer):
    """Uses tensors in place of variables."""

    def __init__(self, tensors: Mapping[str, tf.Tensor]) -> None:
        super().__init__()
        self._tensors = tensors

    def glorot(self, name: str, shape: Sequence[int]) -> tf.Tensor:
        """Returns a given tensor."""
        return self._tensors[name]

    def constant(self, name: str, shape: Sequence[int], value: float, trainable: bool = True
                 ) -> tf.Tensor:
        """Returns a given tensor."""
        return self._tensors[name]

    def counter(self, name: str) -> tf.Tensor:
        """Returns a value that inference does not need."""
        return tf.constant(0, tf.int64)


def write(model: ExportedModel, directory: str) -> None:
    """Writes `model.onnx` to an existing directory.

    Raises:
        AocrError: A package that this needs is not installed.
    """
    network = _constant(model.graph)
    proto = _convert_cnn(network)
    _append_lstm_weights(proto.graph, model.graph.model.encoder)
    _append_encoder_and_decoder(proto.graph, network)
    _save(proto, model.graph, directory)


def write_int8(model: ExportedModel, directory: str, samples: Sequence[bytes]) -> None:
    """Writes a quantized `model.onnx` to an existing directory.

    Args:
        model: The model.
        directory: The directory.
        samples: Encoded images, which determine the ranges of the values of the convolutions.

    Raises:
        AocrError: A package that this needs is not installed.
        SkipError: A sample cannot be decoded.
    """
    graph = model.graph
    images = [numpy_preprocessing.preprocess(encoded, graph.config, graph.max_pixels)
              for encoded in samples]
    network = _constant(graph)
    proto = onnx_quantization.quantize_convolutions(_convert_cnn(network), images)
    _append_lstm_weights(proto.graph, graph.model.encoder)
    _append_encoder_and_decoder(proto.graph, network)
    _save(onnx_quantization.quantize_matrices(proto), graph, directory)


def write_graph(model: AttentionOCR, config: ModelConfig, directory: str) -> None:
    """Writes `graph.onnx` to the directory of a compact model.

    Args:
        model: The model, whose weights have no influence.
        config: Its settings.
        directory: An existing local directory.

    Raises:
        AocrError: A package that this needs is not installed.
    """
    weights = [*(tf.TensorSpec(variable.shape, tf.float32, name)
                 for name, variable in compact.named_variables(model)
                 if variable.dtype.is_floating),
               tf.TensorSpec([], tf.float32, onnx_model.TEMPERATURE)]

    def build(*tensors: tf.Tensor) -> RecognitionGraph:
        named = {spec.name: tensor for spec, tensor in zip(weights, tensors, strict=True)}
        return RecognitionGraph(config, AttentionOCR(config, _GivenWeights(named)),
                                decoding=GreedyDecoding(named[onnx_model.TEMPERATURE]))

    network = _Network(config, build, weights)
    proto = _convert_cnn(network)
    _append_encoder_and_decoder(proto.graph, network)
    _make_initializers(proto.graph, len(weights))
    _name_axes(proto)
    Path(directory, onnx_model.GRAPH_FILE).write_bytes(proto.SerializeToString(deterministic=True))


def load(directory: str, max_pixels: int = MAX_PIXELS) -> OnnxRecognizer:
    """Loads the model in a directory; see `Recognizer.load`."""
    path = tf.io.gfile.join(directory, model_files.ONNX_FILE)
    return OnnxRecognizer.load(path, max_pixels=max_pixels)


def require_packages() -> None:
    """Checks that the packages that write and read ONNX models are installed.

    Raises:
        AocrError: One is missing.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise AocrError(f"exporting to ONNX needs {', '.join(missing)}: run pip install "
                        "'.[onnx]' in the source directory of aocr")


def _save(proto: onnx.ModelProto, graph: RecognitionGraph, directory: str) -> None:
    import onnx

    text = config_file.to_text(graph.config, config_sections(graph))
    onnx.helper.set_model_props(proto, {onnx_model.CONFIG_KEY: text})
    _name_axes(proto)
    with tf.io.gfile.GFile(tf.io.gfile.join(directory, model_files.ONNX_FILE), "wb") as file:
        file.write(proto.SerializeToString(deterministic=True))


def _constant(graph: RecognitionGraph) -> _Network:
    return _Network(graph.config, lambda: graph)


def _convert_cnn(network: _Network) -> onnx.ModelProto:
    """Returns the model from images to feature columns, `[time, batch, 512]`.

    Weights of the operation LSTM are outputs, too, if they are computed from inputs.
    """
    def features(images: tf.Tensor, widths: tf.Tensor, *weights: tf.Tensor
                 ) -> dict[str, tf.Tensor]:
        model = network.build(*weights).model
        columns, lengths = model.features(images, widths)
        return {**dict(zip(_FEATURES, (tf.transpose(columns, [1, 0, 2]), lengths), strict=True)),
                **(_lstm_weights(model.encoder) if weights else {})}

    return _convert(features, [*images_signature(network.config), *network.weights])


def _convert_decoder(network: _Network) -> onnx.ModelProto:
    """Returns the model from the outputs of the ONNX operation LSTM to the outputs."""
    units = network.config.encoder_units

    def decode(outputs: tf.Tensor, last_h: tf.Tensor, last_c: tf.Tensor, lengths: tf.Tensor,
               *weights: tf.Tensor) -> dict[str, tf.Tensor]:
        by_row = tf.transpose(outputs, [2, 0, 1, 3])  # from [time, directions, batch, units]
        values = tf.reshape(by_row, tf.concat([tf.shape(by_row)[:2], [2 * units]], 0))
        last_states = tf.concat([last_c[0], last_h[0], last_c[1], last_h[1]], -1)
        graph = network.build(*weights)
        memory = graph.model.decoder.attend_over(values, lengths, last_states)
        # ONNX Runtime has no float64 kernels of several operations.
        return images_outputs(graph.decode(memory, tf.float32))

    shapes = ([None, 2, None, units], [2, None, units], [2, None, units])
    return _convert(decode, [
        *(tf.TensorSpec(shape, tf.float32, name)
          for shape, name in zip(shapes, _ENCODED, strict=True)),
        tf.TensorSpec([None], tf.int32, "lengths"), *network.weights])


def _convert(function: Callable[..., dict[str, tf.Tensor]], signature: Sequence[tf.TensorSpec]
             ) -> onnx.ModelProto:
    require_packages()
    import tf2onnx

    proto, _ = tf2onnx.convert.from_function(
        tf.function(function, autograph=False), input_signature=signature, opset=_OPSET)
    return proto


def _append_lstm_weights(graph: onnx.GraphProto, encoder: Encoder) -> None:
    from onnx import numpy_helper

    graph.initializer.extend(numpy_helper.from_array(tensor.numpy(), name)
                             for name, tensor in _lstm_weights(encoder).items())


def _append_encoder_and_decoder(graph: onnx.GraphProto, network: _Network) -> None:
    """Appends encoder and decoder to the graph of the CNN.

    The converter would make loops of the encoder, which take four times as long as the operation
    LSTM.
    """
    import onnx

    columns, lengths = _FEATURES
    graph.node.append(onnx.helper.make_node(
        "LSTM", [columns, *_LSTM_WEIGHTS, lengths], _ENCODED, direction="bidirectional",
        hidden_size=network.config.encoder_units))
    decoder = _convert_decoder(network)
    # Without a prefix, its other values might have the names of earlier ones.
    onnx.compose.add_prefix(decoder, "decoder/", rename_inputs=False, rename_outputs=False,
                            inplace=True)
    _hoist_constants(decoder.graph)
    graph.node.extend(decoder.graph.node)
    graph.initializer.extend(decoder.graph.initializer)
    del graph.output[:]
    graph.output.extend(decoder.graph.output)


def _make_initializers(graph: onnx.GraphProto, number: int) -> None:
    """Turns the last inputs of a graph into initializers whose values are not in the file."""
    import onnx

    for value in graph.input[-number:]:
        tensor = onnx.TensorProto(
            name=value.name, data_type=value.type.tensor_type.elem_type,
            dims=[dimension.dim_value for dimension in value.type.tensor_type.shape.dim],
            data_location=onnx.TensorProto.EXTERNAL)
        # Not the file itself: ONNX Runtime would read numbers from its start.
        tensor.external_data.add(key="location", value=f"{model_files.COMPACT_FILE}/{value.name}")
        graph.initializer.append(tensor)
    del graph.input[-number:]


def _lstm_weights(encoder: Encoder) -> dict[str, tf.Tensor]:
    """Returns the weights of the encoder as those of the ONNX operation LSTM.

    Returns:
        `[2, 4 * units, inputs]`, `[2, 4 * units, units]` and, for both matrices, biases
        `[2, 8 * units]`; gates in the order i, o, f, j (candidate).
    """
    directions = (_direction_weights(cell.kernel, cell.bias)
                  for cell in (encoder.forward, encoder.backward))
    return dict(zip(_LSTM_WEIGHTS, map(tf.stack, zip(*directions, strict=True)), strict=True))


def _direction_weights(kernel: tf.Tensor, bias: tf.Tensor
                       ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    units = bias.shape[0] // 4
    i, j, f, o = tf.split(tf.concat([kernel, bias[None]], 0), 4, axis=1)
    gates = tf.transpose(tf.concat([i, o, f, j], 1))
    biases = tf.concat([gates[:, -1], tf.zeros_like(bias)], 0)
    return gates[:, :-units - 1], gates[:, -units - 1:-1], biases


def _hoist_constants(graph: onnx.GraphProto) -> None:
    """Lets the bodies of loops use outer values directly that no iteration changes.

    The converter makes them inputs and outputs of the body, which hides that they are weights, and
    which OpenVINO refuses.
    """
    for loop in (node for node in graph.node if node.op_type == "Loop"):
        (body,) = (attribute.g for attribute in loop.attribute if attribute.name == "body")
        # Outputs do not include the number of the iteration, which is the first input.
        constant = [n for n in range(2, len(loop.input))
                    if body.input[n].name == body.output[n - 1].name]
        outer = {body.input[n].name: loop.input[n] for n in constant}
        for node in body.node:
            node.input[:] = [outer.get(name, name) for name in node.input]
        for n in reversed(constant):
            del loop.input[n], loop.output[n - 2], body.input[n], body.output[n - 1]


def _name_axes(proto: onnx.ModelProto) -> None:
    """Names the axes whose sizes vary."""
    for value in (*proto.graph.input, *proto.graph.output):
        for dimension, name in zip(value.type.tensor_type.shape.dim, _AXES[value.name],
                                   strict=True):
            if name:
                dimension.dim_param = name
