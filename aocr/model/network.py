"""The complete network: CNN, encoder and attention decoder."""

from __future__ import annotations

import zlib

import tensorflow as tf

from aocr.config import COLUMN_PIXELS, CONV_FEATURES, ModelConfig
from aocr.model import rnn
from aocr.model.beam_search import SearchResult, TransitionTable, search
from aocr.model.cnn import ConvNet, Normalize
from aocr.model.decoder import Decoded, Decoder, Memory, TeacherForced
from aocr.model.encoder import Encoder
from aocr.model.layers import BatchNorm, Initializer
from aocr.model.packing import Packing, pack, unpack
from aocr.model.rnn import LstmFunction

_DEFAULT_INITIALIZER = Initializer()


class AttentionOCR(tf.Module):
    """A network that recognizes the text of an image; the constructor creates all weights.

    Args:
        config: Sizes.
        init: Draws the weights.
    """

    def __init__(self, config: ModelConfig, init: Initializer = _DEFAULT_INITIALIZER) -> None:
        super().__init__()
        self.cnn = ConvNet(init, config.channels)
        self.encoder = Encoder(init, CONV_FEATURES, config.encoder_units)
        self.decoder = Decoder(init, config)
        self._decode_steps = config.decode_steps

    def checksum(self) -> int:
        """Returns a checksum of all weights and statistics, below 2^32."""
        checksum = 0
        for variable in self.variables:
            checksum = zlib.crc32(variable.numpy().tobytes(), checksum)
        return checksum

    def encode(self, images: tf.Tensor, widths: tf.Tensor) -> Memory:
        """Encodes images for inference, with the moving averages of batch norm.

        Args:
            images: `[batch, 32, width, channels]`, values from about -1 to 1. The CNN computes in
                their type.
            widths: `[batch]` int32, the width of each image in pixels, at least 1.
        """
        return self._memory(*self.features(images, widths))

    def features(self, images: tf.Tensor, widths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes the feature columns of images for inference.

        Args:
            images: As in `encode`.
            widths: As in `encode`.

        Returns:
            `[batch, ceil(width / 4), 512]`, and how many columns of each row are not padding,
            `[batch]` int32.
        """
        mask = tf.sequence_mask(widths, tf.shape(images)[2])
        return self.cnn(images, mask, BatchNorm.inference), _columns(widths)

    def batch_features(self, images: tf.Tensor, widths: tf.Tensor, dropout_mask: tf.Tensor,
                       packing: Packing | None = None) -> tf.Tensor:
        """Computes the feature columns of a training batch, with its own batch-norm statistics.

        Args:
            images: As in `encode`.
            widths: As in `encode`; an image of width 0 does not count.
            dropout_mask: Factors of the features, `[batch, ceil(width / 4), 512]` or a scalar.
            packing: Where the CNN's input holds the images; `None` for a batch without padding.

        Returns:
            `[batch, ceil(width / 4), 512]`, with dropout.
        """
        features = self._batch_features(images, widths, packing, BatchNorm.training)
        return features * tf.cast(dropout_mask, features.dtype)

    def encode_features(self, features: tf.Tensor, widths: tf.Tensor) -> Memory:
        """Encodes feature columns for training.

        Args:
            features: `[batch, time, 512]`.
            widths: As in `batch_features`.
        """
        return self._memory(features, _columns(widths), rnn.lstm_with_gradient)

    def recalibrate(self, images: tf.Tensor, widths: tf.Tensor, packing: Packing | None = None
                    ) -> None:
        """Updates the moving averages of batch norm; see `BatchNorm.recalibration`.

        Args:
            images: As in `encode`.
            widths: As in `batch_features`.
            packing: As in `batch_features`.
        """
        self._batch_features(images, widths, packing, BatchNorm.recalibration)

    def teacher_forced(self, memory: Memory, targets: tf.Tensor) -> tf.Tensor:
        """Returns logits; see `Decoder.teacher_forced`."""
        return self.decoder.teacher_forced(memory, targets)

    def guided(self, memory: Memory, targets: tf.Tensor, bias: tf.Tensor | None) -> TeacherForced:
        """Returns logits and attention; see `Decoder.guided`."""
        return self.decoder.guided(memory, targets, bias)

    def greedy(self, memory: Memory, until_eos: bool = True) -> Decoded:
        """Decodes in at most `max_prediction + 2` steps; see `Decoder.greedy`."""
        return self.decoder.greedy(memory, self._decode_steps, until_eos)

    def search(self, memory: Memory, table: TransitionTable, beam_width: int,
               temperature: float = 1.0) -> SearchResult:
        """Decodes in at most `max_prediction + 2` steps; see `aocr.model.beam_search`."""
        return search(self.decoder, memory, self._decode_steps, table, beam_width, temperature)

    def _batch_features(self, images: tf.Tensor, widths: tf.Tensor, packing: Packing | None,
                        normalize: Normalize) -> tf.Tensor:
        if packing is None:
            return self.cnn(images, None, normalize)
        features = self.cnn(*pack(images, widths, packing), normalize)
        return unpack(features, _columns(widths), _columns(tf.shape(images)[2]), packing)

    def _memory(self, features: tf.Tensor, lengths: tf.Tensor,
                lstm: LstmFunction = rnn.lstm) -> Memory:
        values, last_states = self.encoder(features, lengths, lstm)
        return self.decoder.attend_over(values, lengths, last_states)


def _columns(widths: tf.Tensor) -> tf.Tensor:
    """Returns the numbers of feature columns of images of these widths in pixels."""
    # Not -(-widths // 4): ONNX rounds the quotient of a negative number towards zero.
    return (tf.convert_to_tensor(widths) + (COLUMN_PIXELS - 1)) // COLUMN_PIXELS
