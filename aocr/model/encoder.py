"""The bidirectional LSTM that reads the feature columns into the memory."""

from __future__ import annotations

import tensorflow as tf

from aocr.model import rnn
from aocr.model.layers import Initializer
from aocr.model.rnn import LstmCell, Read


class Encoder(tf.Module):
    """One LSTM in each direction; each row is read as if it stood alone."""

    def __init__(self, init: Initializer, inputs: int, units: int) -> None:
        super().__init__()
        self.forward = LstmCell(init, "encoder/forward", inputs, units)
        self.backward = LstmCell(init, "encoder/backward", inputs, units)
        self._inputs = inputs

    def __call__(self, features: tf.Tensor, lengths: tf.Tensor, read: Read = rnn.lstm
                 ) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads the columns from both sides.

        Args:
            features: `[batch, time, inputs]`; the input gates are computed in their type, all
                else in that of the weights.
            lengths: `[batch]` int32, the columns of each row that are not padding.
            read: `recurrence.read`, or `recurrence.read_to_learn` where gradients are wanted.

        Returns:
            Outputs `[batch, time, 2 * units]` (forward, backward; padding holds no meaning)
            and the last states `[c_fw, h_fw, c_bw, h_bw]`, `[batch, 4 * units]`.
        """
        columns = tf.transpose(features, [1, 0, 2])
        forward, first = read(*self._gates(self.forward, columns), lengths, 1)
        backward, last = read(*self._gates(self.backward, columns), lengths, -1)
        both = tf.concat([forward, backward], -1)
        states = [first[-1], forward[-1], last[0], backward[0]]
        return tf.transpose(both, [1, 0, 2]), tf.concat(states, -1)

    def _gates(self, cell: LstmCell, columns: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The input's part of all gates, `[time, batch, 4 * units]`, and the output's kernel."""
        kernel = tf.convert_to_tensor(cell.kernel)
        gates = tf.tensordot(columns, tf.cast(kernel[:self._inputs], columns.dtype), 1)
        return tf.cast(gates, kernel.dtype) + cell.bias, kernel[self._inputs:]
