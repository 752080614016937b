"""The graph from image bytes to text, around the network."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf
from PIL import Image

from aocr.config import MAX_PIXELS, PRECISIONS, ModelConfig, compute_type
from aocr.images import header_ops, preprocessing, transcoding
from aocr.model import AttentionOCR, Decoded, Memory
from aocr.model.loss import sequence_loss
from aocr.tokenizer import EOS_ID, Tokenizer

_BLANK = transcoding.from_pillow(Image.new("L", (1, 1)))


class BatchPrediction(NamedTuple):
    """The same for a batch, as tensors.

    Attributes:
        output: `[batch]` string, UTF-8.
        probability: `[batch]` float64.
        characters: `[batch, S]` string, empty where a step prints nothing.
        character_probabilities: `[batch, S]` float64, of the same steps.
        attention: `[batch, S, time]` float32.
        widths: `[batch]` int32, pixels of the network's input.
    """

    output: tf.Tensor
    probability: tf.Tensor
    characters: tf.Tensor
    character_probabilities: tf.Tensor
    attention: tf.Tensor
    widths: tf.Tensor


class DecodedBatch(NamedTuple):
    """What the network finds in a batch, in numbers.

    Attributes:
        ids: `[batch, S]` int32: PAD, GO, EOS and, from 3 on, characters.
        probability: `[batch]` float64, of all steps up to and including the first EOS.
        chances: `[batch, S]` float64, of each step.
        attention: `[batch, S, time]` float32.
        counts: `[batch, S]` bool, whether a step is not after EOS.
    """

    ids: tf.Tensor
    probability: tf.Tensor
    chances: tf.Tensor
    attention: tf.Tensor
    counts: tf.Tensor


class RecognitionGraph:
    """The graph from bytes, or from scaled images, to a `Reading`.

    Args:
        config: How images are read, and the alphabet.
        model: The network.
        max_pixels: Most pixels of an image; the graph refuses larger ones before decoding.
        precision: One of `aocr.config.PRECISIONS`.
        tokenizer: Decodes the ids; by default the tokenizer of the config's alphabet.
    """

    def __init__(self, config: ModelConfig, model: AttentionOCR, max_pixels: int = MAX_PIXELS,
                 precision: str = PRECISIONS[0], tokenizer: Tokenizer | None = None) -> None:
        self.config = config
        self.model = model
        self.max_pixels = max_pixels
        self.precision = precision
        self._compute = tf.as_dtype(compute_type(precision))
        self.tokenizer = tokenizer or Tokenizer(config.alphabet)
        self._symbols = [symbol.encode() for symbol in self.tokenizer.symbols()]

    def read(self, encoded: tf.Tensor) -> BatchPrediction:
        """Reads encoded images, `[batch]` string; the batch may be empty."""
        # Convolutions may fail on an empty batch: a blank image stands in, and is cut off again.
        some = tf.cond(tf.size(encoded) > 0, lambda: encoded, lambda: tf.constant([_BLANK]))
        reading = self.read_usual(header_ops.refuse_oversized(some, self.max_pixels))
        return BatchPrediction(*(part[:tf.size(encoded)] for part in reading))

    def read_usual(self, encoded: tf.Tensor) -> BatchPrediction:
        """As `read`, for images whose sizes `aocr.images.glance` has found before."""
        return self.read_images(*preprocessing.preprocess_batch(encoded, self.config))

    def read_images(self, images: tf.Tensor, widths: tf.Tensor) -> BatchPrediction:
        """Reads scaled images `[batch, 32, width, channels]` with their own widths `[batch]`."""
        return self._reading(self.model.greedy(self._encode(images, widths)), widths)

    def scan(self, images: tf.Tensor, widths: tf.Tensor) -> DecodedBatch:
        """As `read_images`, without text."""
        return self._scan(self.model.greedy(self._encode(images, widths)))

    def examine(self, images: tf.Tensor, widths: tf.Tensor, targets: tf.Tensor
                ) -> tuple[BatchPrediction, tf.Tensor]:
        """Reads scaled images, and scores them against labels.

        Args:
            images: `[batch, 32, width, channels]`.
            widths: `[batch]` int32.
            targets: `[batch, S]` int32: characters, EOS, PAD.

        Returns:
            The reading, and the teacher-forced loss of each image, `[batch]`.
        """
        memory = self._encode(images, widths)
        loss = sequence_loss(self.model.teacher_forced(memory, targets), targets)
        return self._reading(self.model.greedy(memory), widths), loss

    def _encode(self, images: tf.Tensor, widths: tf.Tensor) -> Memory:
        return self.model.encode(tf.cast(images, self._compute), widths)

    def _reading(self, decoded: Decoded, widths: tf.Tensor) -> BatchPrediction:
        scan = self._scan(decoded)
        symbols = tf.gather(tf.constant(self._symbols), scan.ids)
        characters = tf.where(scan.counts, symbols, "")
        return BatchPrediction(tf.strings.reduce_join(characters, -1), scan.probability, characters,
                       scan.chances, scan.attention, widths)

    def _scan(self, decoded: Decoded) -> DecodedBatch:
        chances = tf.nn.log_softmax(tf.cast(decoded.logits, tf.float64))
        chances = tf.reduce_max(chances, -1)
        ended = tf.cast(decoded.ids == EOS_ID, tf.int32)
        counts = tf.cumsum(ended, axis=1, exclusive=True) == 0
        total = tf.reduce_sum(tf.where(counts, chances, tf.zeros_like(chances)), -1)
        return DecodedBatch(decoded.ids, tf.exp(total), tf.exp(chances), decoded.attention, counts)
