"""TensorFlow graph from encoded images to text."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf
from PIL import Image

from aocr.config import MAX_PIXELS, PRECISIONS, ModelConfig, compute_type
from aocr.images import header_ops, preprocessing, transcoding
from aocr.model import AttentionOCR, Decoded, Memory
from aocr.model.loss import sequence_loss
from aocr.tokenizer import EOS_ID, Tokenizer

_BLANK_IMAGE = transcoding.from_pillow(Image.new("L", (1, 1)))


class BatchPrediction(NamedTuple):
    """Predictions for a batch of images, as tensors.

    The field names are the output names of the signature `serving_details`.

    Attributes:
        output: `[batch]` string, text in UTF-8.
        probability: `[batch]` float64, probability of the text up to and including EOS.
        characters: `[batch, S]` string, empty where a step adds no character to the text.
        character_probabilities: `[batch, S]` float64, probability of each step.
        attention: `[batch, S, time]` float32.
        widths: `[batch]` int32, width of each image in the network's input, in pixels.
    """

    output: tf.Tensor
    probability: tf.Tensor
    characters: tf.Tensor
    character_probabilities: tf.Tensor
    attention: tf.Tensor
    widths: tf.Tensor


class DecodedBatch(NamedTuple):
    """Decoded ids and probabilities of a batch of images.

    Attributes:
        ids: `[batch, S]` int32: PAD, GO, EOS and, from 3 on, characters.
        probability: `[batch]`, product over all steps up to and including the first EOS.
        step_probabilities: `[batch, S]`, probability of each step; both float64 by default.
        attention: `[batch, S, time]` float32.
        until_eos: `[batch, S]` bool, whether a step is not after the first EOS.
    """

    ids: tf.Tensor
    probability: tf.Tensor
    step_probabilities: tf.Tensor
    attention: tf.Tensor
    until_eos: tf.Tensor


class RecognitionGraph:
    """Builds the graph that recognizes encoded or preprocessed images.

    Args:
        config: The model's settings.
        model: The network.
        max_pixels: Largest number of pixels of an image; `read` refuses larger images before
            they are decoded.
        precision: One of `aocr.config.PRECISIONS`.
        tokenizer: Decodes ids; by default the tokenizer of the config's alphabet.
    """

    def __init__(self, config: ModelConfig, model: AttentionOCR, max_pixels: int = MAX_PIXELS,
                 precision: str = PRECISIONS[0], tokenizer: Tokenizer | None = None) -> None:
        self.config = config
        self.model = model
        self.max_pixels = max_pixels
        self.precision = precision
        self._compute_dtype = tf.as_dtype(compute_type(precision))
        self.tokenizer = tokenizer or Tokenizer(config.alphabet)
        self._symbols = [symbol.encode() for symbol in self.tokenizer.symbols()]

    def read(self, encoded: tf.Tensor) -> BatchPrediction:
        """Recognizes encoded images, `[batch]` string; the batch may be empty.

        The graph checks the size that each header declares before it decodes the image.
        """
        # Convolutions may fail on an empty batch, so a blank image takes its place.
        batch = tf.cond(tf.size(encoded) > 0, lambda: encoded, lambda: tf.constant([_BLANK_IMAGE]))
        prediction = self.read_trusted(header_ops.refuse_oversized(batch, self.max_pixels))
        return BatchPrediction(*(part[:tf.size(encoded)] for part in prediction))

    def read_trusted(self, encoded: tf.Tensor) -> BatchPrediction:
        """Recognizes at least one encoded image, whose size the caller has checked.

        Args:
            encoded: `[batch]` string, as returned by `aocr.images.transcoding.to_decodable`.
        """
        return self.read_images(*preprocessing.preprocess_batch(encoded, self.config))

    def read_images(self, images: tf.Tensor, widths: tf.Tensor) -> BatchPrediction:
        """Recognizes preprocessed images.

        Args:
            images: `[batch, 32, width, channels]`.
            widths: `[batch]` int32, width of each image without padding.
        """
        return self._predict(self.model.greedy(self._encode(images, widths)), widths)

    def decode_images(self, images: tf.Tensor, widths: tf.Tensor) -> DecodedBatch:
        """Recognizes preprocessed images as `read_images` does, but returns ids, not text."""
        return self.decode(self._encode(images, widths))

    def decode(self, memory: Memory, probability_dtype: tf.DType = tf.float64) -> DecodedBatch:
        """Decodes encoded images."""
        return _decoded_batch(self.model.greedy(memory), probability_dtype)

    def score(self, images: tf.Tensor, widths: tf.Tensor, targets: tf.Tensor
              ) -> tuple[BatchPrediction, tf.Tensor]:
        """Recognizes preprocessed images and computes their losses against labels.

        Args:
            images: `[batch, 32, width, channels]`.
            widths: `[batch]` int32, width of each image without padding.
            targets: `[batch, S]` int32: characters, EOS, PAD.

        Returns:
            The predictions, and the teacher-forced loss of each image, `[batch]`.
        """
        memory = self._encode(images, widths)
        loss = sequence_loss(self.model.teacher_forced(memory, targets), targets)
        return self._predict(self.model.greedy(memory), widths), loss

    def _encode(self, images: tf.Tensor, widths: tf.Tensor) -> Memory:
        return self.model.encode(tf.cast(images, self._compute_dtype), widths)

    def _predict(self, decoded: Decoded, widths: tf.Tensor) -> BatchPrediction:
        batch = _decoded_batch(decoded)
        symbols = tf.gather(tf.constant(self._symbols), batch.ids)
        characters = tf.where(batch.until_eos, symbols, "")
        return BatchPrediction(
            tf.strings.reduce_join(characters, -1), batch.probability, characters,
            batch.step_probabilities, batch.attention, widths)


def _decoded_batch(decoded: Decoded, dtype: tf.DType = tf.float64) -> DecodedBatch:
    log_probabilities = tf.nn.log_softmax(tf.cast(decoded.logits, dtype))
    log_probabilities = tf.reduce_max(log_probabilities, -1)
    is_eos = tf.cast(decoded.ids == EOS_ID, tf.int32)
    until_eos = tf.cumsum(is_eos, axis=1, exclusive=True) == 0
    total = tf.reduce_sum(
        tf.where(until_eos, log_probabilities, tf.zeros_like(log_probabilities)), -1)
    return DecodedBatch(decoded.ids, tf.exp(total), tf.exp(log_probabilities), decoded.attention,
                        until_eos)
