"""The whole network in the order of the data: CNN → encoder → attention decoder."""

from __future__ import annotations

import zlib

import tensorflow as tf

from aocr.config import COLUMN_PIXELS, CONV_FEATURES, ModelConfig
from aocr.model import rnn
from aocr.model.cnn import ConvNet, Normalize
from aocr.model.decoder import Decoded, Decoder, Memory, TeacherForced
from aocr.model.encoder import Encoder
from aocr.model.layers import BatchNorm, Initializer
from aocr.model.packing import Packing, pack, unpack
from aocr.model.rnn import Read

_START = Initializer()


class AttentionOCR(tf.Module):
    """Reads text from images; all weights exist as soon as it is made.

    Args:
        config: Sizes.
        init: What draws their start values.
    """

    def __init__(self, config: ModelConfig, init: Initializer = _START) -> None:
        super().__init__()
        self.cnn = ConvNet(init, config.channels)
        self.encoder = Encoder(init, CONV_FEATURES, config.encoder_units)
        self.decoder = Decoder(init, config)
        self._decode_steps = config.decode_steps

    def checksum(self) -> int:
        """Of all weights and statistics, below 2^32."""
        found = 0
        for variable in self.variables:
            found = zlib.crc32(variable.numpy().tobytes(), found)
        return found

    def encode(self, images: tf.Tensor, widths: tf.Tensor) -> Memory:
        """Memory of the images, read with the saved statistics.

        Args:
            images: `[batch, 32, width, channels]`, values about -1…1; the CNN is computed in
                their type.
            widths: `[batch]` int32, each image's own width in pixels, at least 1.
        """
        inside = tf.sequence_mask(widths, tf.shape(images)[2])
        return self._remember(self.cnn(images, inside, BatchNorm.by_average), _lengths(widths))

    def encode_batch(self, images: tf.Tensor, widths: tf.Tensor, keep: tf.Tensor,
                     packing: Packing | None = None) -> Memory:
        """Memory of a training batch: its own statistics, and dropout.

        Args:
            images: As in `encode`.
            widths: As in `encode`; an image of width 0 counts for nothing.
            keep: `[batch, ceil(width / 4), 512]` or 1, what the features are multiplied with.
            packing: Where the images are to stand; `None`: as they are, and none has padding.
        """
        features = self._features(images, widths, packing, BatchNorm.by_batch)
        features *= tf.cast(keep, features.dtype)
        return self._remember(features, _lengths(widths), rnn.lstm_with_gradient)

    def settle(self, images: tf.Tensor, widths: tf.Tensor, packing: Packing | None = None) -> None:
        """Takes a batch's statistics into the averages, all batches weighing the same.

        Args:
            images: As in `encode`.
            widths: As in `encode_batch`.
            packing: As in `encode_batch`.
        """
        self._features(images, widths, packing, BatchNorm.by_batch_evenly)

    def teacher_forced(self, memory: Memory, targets: tf.Tensor) -> tf.Tensor:
        """See `Decoder.teacher_forced`."""
        return self.decoder.teacher_forced(memory, targets)

    def guided(self, memory: Memory, targets: tf.Tensor, bias: tf.Tensor | None) -> TeacherForced:
        """See `Decoder.guided`."""
        return self.decoder.guided(memory, targets, bias)

    def greedy(self, memory: Memory, until_eos: bool = True) -> Decoded:
        """See `Decoder.greedy`; at most `max_prediction + 2` steps."""
        return self.decoder.greedy(memory, self._decode_steps, until_eos)

    def _features(self, images: tf.Tensor, widths: tf.Tensor, packing: Packing | None,
                  normalize: Normalize) -> tf.Tensor:
        if packing is None:
            return self.cnn(images, None, normalize)
        features = self.cnn(*pack(images, widths, packing), normalize)
        return unpack(features, _lengths(widths), _lengths(tf.shape(images)[2]), packing)

    def _remember(self, features: tf.Tensor, lengths: tf.Tensor,
                  read: Read = rnn.lstm) -> Memory:
        values, last = self.encoder(features, lengths, read)
        return self.decoder.remember(values, lengths, last)


def _lengths(widths: tf.Tensor) -> tf.Tensor:
    """Feature columns of so many pixels."""
    return -(-tf.convert_to_tensor(widths) // COLUMN_PIXELS)
