"""Formats of exported models: functions to write each, and to load it again for a check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow.python.saved_model import fingerprinting_utils

from aocr.checkpoints import model_files
from aocr.inference import lite_export, onnx_export, saved_model, warmup
from aocr.inference.exported_model import ExportedModel, sample_images
from aocr.inference.recognizer import Recognizer

# Names of the tensors in the original's exports, by which TensorFlow 1 sessions feed and fetch.
_SESSION_INPUT = "input_image_as_bytes"
_SESSION_OUTPUTS = {"output": "prediction", "probability": "probability"}
# TensorFlow sets this attribute on nodes of lowered loops, which differ from run to run.
_ARBITRARY_ATTRIBUTE = "_has_manual_control_dependencies"
Predict = Callable[[tf.Tensor], tuple[np.ndarray, np.ndarray]]


class ExportFormat(NamedTuple):
    """A format of exported models.

    Attributes:
        file: The file that marks a directory as a model in this format.
        write: Writes a model to an existing directory.
        load: Loads the model in a directory; returns a function from encoded images to their
            texts and probabilities.
    """

    file: str
    write: Callable[[ExportedModel, str], None]
    load: Callable[[str], Predict]


class Int8Format(NamedTuple):
    """The quantized form of a format of exported models.

    Attributes:
        write: Writes a model to an existing directory; the encoded images show the ranges of
            values.
        load: Loads the model in a directory, for images of at most a number of pixels.
    """

    write: Callable[[ExportedModel, str, Sequence[bytes]], None]
    load: Callable[[str, int], Recognizer]


def _write_saved_model(model: ExportedModel, directory: str) -> None:
    tf.saved_model.save(model, directory, signatures={
        saved_model.DEFAULT_SIGNATURE: model.read, saved_model.DETAILS_SIGNATURE: model.details,
        saved_model.IMAGES_SIGNATURE: model.images})
    _name_session_tensors(directory)
    if warmup.available():
        warmup.write(directory, _warmup_requests(model))


def _name_session_tensors(directory: str) -> None:
    """Adds the tensors by which TensorFlow 1 sessions feed and fetch the default signature."""
    proto = saved_model.read_proto(directory)
    meta_graph = saved_model.serving_graph(proto)
    graph = meta_graph.graph_def
    signature = meta_graph.signature_def[saved_model.DEFAULT_SIGNATURE]
    placeholder = signature.inputs["input"].name.removesuffix(":0")
    for node in graph.node:
        node.input[:] = [_SESSION_INPUT if name == placeholder else name for name in node.input]
    tensors = {_SESSION_INPUT: signature.inputs["input"],
               **{name: signature.outputs[alias] for alias, name in _SESSION_OUTPUTS.items()}}
    for name, tensor in tensors.items():
        identity = graph.node.add(name=name, op="Identity", input=[tensor.name])
        identity.attr["T"].type = tensor.dtype
    path = tf.io.gfile.join(directory, model_files.SAVED_MODEL_FILE)
    tf.io.gfile.remove(path)  # on `ram://`, writing to an existing file appends to it
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(proto.SerializeToString(deterministic=True))
    fingerprinting_utils.write_fingerprint(directory)


def _warmup_requests(model: ExportedModel) -> list[warmup.Request]:
    """Returns requests to every signature.

    They hold vectors only: with batching enabled, TensorFlow Serving refuses scalars, and does not
    load a model whose warm-up fails.
    """
    (_, height, _, channels) = model.images.input_signature[0].shape
    samples = np.array(sample_images(channels), object)
    images = {"images": np.zeros((1, height, height, channels), np.float32),
              "widths": np.array([height], np.int32)}
    return [(saved_model.DEFAULT_SIGNATURE, {"input": samples[:1]}),
            (saved_model.DEFAULT_SIGNATURE, {"input": samples}),
            (saved_model.DETAILS_SIGNATURE, {"input": samples}),
            (saved_model.IMAGES_SIGNATURE, images)]


def _load_saved_model(directory: str) -> Predict:
    loaded = tf.saved_model.load(directory)

    def predict(encoded: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
        outputs = loaded.signatures[saved_model.DEFAULT_SIGNATURE](input=encoded)
        return outputs["output"].numpy(), outputs["probability"].numpy()

    return predict


def _write_frozen_graph(model: ExportedModel, directory: str) -> None:
    def read(encoded: tf.Tensor) -> list[tf.Tensor]:
        outputs = model.read(encoded)
        # Exactly one image gives scalars, also in a vector, as in the original's frozen graph.
        axes = tf.where(tf.size(encoded) == 1, 0, tf.rank(encoded))
        return [tf.reshape(outputs[alias], tf.shape(encoded)[:axes], name=name)
                for alias, name in _SESSION_OUTPUTS.items()]

    function = tf.function(read, autograph=False).get_concrete_function(
        tf.TensorSpec(None, tf.string, name=_SESSION_INPUT))
    graph = convert_variables_to_constants_v2(function).graph.as_graph_def()
    content = _reproducible(graph).SerializeToString(deterministic=True)
    path = tf.io.gfile.join(directory, model_files.FROZEN_GRAPH_FILE)
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(content)


def _reproducible(graph: tf.compat.v1.GraphDef) -> tf.compat.v1.GraphDef:
    """Returns the nodes that the outputs need, equal in every export of the same weights."""
    graph = tf.compat.v1.graph_util.extract_sub_graph(graph, list(_SESSION_OUTPUTS.values()))
    # TensorFlow names the constants made of variables by numbers that count up in a process.
    numbered = sorted((node.name for node in graph.node if node.name.isdecimal()), key=int)
    names = {name: f"weights/{n}" for n, name in enumerate(numbered)}
    for node in graph.node:
        node.name = names.get(node.name, node.name)
        node.input[:] = [names.get(name, name) for name in node.input]
        node.attr.pop(_ARBITRARY_ATTRIBUTE, None)
    graph.node.sort(key=lambda node: node.name)
    return graph


def _load_frozen_graph(directory: str) -> Predict:
    graph = tf.compat.v1.GraphDef()
    path = tf.io.gfile.join(directory, model_files.FROZEN_GRAPH_FILE)
    with tf.io.gfile.GFile(path, "rb") as file:
        graph.ParseFromString(file.read())

    def predict(encoded: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            tf.import_graph_def(graph, name="")
            output, probability = session.run([f"{name}:0" for name in _SESSION_OUTPUTS.values()],
                                              {f"{_SESSION_INPUT}:0": encoded.numpy()})
        return output, probability

    return predict


def _predictor(recognizer: Recognizer) -> Predict:
    def predict(encoded: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
        results = recognizer.predict(np.ravel(encoded.numpy()).tolist())
        assert isinstance(results, list)
        texts = np.array([result.text.encode() for result in results], object)
        probabilities = np.array([result.probability for result in results])
        return texts.reshape(encoded.shape), probabilities.reshape(encoded.shape)

    return predict


FORMATS = {
    "savedmodel": ExportFormat(model_files.SAVED_MODEL_FILE, _write_saved_model,
                               _load_saved_model),
    "frozengraph": ExportFormat(model_files.FROZEN_GRAPH_FILE, _write_frozen_graph,
                                _load_frozen_graph),
    "onnx": ExportFormat(model_files.ONNX_FILE, onnx_export.write,
                         lambda directory: _predictor(onnx_export.load(directory))),
    "tflite": ExportFormat(model_files.LITE_FILE, lite_export.write,
                           lambda directory: _predictor(lite_export.load(directory))),
}
INT8_FORMATS = {"onnx": Int8Format(onnx_export.write_int8, onnx_export.load),
                "tflite": Int8Format(lite_export.write_int8, lite_export.load)}
