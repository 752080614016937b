"""LSTM and GRU cells, and an LSTM over time with an optional hand-written gradient.

By default, TensorFlow keeps every intermediate value of a loop for the gradient, and adds to the
kernel's gradient at every step, which takes twice as long as `lstm_with_gradient`. However, it
never frees a graph that contains a custom gradient, nor a SavedModel with such a graph, so only
training graphs use one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from aocr.model.layers import Initializer

State = tuple[tf.Tensor, ...]
Tensors = tuple[tf.Tensor, ...]
Gradient = Callable[..., Tensors]
# `lstm` or `lstm_with_gradient`.
LstmFunction = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, int], Tensors]


class LstmCell(tf.Module):
    """LSTM without peephole connections; gates in the order i, j (candidate), f, o; forget bias 0.

    Weights: kernel `[inputs + units, 4 * units]` over `[x, h]`, bias `[4 * units]`.

    Source: Hochreiter and Schmidhuber 1997, Gers et al. 2000 (forget gate).

    Args:
        init: Draws the weights.
        name: Name from which the weights are seeded.
        inputs: Size of the input.
        units: Size of the output.
    """

    state_parts = 2

    def __init__(self, init: Initializer, name: str, inputs: int, units: int) -> None:
        super().__init__()
        self.kernel = init.glorot(f"{name}/kernel", [inputs + units, 4 * units])
        self.bias = init.constant(f"{name}/bias", [4 * units], 0.0)

    def __call__(self, x: tf.Tensor, state: State) -> State:
        """Takes one step.

        Args:
            x: `[batch, inputs]`.
            state: `(c, h)`, `[batch, units]` each.

        Returns:
            The new state; h is also the output.
        """
        c, h = state
        return lstm_step(tf.concat([x, h], -1) @ self.kernel + self.bias, c)


class GruCell(tf.Module):
    """GRU with the reset gate applied before the matrix product; gates r, u; gate bias 1.

    Weights: gates_kernel `[inputs + units, 2 * units]`, gates_bias `[2 * units]`,
    candidate_kernel `[inputs + units, units]`, candidate_bias `[units]`.

    Source: Cho et al. 2014 (https://arxiv.org/abs/1406.1078).

    Args:
        init: Draws the weights.
        name: Name from which the weights are seeded.
        inputs: Size of the input.
        units: Size of the output.
    """

    state_parts = 1

    def __init__(self, init: Initializer, name: str, inputs: int, units: int) -> None:
        super().__init__()
        self.gates_kernel = init.glorot(f"{name}/gates_kernel", [inputs + units, 2 * units])
        self.gates_bias = init.constant(f"{name}/gates_bias", [2 * units], 1.0)
        self.candidate_kernel = init.glorot(f"{name}/candidate_kernel", [inputs + units, units])
        self.candidate_bias = init.constant(f"{name}/candidate_bias", [units], 0.0)

    def __call__(self, x: tf.Tensor, state: State) -> State:
        """Takes one step.

        Args:
            x: `[batch, inputs]`.
            state: `(h,)`, `[batch, units]`.

        Returns:
            The new state; h is also the output.
        """
        (h,) = state
        gates = tf.sigmoid(tf.concat([x, h], -1) @ self.gates_kernel + self.gates_bias)
        r, u = tf.split(gates, 2, axis=-1)
        candidate = tf.concat([x, r * h], -1) @ self.candidate_kernel + self.candidate_bias
        return (u * h + (1.0 - u) * tf.tanh(candidate),)


def lstm_step(gates: tf.Tensor, c: tf.Tensor) -> State:
    """Returns the new `(c, h)`, given gates `[..., 4 * units]` before their nonlinearities."""
    i, j, f, o = tf.split(gates, 4, axis=-1)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(j)
    return c, tf.sigmoid(o) * tf.tanh(c)


class LocalGradients(NamedTuple):
    """Partial derivatives of each step's results, for all steps at once.

    Attributes:
        gates: `[time, batch, 4 * units]`, of the new cell state (gates i, j, f) and of the output
            (gate o) with respect to each gate before its nonlinearity.
        cell: `[time, batch, units]`, of the new cell state with respect to the previous one.
        output: `[time, batch, units]`, of the output with respect to the new cell state.
    """

    gates: tf.Tensor
    cell: tf.Tensor
    output: tf.Tensor


def lstm(gates: tf.Tensor, kernel: tf.Tensor, lengths: tf.Tensor, direction: int) -> Tensors:
    """Runs an LSTM over all columns; every row is computed as if it were alone in the batch.

    Args:
        gates: `[time, batch, 4 * units]`, the input's part of the gates i, j (candidate), f, o.
        kernel: `[units, 4 * units]`, the recurrent kernel.
        lengths: `[batch]` int32, the columns of each row that are not padding.
        direction: 1 for the first column to the last, -1 for the reverse.

    Returns:
        Outputs and cell states, both `[time, batch, units]`. The padding repeats the state of the
        column that was computed before it, or is zero if there was none.
    """
    return _forward(gates, kernel, _mask(gates, lengths), direction)


def lstm_with_gradient(gates: tf.Tensor, kernel: tf.Tensor, lengths: tf.Tensor, direction: int
                       ) -> Tensors:
    """Runs an LSTM as `lstm` does, with a hand-written gradient.

    Source: Werbos 1990, "Backpropagation through time".
    """
    mask = _mask(gates, lengths)

    @tf.custom_gradient
    def recurrence(gates: tf.Tensor, kernel: tf.Tensor) -> tuple[Tensors, Gradient]:
        outputs, cells = _forward(gates, kernel, mask, direction)

        def gradient(*output_gradients: tf.Tensor) -> Tensors:
            previous_cells = _previous(cells, direction)
            units = kernel.shape[0]
            hidden = tf.reshape(_previous(outputs, direction), [-1, units])
            all_gates = gates + tf.reshape(hidden @ kernel, tf.shape(gates))
            local = _local_gradients(all_gates, previous_cells, cells)
            by_gates = _backward(output_gradients, local, tf.transpose(kernel), mask, direction)
            flat = tf.reshape(by_gates, [-1, 4 * units])
            return by_gates, tf.matmul(hidden, flat, transpose_a=True)

        return (outputs, cells), gradient

    results: Tensors = recurrence(gates, kernel)
    return results


def _mask(gates: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Returns `[time, batch, 1]` bool, False in the padding."""
    return tf.transpose(tf.sequence_mask(lengths, tf.shape(gates)[0]))[:, :, None]


def _forward(gates: tf.Tensor, kernel: tf.Tensor, mask: tf.Tensor, direction: int) -> Tensors:
    time, batch, units = tf.shape(gates)[0], tf.shape(gates)[1], kernel.shape[0]
    zero = tf.zeros([batch, units], gates.dtype)
    arrays = _arrays(2, time, [gates.shape[1], units], gates.dtype)

    def step(t: tf.Tensor, h: tf.Tensor, c: tf.Tensor, *arrays: tf.TensorArray) -> Tensors:
        new_c, new_h = lstm_step(gates[t] + h @ kernel, c)
        h, c = tf.where(mask[t], new_h, h), tf.where(mask[t], new_c, c)
        return t + direction, h, c, arrays[0].write(t, h), arrays[1].write(t, c)

    start = tf.constant(0) if direction > 0 else time - 1
    *_, outputs, cells = tf.while_loop(
        lambda t, *_: (t >= 0) & (t < time), step, (start, zero, zero, *arrays))
    return tuple(tf.ensure_shape(array.stack(), [*gates.shape[:2], units])
                 for array in (outputs, cells))


def _previous(x: tf.Tensor, direction: int) -> tf.Tensor:
    """Returns the values of the preceding steps, `[time, batch, units]`; zero for the first."""
    return tf.pad(x[:-1], [[1, 0], [0, 0], [0, 0]]) if direction > 0 else tf.pad(
        x[1:], [[0, 1], [0, 0], [0, 0]])


def _local_gradients(gates: tf.Tensor, previous_cells: tf.Tensor, cells: tf.Tensor
                     ) -> LocalGradients:
    i, j, f, o = tf.split(gates, 4, axis=-1)
    i, j, f, o, new = tf.sigmoid(i), tf.tanh(j), tf.sigmoid(f), tf.sigmoid(o), tf.tanh(cells)
    by_gates = [j * i * (1 - i), i * (1 - j * j), previous_cells * f * (1 - f), new * o * (1 - o)]
    return LocalGradients(tf.concat(by_gates, -1), f, o * (1 - new * new))


def _backward(output_gradients: Tensors, local: LocalGradients, transposed_kernel: tf.Tensor,
              mask: tf.Tensor, direction: int) -> tf.Tensor:
    """Returns the gradient of the gates, `[time, batch, 4 * units]`.

    Args:
        output_gradients: Gradients of the outputs and of the cell states.
        local: The partial derivatives of each step.
        transposed_kernel: `[4 * units, units]`.
        mask: `[time, batch, 1]` bool.
        direction: That of the forward pass.
    """
    time, units = tf.shape(mask)[0], transposed_kernel.shape[1]
    zero = tf.zeros_like(output_gradients[0][0])
    (array,) = _arrays(1, time, [None, 4 * units], zero.dtype)

    def step(t: tf.Tensor, h: tf.Tensor, c: tf.Tensor, array: tf.TensorArray) -> Tensors:
        h, c = h + output_gradients[0][t], c + output_gradients[1][t]
        new_c = c + h * local.output[t]
        by_gates = tf.concat([new_c, new_c, new_c, h], -1) * local.gates[t]
        by_gates = tf.where(mask[t], by_gates, tf.zeros_like(by_gates))
        h, c = tf.where(mask[t], by_gates @ transposed_kernel, h), tf.where(
            mask[t], new_c * local.cell[t], c)
        return t - direction, h, c, array.write(t, by_gates)

    start = time - 1 if direction > 0 else tf.constant(0)
    *_, array = tf.while_loop(lambda t, *_: (t >= 0) & (t < time), step, (start, zero, zero, array))
    by_gates: tf.Tensor = array.stack()
    return by_gates


def _arrays(number: int, time: tf.Tensor, shape: list[int | None], dtype: tf.DType
            ) -> list[tf.TensorArray]:
    return [tf.TensorArray(dtype, time, element_shape=shape) for _ in range(number)]
