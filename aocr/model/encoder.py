"""The encoder: a bidirectional LSTM over the feature columns, whose outputs are the memory.

Source: Graves and Schmidhuber 2005, "Framewise phoneme classification with bidirectional LSTM";
Deng et al. 2017 use it as the row encoder.
"""

from __future__ import annotations

import tensorflow as tf

from aocr.model import rnn
from aocr.model.layers import Initializer
from aocr.model.rnn import LstmCell, LstmFunction


class Encoder(tf.Module):
    """One LSTM in each direction; every row is computed as if it were alone in the batch.

    Args:
        init: Draws the weights.
        inputs: Size of a feature column.
        units: Units of each direction.
    """

    def __init__(self, init: Initializer, inputs: int, units: int) -> None:
        super().__init__()
        self.forward = LstmCell(init, "encoder/forward", inputs, units)
        self.backward = LstmCell(init, "encoder/backward", inputs, units)
        self._inputs = inputs

    def __call__(self, features: tf.Tensor, lengths: tf.Tensor, lstm: LstmFunction = rnn.lstm
                 ) -> tuple[tf.Tensor, tf.Tensor]:
        """Encodes the feature columns.

        Args:
            features: `[batch, time, inputs]`. The input's part of the gates is computed in their
                type, everything else in the type of the weights.
            lengths: `[batch]` int32, the columns of each row that are not padding.
            lstm: `rnn.lstm`, or `rnn.lstm_with_gradient` for training.

        Returns:
            Outputs `[batch, time, 2 * units]` (forward, backward; undefined in the padding) and
            the last states `[c_fw, h_fw, c_bw, h_bw]`, `[batch, 4 * units]`.
        """
        columns = tf.transpose(features, [1, 0, 2])
        forward, forward_cells = lstm(*self._gates(self.forward, columns), lengths, 1)
        backward, backward_cells = lstm(*self._gates(self.backward, columns), lengths, -1)
        outputs = tf.concat([forward, backward], -1)
        states = [forward_cells[-1], forward[-1], backward_cells[0], backward[0]]
        return tf.transpose(outputs, [1, 0, 2]), tf.concat(states, -1)

    def _gates(self, cell: LstmCell, columns: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the input's part of all gates and the recurrent kernel.

        Args:
            cell: The weights of one direction.
            columns: `[time, batch, inputs]`.

        Returns:
            `[time, batch, 4 * units]` and `[units, 4 * units]`.
        """
        kernel = tf.convert_to_tensor(cell.kernel)
        gates = tf.tensordot(columns, tf.cast(kernel[:self._inputs], columns.dtype), 1)
        return tf.cast(gates, kernel.dtype) + cell.bias, kernel[self._inputs:]
