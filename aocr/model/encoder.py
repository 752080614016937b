"""The bidirectional LSTM that reads the feature columns into the memory."""

from __future__ import annotations

import tensorflow as tf

from aocr.model.layers import Initializer, LstmCell, State, lstm_step


class Encoder(tf.Module):
    """One LSTM in each direction; each row is read as if it stood alone."""

    def __init__(self, init: Initializer, inputs: int, units: int) -> None:
        super().__init__()
        self.forward = LstmCell(init, "encoder/forward", inputs, units)
        self.backward = LstmCell(init, "encoder/backward", inputs, units)
        self._inputs, self._units = inputs, units

    def __call__(self, features: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads the columns from both sides.

        Args:
            features: `[batch, time, inputs]`; the input gates are computed in their type, all
                else in that of the weights.
            lengths: `[batch]` int32, the columns of each row that are not padding.

        Returns:
            Outputs `[batch, time, 2 * units]` (forward, backward; padding holds no meaning)
            and the last states `[c_fw, h_fw, c_bw, h_bw]`, `[batch, 4 * units]`.
        """
        flipped = tf.reverse_sequence(features, lengths, seq_axis=1)
        forward, first = self._run(self.forward, features, lengths)
        backward, last = self._run(self.backward, flipped, lengths)
        backward = tf.reverse_sequence(backward, lengths, seq_axis=0, batch_axis=1)
        both = tf.concat([forward, backward], -1)
        return tf.transpose(both, [1, 0, 2]), tf.concat([*first, *last], -1)

    def _input_gates(self, cell: LstmCell, x: tf.Tensor) -> tf.Tensor:
        """The input's part of all gates at once, `[time, batch, 4 * units]`."""
        x = tf.transpose(x, [1, 0, 2])
        gates = tf.tensordot(x, tf.cast(cell.kernel[:self._inputs], x.dtype), 1)
        return tf.cast(gates, cell.bias.dtype) + cell.bias

    def _run(self, cell: LstmCell, x: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, State]:
        """One direction: outputs `[time, batch, units]` and the last state `(c, h)`."""
        gates, kernel = self._input_gates(cell, x), cell.kernel[self._inputs:]
        time, batch = tf.shape(gates)[0], tf.shape(gates)[1]
        zero = tf.zeros([batch, self._units], gates.dtype)
        outputs = tf.TensorArray(gates.dtype, time, element_shape=[None, self._units])

        def step(t: tf.Tensor, c: tf.Tensor, h: tf.Tensor, outputs: tf.TensorArray
                 ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.TensorArray]:
            new_c, new_h = lstm_step(gates[t] + h @ kernel, c)
            inside = (t < lengths)[:, None]
            c, h = tf.where(inside, new_c, c), tf.where(inside, new_h, h)
            return t + 1, c, h, outputs.write(t, h)

        _, c, h, outputs = tf.while_loop(
            lambda t, *_: t < time, step, (tf.constant(0), zero, zero, outputs))
        return outputs.stack(), (c, h)
