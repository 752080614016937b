"""Writes a model in the format ONNX, for ONNX Runtime, OpenVINO and web browsers.

The file contains the network and greedy decoding; images are decoded and scaled by the caller (see
`aocr.images.numpy_preprocessing`). Its metadata hold the content of `config.json`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from aocr.checkpoints import config_file
from aocr.errors import AocrError
from aocr.images import numpy_preprocessing
from aocr.inference import onnx_model, onnx_quantization
from aocr.inference.exported_model import ExportedModel, config_sections, images_outputs
from aocr.inference.graph import RecognitionGraph
from aocr.inference.onnx_recognizer import OnnxRecognizer, open_session
from aocr.model.encoder import Encoder

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
_ENCODED = ("outputs", "last_h", "last_c")


def write(model: ExportedModel, directory: str) -> None:
    """Writes `model.onnx` to an existing directory.

    Raises:
        AocrError: A package that this needs is not installed.
    """
    proto = _convert_cnn(model)
    _append_encoder(proto.graph, model.graph.model.encoder)
    _append_decoder(proto.graph, _convert_decoder(model.graph))
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
    proto = onnx_quantization.quantize_convolutions(_convert_cnn(model), images)
    _append_encoder(proto.graph, graph.model.encoder)
    _append_decoder(proto.graph, _convert_decoder(graph))
    _save(onnx_quantization.quantize_matrices(proto), graph, directory)


def load(directory: str) -> OnnxRecognizer:
    """Loads the model in a directory."""
    path = tf.io.gfile.join(directory, onnx_model.ONNX_FILE)
    with tf.io.gfile.GFile(path, "rb") as file:
        return OnnxRecognizer(path, open_session(path, file.read()))


def _require_packages() -> None:
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise AocrError(f"exporting to ONNX needs {', '.join(missing)}: run pip install "
                        "'.[onnx]' in the source directory of aocr")


def _save(proto: onnx.ModelProto, graph: RecognitionGraph, directory: str) -> None:
    import onnx

    text = config_file.to_text(graph.config, config_sections(graph))
    onnx.helper.set_model_props(proto, {onnx_model.CONFIG_KEY: text})
    _name_axes(proto)
    with tf.io.gfile.GFile(tf.io.gfile.join(directory, onnx_model.ONNX_FILE), "wb") as file:
        file.write(proto.SerializeToString(deterministic=True))


def _convert_cnn(model: ExportedModel) -> onnx.ModelProto:
    """Returns the model from images to feature columns, `[time, batch, 512]`."""
    def features(images: tf.Tensor, widths: tf.Tensor) -> dict[str, tf.Tensor]:
        columns, lengths = model.graph.model.features(images, widths)
        return dict(zip(_FEATURES, (tf.transpose(columns, [1, 0, 2]), lengths), strict=True))

    return _convert(features, model.images.input_signature)


def _convert_decoder(graph: RecognitionGraph) -> onnx.ModelProto:
    """Returns the model from the outputs of the ONNX operation LSTM to the outputs."""
    units = graph.config.encoder_units

    def decode(outputs: tf.Tensor, last_h: tf.Tensor, last_c: tf.Tensor, lengths: tf.Tensor
               ) -> dict[str, tf.Tensor]:
        by_row = tf.transpose(outputs, [2, 0, 1, 3])  # from [time, directions, batch, units]
        values = tf.reshape(by_row, tf.concat([tf.shape(by_row)[:2], [2 * units]], 0))
        last_states = tf.concat([last_c[0], last_h[0], last_c[1], last_h[1]], -1)
        memory = graph.model.decoder.attend_over(values, lengths, last_states)
        # ONNX Runtime has no float64 kernels of several operations.
        return images_outputs(graph.decode(memory, tf.float32))

    shapes = ([None, 2, None, units], [2, None, units], [2, None, units])
    return _convert(decode, [
        *(tf.TensorSpec(shape, tf.float32, name)
          for shape, name in zip(shapes, _ENCODED, strict=True)),
        tf.TensorSpec([None], tf.int32, "lengths")])


def _convert(function: Callable[..., dict[str, tf.Tensor]], signature: Sequence[tf.TensorSpec]
             ) -> onnx.ModelProto:
    _require_packages()
    import tf2onnx

    proto, _ = tf2onnx.convert.from_function(
        tf.function(function, autograph=False), input_signature=signature, opset=_OPSET)
    return proto


def _append_encoder(graph: onnx.GraphProto, encoder: Encoder) -> None:
    """Appends the encoder to the graph of the CNN.

    The converter would make loops of it, which take four times as long as the operation LSTM.
    """
    from onnx import helper, numpy_helper

    weights = [_lstm_weights(cell.kernel.numpy(), cell.bias.numpy())
               for cell in (encoder.forward, encoder.backward)]
    names = ("input_weights", "recurrent_weights", "biases")
    for name, directions in zip(names, zip(*weights, strict=True), strict=True):
        graph.initializer.append(numpy_helper.from_array(np.stack(directions), name))
    columns, lengths = _FEATURES
    graph.node.append(helper.make_node(
        "LSTM", [columns, *names, lengths], _ENCODED, direction="bidirectional",
        hidden_size=encoder.forward.kernel.shape[1] // 4))


def _append_decoder(graph: onnx.GraphProto, decoder: onnx.ModelProto) -> None:
    """Appends the decoder, whose inputs have the names of earlier values, to the graph."""
    import onnx

    # Without a prefix, its other values might have the names of earlier ones.
    onnx.compose.add_prefix(decoder, "decoder/", rename_inputs=False, rename_outputs=False,
                            inplace=True)
    _hoist_constants(decoder.graph)
    graph.node.extend(decoder.graph.node)
    graph.initializer.extend(decoder.graph.initializer)
    del graph.output[:]
    graph.output.extend(decoder.graph.output)


def _lstm_weights(kernel: np.ndarray, bias: np.ndarray
                  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the weights of an `LstmCell` as those of one direction of the ONNX operation LSTM.

    Returns:
        `[4 * units, inputs]`, `[4 * units, units]` and, for both matrices, biases `[8 * units]`;
        gates in the order i, o, f, j (candidate).
    """
    units = len(bias) // 4
    i, j, f, o = np.split(np.vstack([kernel, bias]), 4, axis=1)
    gates = np.concatenate([i, o, f, j], 1).T
    biases = np.concatenate([gates[:, -1], np.zeros_like(bias)])
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
