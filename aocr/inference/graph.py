"""TensorFlow graph from encoded images to text."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from aocr.config import FLOAT32, MAX_PIXELS, ModelConfig, compute_type
from aocr.images import header_ops, preprocessing, transcoding
from aocr.inference.decoding import DecodedBatch, Decoding, GreedyDecoding, log_probabilities_at
from aocr.model import AttentionOCR, Memory
from aocr.model.loss import sequence_loss
from aocr.tokenizer import Tokenizer

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
        candidates: `[batch, candidates]` string, the most probable texts, if they were requested.
        candidate_probabilities: `[batch, candidates]` float64, falling; 0 if there are fewer texts.
    """

    output: tf.Tensor
    probability: tf.Tensor
    characters: tf.Tensor
    character_probabilities: tf.Tensor
    attention: tf.Tensor
    widths: tf.Tensor
    candidates: tf.Tensor | None = None
    candidate_probabilities: tf.Tensor | None = None

    def outputs(self) -> dict[str, tf.Tensor]:
        """Returns the fields by name, without candidates if they were not requested."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class ValidationBatch(NamedTuple):
    """What validation needs to know of a batch of images.

    Attributes:
        ids: `[batch, S]` int32, decoded greedily.
        losses: `[batch]`, teacher-forced losses.
        log_probabilities: `[temperatures, batch]` float64, of the texts.
    """

    ids: tf.Tensor
    losses: tf.Tensor
    log_probabilities: tf.Tensor


class RecognitionGraph:
    """Builds the graph that recognizes encoded or preprocessed images.

    Args:
        config: The model's settings.
        model: The network.
        max_pixels: Largest number of pixels of an image; `read` refuses larger images before
            they are decoded.
        precision: One of `aocr.config.PRECISIONS`.
        tokenizer: Decodes ids; by default the tokenizer of the config's alphabet.
        decoding: How to decode; greedily by default.
    """

    def __init__(self, config: ModelConfig, model: AttentionOCR, max_pixels: int = MAX_PIXELS,
                 precision: str = FLOAT32, tokenizer: Tokenizer | None = None,
                 decoding: Decoding | None = None) -> None:
        self.config = config
        self.model = model
        self.max_pixels = max_pixels
        self.precision = precision
        self._compute_dtype = tf.as_dtype(compute_type(precision))
        self.tokenizer = tokenizer or Tokenizer(config.alphabet)
        self.decoding = decoding or GreedyDecoding(config.temperature)
        self._symbols = [symbol.encode() for symbol in self.tokenizer.symbols()]

    def read(self, encoded: tf.Tensor) -> BatchPrediction:
        """Recognizes encoded images, `[batch]` string; the batch may be empty.

        The graph checks the size that each header declares before it decodes the image.
        """
        # Convolutions may fail on an empty batch, so a blank image takes its place.
        batch = tf.cond(tf.size(encoded) > 0, lambda: encoded, lambda: tf.constant([_BLANK_IMAGE]))
        prediction = self.read_trusted(header_ops.refuse_oversized(batch, self.max_pixels))
        return BatchPrediction(**{name: part[:tf.size(encoded)]
                                  for name, part in prediction.outputs().items()})

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
        return self._predict(self.decode_images(images, widths), widths)

    def decode_images(self, images: tf.Tensor, widths: tf.Tensor) -> DecodedBatch:
        """Recognizes preprocessed images as `read_images` does, but returns ids, not text."""
        return self.decode(self._encode(images, widths))

    def decode(self, memory: Memory, probability_dtype: tf.DType = tf.float64) -> DecodedBatch:
        """Decodes encoded images."""
        return self.decoding.decode(self.model, memory, probability_dtype)

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
        return self._predict(self.decode(memory), widths), loss

    def validate(self, images: tf.Tensor, widths: tf.Tensor, targets: tf.Tensor,
                 temperatures: np.ndarray) -> ValidationBatch:
        """Recognizes preprocessed images greedily, for several temperatures.

        Args:
            images: See `score`.
            widths: See `score`.
            targets: See `score`.
            temperatures: `[temperatures]`, see `ModelConfig`.
        """
        memory = self._encode(images, widths)
        decoded = self.model.greedy(memory)
        return ValidationBatch(
            decoded.ids, sequence_loss(self.model.teacher_forced(memory, targets), targets),
            log_probabilities_at(decoded, temperatures))

    def _encode(self, images: tf.Tensor, widths: tf.Tensor) -> Memory:
        return self.model.encode(tf.cast(images, self._compute_dtype), widths)

    def _predict(self, batch: DecodedBatch, widths: tf.Tensor) -> BatchPrediction:
        characters = tf.where(batch.until_eos, self._characters(batch.ids), "")
        prediction = BatchPrediction(
            tf.strings.reduce_join(characters, -1), batch.probability, characters,
            batch.step_probabilities, batch.attention, widths)
        if batch.candidates is None:
            return prediction
        ids, probability = batch.candidates
        texts = tf.strings.reduce_join(self._characters(ids), -1)
        return prediction._replace(candidates=tf.where(probability > 0, texts, ""),
                                   candidate_probabilities=probability)

    def _characters(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.constant(self._symbols), ids)
