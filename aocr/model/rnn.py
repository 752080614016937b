"""An LSTM over time; for training, with its gradient written out.

Left to itself, TensorFlow keeps every intermediate value of a loop for the gradient, and adds up
the kernel's at every step: that takes twice as long. But it never lets go of a graph in which
gradients are written out, nor of a SavedModel with such a graph: only training has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from aocr.model.layers import Initializer

State = tuple[tf.Tensor, ...]


class LstmCell(tf.Module):
    """LSTM without peepholes; gates in the order i, j (candidate), f, o; forget bias 0.

    kernel `[inputs + units, 4 * units]` over `[x, h]`, bias `[4 * units]`; state `(c, h)`.
    """

    state_parts = 2

    def __init__(self, init: Initializer, name: str, inputs: int, units: int) -> None:
        super().__init__()
        self.kernel = init.glorot(f"{name}/kernel", [inputs + units, 4 * units])
        self.bias = init.constant(f"{name}/bias", [4 * units], 0.0)

    def __call__(self, x: tf.Tensor, state: State) -> State:
        """One step; x `[batch, inputs]`, state parts `[batch, units]`."""
        c, h = state
        return lstm_step(tf.concat([x, h], -1) @ self.kernel + self.bias, c)


class GruCell(tf.Module):
    """GRU whose reset gate is applied before the matmul; gates in the order r, u; gate bias 1.

    Kernels `[inputs + units, 2 * units]` and `[inputs + units, units]`; state `(h,)`.
    """

    state_parts = 1

    def __init__(self, init: Initializer, name: str, inputs: int, units: int) -> None:
        super().__init__()
        self.gates_kernel = init.glorot(f"{name}/gates_kernel", [inputs + units, 2 * units])
        self.gates_bias = init.constant(f"{name}/gates_bias", [2 * units], 1.0)
        self.candidate_kernel = init.glorot(f"{name}/candidate_kernel", [inputs + units, units])
        self.candidate_bias = init.constant(f"{name}/candidate_bias", [units], 0.0)

    def __call__(self, x: tf.Tensor, state: State) -> State:
        """One step; x `[batch, inputs]`, state `[batch, units]`."""
        (h,) = state
        gates = tf.sigmoid(tf.concat([x, h], -1) @ self.gates_kernel + self.gates_bias)
        r, u = tf.split(gates, 2, axis=-1)
        candidate = tf.concat([x, r * h], -1) @ self.candidate_kernel + self.candidate_bias
        return (u * h + (1.0 - u) * tf.tanh(candidate),)


def lstm_step(gates: tf.Tensor, c: tf.Tensor) -> State:
    """`(c, h)` after a step; gates `[..., 4 * units]` before their nonlinearities."""
    i, j, f, o = tf.split(gates, 4, axis=-1)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(j)
    return c, tf.sigmoid(o) * tf.tanh(c)


Tensors = tuple[tf.Tensor, ...]
Gradient = Callable[..., Tensors]
Read = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, int], Tensors]


class LocalGradients(NamedTuple):
    """How a step's results change with what goes into it, for all steps at once.

    Attributes:
        gates: `[time, batch, 4 * units]`, of the new cell state (gates i, j, f) and of the output
            (gate o), with each gate before its nonlinearity.
        cell: `[time, batch, units]`, of the new cell state with the earlier one.
        output: `[time, batch, units]`, of the output with the new cell state.
    """

    gates: tf.Tensor
    cell: tf.Tensor
    output: tf.Tensor


def lstm(gates: tf.Tensor, kernel: tf.Tensor, lengths: tf.Tensor, direction: int) -> Tensors:
    """Goes over all columns in one direction; each row is read as if it stood alone.

    Args:
        gates: `[time, batch, 4 * units]`, the input's part of the gates i, j (candidate), f, o.
        kernel: `[units, 4 * units]`, that of the output before.
        lengths: `[batch]` int32, the columns of each row that are not padding.
        direction: 1 from the first column on, -1 from the last.

    Returns:
        Outputs and cell states, both `[time, batch, units]`. In padding stands what the column
        read before it left, and zero where there was none.

    Source: Hochreiter and Schmidhuber 1997.
    """
    return _forward(gates, kernel, _inside(gates, lengths), direction)


def lstm_with_gradient(gates: tf.Tensor, kernel: tf.Tensor, lengths: tf.Tensor, direction: int
                  ) -> Tensors:
    """As `read`, with a gradient of its own.

    Source: Werbos 1990, "Backpropagation through time".
    """
    inside = _inside(gates, lengths)

    @tf.custom_gradient
    def reading(gates: tf.Tensor, kernel: tf.Tensor) -> tuple[Tensors, Gradient]:
        outputs, cells = _forward(gates, kernel, inside, direction)

        def gradient(*above: tf.Tensor) -> Tensors:
            previous, earlier = _before(outputs, direction), _before(cells, direction)
            units = kernel.shape[0]
            hidden = tf.reshape(previous, [-1, units])
            whole = gates + tf.reshape(hidden @ kernel, tf.shape(gates))
            slopes = _slopes(whole, earlier, cells)
            by_gates = _backward(above, slopes, tf.transpose(kernel), inside, direction)
            flat = tf.reshape(by_gates, [-1, 4 * units])
            return by_gates, tf.matmul(hidden, flat, transpose_a=True)

        return (outputs, cells), gradient

    found: Tensors = reading(gates, kernel)
    return found


def _inside(gates: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """`[time, batch, 1]` bool, which columns are no padding."""
    return tf.transpose(tf.sequence_mask(lengths, tf.shape(gates)[0]))[:, :, None]


def _forward(gates: tf.Tensor, kernel: tf.Tensor, inside: tf.Tensor, direction: int) -> Tensors:
    time, batch, units = tf.shape(gates)[0], tf.shape(gates)[1], kernel.shape[0]
    zero = tf.zeros([batch, units], gates.dtype)
    arrays = _arrays(2, time, units, gates.dtype)

    def step(t: tf.Tensor, h: tf.Tensor, c: tf.Tensor, *arrays: tf.TensorArray) -> Tensors:
        new_c, new_h = lstm_step(gates[t] + h @ kernel, c)
        h, c = tf.where(inside[t], new_h, h), tf.where(inside[t], new_c, c)
        return t + direction, h, c, arrays[0].write(t, h), arrays[1].write(t, c)

    start = tf.constant(0) if direction > 0 else time - 1
    *_, outputs, cells = tf.while_loop(
        lambda t, *_: (t >= 0) & (t < time), step, (start, zero, zero, *arrays))
    return outputs.stack(), cells.stack()


def _before(x: tf.Tensor, direction: int) -> tf.Tensor:
    """What stood there one step earlier, `[time, batch, units]`; zero at the first."""
    return tf.pad(x[:-1], [[1, 0], [0, 0], [0, 0]]) if direction > 0 else tf.pad(
        x[1:], [[0, 1], [0, 0], [0, 0]])


def _slopes(gates: tf.Tensor, earlier: tf.Tensor, cells: tf.Tensor) -> LocalGradients:
    i, j, f, o = tf.split(gates, 4, axis=-1)
    i, j, f, o, new = tf.sigmoid(i), tf.tanh(j), tf.sigmoid(f), tf.sigmoid(o), tf.tanh(cells)
    of_gates = [j * i * (1 - i), i * (1 - j * j), earlier * f * (1 - f), new * o * (1 - o)]
    return LocalGradients(tf.concat(of_gates, -1), f, o * (1 - new * new))


def _backward(above: Tensors, slopes: LocalGradients, kernel: tf.Tensor, inside: tf.Tensor,
              direction: int) -> tf.Tensor:
    """Gradient of the gates, `[time, batch, 4 * units]`; the kernel comes transposed."""
    time, units = tf.shape(inside)[0], kernel.shape[1]
    zero = tf.zeros_like(above[0][0])
    (array,) = _arrays(1, time, 4 * units, zero.dtype)

    def step(t: tf.Tensor, h: tf.Tensor, c: tf.Tensor, array: tf.TensorArray) -> Tensors:
        h, c = h + above[0][t], c + above[1][t]
        new_c = c + h * slopes.output[t]
        by_gates = tf.concat([new_c, new_c, new_c, h], -1) * slopes.gates[t]
        by_gates = tf.where(inside[t], by_gates, tf.zeros_like(by_gates))
        h, c = tf.where(inside[t], by_gates @ kernel, h), tf.where(
            inside[t], new_c * slopes.cell[t], c)
        return t - direction, h, c, array.write(t, by_gates)

    start = time - 1 if direction > 0 else tf.constant(0)
    *_, array = tf.while_loop(lambda t, *_: (t >= 0) & (t < time), step, (start, zero, zero, array))
    by_gates: tf.Tensor = array.stack()
    return by_gates


def _arrays(number: int, time: tf.Tensor, units: int, dtype: tf.DType) -> list[tf.TensorArray]:
    return [tf.TensorArray(dtype, time, element_shape=[None, units]) for _ in range(number)]
