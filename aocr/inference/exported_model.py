"""The model inside an export: the weights, and the functions that become signatures."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from aocr.config import IMAGE_HEIGHT, ModelConfig
from aocr.images import transcoding
from aocr.inference.decoding import DecodedBatch
from aocr.inference.graph import RecognitionGraph
from aocr.inference.saved_model import IMAGES_SIGNATURE

DECODING_SECTION = "decoding"
_SAMPLE_SIZES = ((1, 1), (20, 60), (32, 32), (45, 301), (120, 40))  # height, width


class ExportedModel(tf.Module):
    """Weights as plain variables, and functions from images to predictions.

    Args:
        graph: The graph around the network.

    Attributes:
        weights: The variables of the network.
        images: Function from preprocessed images to ids; the signature `serving_images`.
    """

    def __init__(self, graph: RecognitionGraph) -> None:
        super().__init__()
        self.weights = list(graph.model.variables)
        self._untracked_graph = (graph,)  # in a tuple, which a SavedModel does not track
        self.images = tf.function(self._images, autograph=False,
                                  input_signature=images_signature(graph.config))

    @property
    def graph(self) -> RecognitionGraph:
        """The graph around the network."""
        return self._untracked_graph[0]

    @tf.function(autograph=False, input_signature=[tf.TensorSpec(None, tf.string, name="input")])
    def read(self, input: tf.Tensor) -> dict[str, tf.Tensor]:  # noqa: A002
        """Returns text and probability of encoded images; the signature `serving_default`.

        Args:
            input: String tensor of any shape.

        Returns:
            `output` (string) and `probability` (float64), in the shape of the input.
        """
        prediction = self.graph.read(tf.reshape(input, [-1]))
        shape = tf.shape(input)
        return {"output": tf.reshape(prediction.output, shape),
                "probability": tf.reshape(prediction.probability, shape)}

    @tf.function(autograph=False, input_signature=[tf.TensorSpec(None, tf.string, name="input")])
    def details(self, input: tf.Tensor) -> dict[str, tf.Tensor]:  # noqa: A002
        """Returns the fields of a `BatchPrediction`; the signature `serving_details`.

        Args:
            input: String tensor of any shape.

        Returns:
            The fields by their names; their first axis is replaced by the shape of the input.
        """
        prediction = self.graph.read(tf.reshape(input, [-1]))
        return {name: tf.reshape(value, tf.concat([tf.shape(input), tf.shape(value)[1:]], 0))
                for name, value in prediction.outputs().items()}

    def _images(self, images: tf.Tensor, widths: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns decoded ids of preprocessed images.

        The function does not resize. The other signatures scale an image to height 32, keep its
        aspect ratio, but squeeze it to width `ceil(max_width / max_height * 32)` where it would
        be wider: a caller has to do the same. `config.json` beside the export states this
        `max_width` in its section `serving_images`.

        Args:
            images: `[batch, 32, width, channels]`, `(value - 128) / 128`, padded with zeros to
                the right; in models of the original aocr (`"layout": "padded"`) every image is
                padded with -1 to the full width.
            widths: `[batch]` int32, width of each image without the padding with zeros.
        """
        return images_outputs(self.graph.decode_images(images, widths))


def images_signature(config: ModelConfig) -> list[tf.TensorSpec]:
    """Returns the types of the inputs of the signature `serving_images`."""
    return [tf.TensorSpec([None, IMAGE_HEIGHT, None, config.channels], tf.float32, name="images"),
            tf.TensorSpec([None], tf.int32, name="widths")]


def images_outputs(decoded: DecodedBatch) -> dict[str, tf.Tensor]:
    """Returns the outputs of the signature `serving_images`."""
    return {"ids": decoded.ids, "probability": decoded.probability,
            "character_probabilities": decoded.step_probabilities, "attention": decoded.attention}


def config_sections(graph: RecognitionGraph) -> dict[str, dict[str, object]]:
    """Returns further sections of `config.json`.

    They state the input of `serving_images` and, unless decoding is greedy, what is decoded.
    """
    config, decoding = graph.config, graph.decoding.describe()
    images: dict[str, object] = {"height": IMAGE_HEIGHT, "max_width": config.input_width,
                                 "channels": config.channels}
    return {IMAGES_SIGNATURE: images, **({DECODING_SECTION: decoding} if decoding else {})}


def sample_images(channels: int) -> list[bytes]:
    """Returns RGB images of several sizes as PNG files, filled with reproducible noise.

    Args:
        channels: Those of the model: noise for 1 channel is gray, so that rounding in the
            conversion to gray makes no difference.
    """
    random = np.random.default_rng(0)
    noise = (random.integers(0, 256, (*size, channels), np.uint8) for size in _SAMPLE_SIZES)
    return [transcoding.from_array(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
            for pixels in noise]
