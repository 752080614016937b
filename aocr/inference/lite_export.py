"""Writes a model in the format of LiteRT (formerly TensorFlow Lite), for phones and small boards.

The file contains the network and greedy decoding of one image at a time, in built-in operations;
images are decoded, scaled and padded to the model's full width by the caller.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from aocr.checkpoints import config_file
from aocr.checkpoints.model_files import LITE_FILE
from aocr.config import IMAGE_HEIGHT, MAX_PIXELS, ModelConfig
from aocr.errors import AocrError
from aocr.inference import onnx_model
from aocr.inference.decoding import score_greedy
from aocr.inference.exported_model import ExportedModel, images_outputs
from aocr.inference.numpy_recognizer import NumpyRecognizer
from aocr.inference.saved_model import EXTRA_ASSETS

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import SignatureRunner

_PACKAGE = "ai_edge_litert"


class LiteRecognizer(NumpyRecognizer):
    """A recognizer around a LiteRT model, which recognizes one image at a time.

    Args:
        source: Path of the model.
        config: The settings of the model.
        runner: Calls the model's signature.
        max_pixels: Largest number of pixels of an image.
    """

    def __init__(self, source: str, config: ModelConfig, runner: SignatureRunner,
                 max_pixels: int) -> None:
        super().__init__(source, config, max_pixels)
        self._runner = runner

    def _run(self, images: np.ndarray, widths: np.ndarray) -> Sequence[np.ndarray]:
        padding = self.config.input_width - images.shape[2]
        padded = np.pad(images, ((0, 0), (0, 0), (0, padding), (0, 0)))
        outputs = [self._runner(images=padded[n:n + 1], widths=widths[n:n + 1])
                   for n in range(len(widths))]
        return [np.concatenate([output[name] for output in outputs])
                for name in onnx_model.OUTPUTS]


def write(model: ExportedModel, directory: str) -> None:
    """Writes `model.tflite` to an existing directory.

    Raises:
        AocrError: The package that checks the model is not installed, or decoding is not greedy.
    """
    _write(model, directory, [])


def write_int8(model: ExportedModel, directory: str, samples: Sequence[bytes]) -> None:
    """Writes `model.tflite` with weights in int8 to an existing directory.

    Args:
        model: The model.
        directory: The directory.
        samples: Not needed: LiteRT computes the ranges of the values at each call.

    Raises:
        AocrError: The package that checks the model is not installed, or decoding is not greedy.
    """
    del samples
    _write(model, directory, [tf.lite.Optimize.DEFAULT])


def load(directory: str, max_pixels: int = MAX_PIXELS) -> LiteRecognizer:
    """Loads the model in a directory; see `Recognizer.load`."""
    from ai_edge_litert.interpreter import Interpreter

    path = tf.io.gfile.join(directory, LITE_FILE)
    with tf.io.gfile.GFile(path, "rb") as file:
        interpreter = Interpreter(model_content=file.read())
    config = config_file.load(tf.io.gfile.join(directory, EXTRA_ASSETS))
    return LiteRecognizer(path, config, interpreter.get_signature_runner(), max_pixels)


def _write(model: ExportedModel, directory: str, optimizations: list[Any]) -> None:
    if importlib.util.find_spec(_PACKAGE) is None:
        raise AocrError("exporting to LiteRT needs ai-edge-litert: run pip install '.[lite]' in "
                        "the source directory of aocr")
    graph = model.graph
    if graph.decoding.describe():
        raise AocrError("a LiteRT model decodes greedily: leave out --pattern, --lexicon, --beam "
                        "and --n-best")

    def decode(images: tf.Tensor, widths: tf.Tensor) -> dict[str, tf.Tensor]:
        decoded = graph.model.greedy(graph.model.encode(images, widths), until_eos=False)
        return images_outputs(score_greedy(decoded, tf.float32, graph.config.temperature))

    shape = [1, IMAGE_HEIGHT, graph.config.input_width, graph.config.channels]
    function = tf.function(decode, autograph=False, input_signature=[
        tf.TensorSpec(shape, tf.float32, "images"), tf.TensorSpec([1], tf.int32, "widths")])
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], model)
    converter.optimizations = optimizations
    with tf.io.gfile.GFile(tf.io.gfile.join(directory, LITE_FILE), "wb") as file:
        file.write(converter.convert())
