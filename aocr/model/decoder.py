"""The attention decoder, which emits one character per step.

At each step, stacked LSTM (or GRU) cells take the embedding of the previous character and the
previous context; their new state attends over the memory, and the attention-weighted sum of the
memory is the new context. With E = embedding size, A = memory units, H = decoder units:

    x = [embedding(previous id), context] @ K_in + b_in         [E + A] -> [H]
    h, state = cells(x, state)                                  [H], state parts of [H] each
    query = concat(state) @ K_q + b_q                           -> [A]
    score_t = sum(v * tanh(memory_t @ K_m + query))             one for each column t
    attention = softmax(score), context = sum_t attention_t * memory_t
    logits = [h, context] @ K_out + b_out                       [H + A] -> [vocab]

Source: Vinyals et al. 2015, "Grammar as a Foreign Language" (https://arxiv.org/abs/1412.7449); the
original takes that decoder from TensorFlow 1. The score is that of Bahdanau et al. 2015
(https://arxiv.org/abs/1409.0473). The context in the input of the next step is the input feeding
of Luong et al. 2015 (https://arxiv.org/abs/1508.04025).
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from aocr.config import ModelConfig
from aocr.model.layers import Initializer, Linear
from aocr.model.rnn import GruCell, LstmCell, State
from aocr.tokenizer import EOS_ID, GO_ID


class Memory(NamedTuple):
    """What the decoder attends over; computed once per image.

    Attributes:
        values: `[batch, time, memory units]`, the encoder's outputs.
        keys: `[batch, time, memory units]`, their projections for the scores.
        bias: `[batch, time]`, added to the scores: 0, or the lowest number in the padding.
        start: `[batch, state size]`, the decoder's initial state.
    """

    values: tf.Tensor
    keys: tf.Tensor
    bias: tf.Tensor
    start: tf.Tensor


class Decoded(NamedTuple):
    """Result of greedy decoding.

    Attributes:
        ids: `[batch, steps]` int32.
        logits: `[batch, steps, vocab]`.
        attention: `[batch, steps, time]`; rows sum to 1.
    """

    ids: tf.Tensor
    logits: tf.Tensor
    attention: tf.Tensor


class TeacherForced(NamedTuple):
    """Result of teacher-forced decoding.

    Attributes:
        logits: `[batch, steps, vocab]`.
        attention: `[batch, steps, time]`; rows sum to 1.
    """

    logits: tf.Tensor
    attention: tf.Tensor


class StepOutput(NamedTuple):
    """Result of one step, besides the new state.

    Attributes:
        features: `[batch, hidden + memory units]`, output of the cells and context, from which
            the logits are computed.
        attention: `[batch, time]`.
    """

    features: tf.Tensor
    attention: tf.Tensor


class Decoder(tf.Module):
    """Stacked recurrent cells, each with its own weights, and additive attention.

    Args:
        init: Draws the weights.
        config: Sizes, and the type of the cells.
    """

    def __init__(self, init: Initializer, config: ModelConfig) -> None:
        super().__init__()
        hidden, units = config.attn_num_hidden, config.memory_units
        cell = GruCell if config.use_gru else LstmCell
        self._units, self._embedding_size = units, config.target_embedding_size
        self._parts = cell.state_parts
        self._state_size = cell.state_parts * config.attn_num_layers * hidden
        self.embedding = init.glorot(
            "decoder/embedding", [config.vocab_size, config.target_embedding_size])
        self.start = Linear(init, "decoder/start", 4 * config.encoder_units, self._state_size)
        self.input = Linear(init, "decoder/input", self._embedding_size + units, hidden)
        self.cells = [cell(init, f"decoder/cell{n + 1}", hidden, hidden)
                      for n in range(config.attn_num_layers)]
        self.keys = init.glorot("decoder/keys", [units, units])
        self.query = Linear(init, "decoder/query", self._state_size, units)
        self.score = init.glorot("decoder/score", [units])
        self.output = Linear(init, "decoder/output", hidden + units, config.vocab_size)

    def attend_over(self, values: tf.Tensor, lengths: tf.Tensor, last_states: tf.Tensor) -> Memory:
        """Computes everything that is the same at every step.

        Args:
            values: `[batch, time, memory units]`.
            lengths: `[batch]` int32, the columns of each row that are not padding.
            last_states: `[batch, 4 * encoder units]`, the encoder's last states.
        """
        mask = tf.sequence_mask(lengths, tf.shape(values)[1])
        bias = tf.where(mask, tf.zeros([], values.dtype), values.dtype.min)
        return Memory(values, tf.tensordot(values, self.keys, 1), bias, self.start(last_states))

    def teacher_forced(self, memory: Memory, targets: tf.Tensor) -> tf.Tensor:
        """Returns the logits when every step is given the true previous character.

        Args:
            memory: The encoded images.
            targets: `[batch, steps]` int32: characters, EOS, then PAD.

        Returns:
            `[batch, steps, vocab]`.
        """
        return self.guided(memory, targets, None).logits

    def guided(self, memory: Memory, targets: tf.Tensor, bias: tf.Tensor | None) -> TeacherForced:
        """Computes the logits of `teacher_forced` with a bias on the attention scores.

        Args:
            memory: The encoded images.
            targets: As in `teacher_forced`.
            bias: `[batch, steps, time]`, added to the scores from which the context is computed.

        Returns:
            The logits, and the attention without the bias.
        """
        step_biases = None if bias is None else tf.transpose(bias, [1, 0, 2])
        steps = tf.shape(targets)[1]
        previous = tf.pad(targets[:, :-1], [[0, 0], [1, 0]], constant_values=GO_ID)
        inputs = self.embedded(tf.gather(self.embedding, tf.transpose(previous)))
        arrays = tuple(tf.TensorArray(inputs.dtype, steps, element_shape=[None, size])
                       for size in (self._features_size, None))

        def step(t: tf.Tensor, state: State, context: tf.Tensor,
                 arrays: tuple[tf.TensorArray, ...]) -> tuple[object, ...]:
            state, context, output = self.step(
                inputs[t], state, context, memory,
                None if step_biases is None else step_biases[t])
            arrays = arrays[0].write(t, output.features), arrays[1].write(t, output.attention)
            return t + 1, state, context, arrays

        start = (tf.constant(0), self.initial_state(memory), self.no_context(memory), arrays)
        *_, arrays = tf.while_loop(lambda t, *_: t < steps, step, start)
        features, attention = (array.stack() for array in arrays)
        return TeacherForced(tf.transpose(self.output(features), [1, 0, 2]),
                             tf.transpose(attention, [1, 0, 2]))

    def greedy(self, memory: Memory, max_steps: int, until_eos: bool = True) -> Decoded:
        """Decodes with the most probable character of each step as input of the next.

        Args:
            memory: The encoded images.
            max_steps: Largest number of steps.
            until_eos: Stop as soon as every row has emitted EOS; else take all steps.
        """
        table = self.embedded(self.embedding)  # read before the loop: frozen graphs need it
        batch = tf.shape(memory.values)[0]
        done = tf.zeros([batch], tf.bool)
        # LiteRT needs arrays of known shape and size.
        rows, columns, _ = memory.values.shape
        arrays = tuple(tf.TensorArray(memory.values.dtype, 0 if until_eos else max_steps,
                                      dynamic_size=until_eos, element_shape=[rows, size])
                       for size in (self.output.bias.shape[0], columns))

        def step(t: tf.Tensor, ids: tf.Tensor, done: tf.Tensor, state: State,
                 context: tf.Tensor, arrays: tuple[tf.TensorArray, ...]) -> tuple[object, ...]:
            state, context, output = self.step(tf.gather(table, ids), state, context, memory)
            logits = self.output(output.features)
            ids = tf.argmax(logits, -1, tf.int32)
            arrays = (arrays[0].write(t, logits), arrays[1].write(t, output.attention))
            return t + 1, ids, done | (ids == EOS_ID), state, context, arrays

        def more(t: tf.Tensor, ids: tf.Tensor, done: tf.Tensor, *_: object) -> tf.Tensor:
            return (t < max_steps) & ~(until_eos & tf.reduce_all(done))

        start = (tf.constant(0), tf.fill([batch], GO_ID), done, self.initial_state(memory),
                 self.no_context(memory), arrays)
        *_, arrays = tf.while_loop(more, step, start)
        logits, attention = (tf.transpose(array.stack(), [1, 0, 2]) for array in arrays)
        return Decoded(tf.argmax(logits, -1, tf.int32), logits, attention)

    @property
    def _features_size(self) -> int:
        return int(self.output.kernel.shape[0])

    def embedded(self, vectors: tf.Tensor) -> tf.Tensor:
        """Returns the part of embeddings in the input of the cells, `[..., hidden]`."""
        return tf.tensordot(vectors, self.input.kernel[:self._embedding_size], 1) + self.input.bias

    def initial_state(self, memory: Memory) -> State:
        """Returns the state before the first step, see `step`."""
        return tuple(tf.split(memory.start, self._parts * len(self.cells), axis=-1))

    def no_context(self, memory: Memory) -> tf.Tensor:
        """Returns the context before the first step: zeros, `[batch, memory units]`."""
        return tf.zeros_like(memory.values[:, 0])

    def step(self, embedded: tf.Tensor, state: State, context: tf.Tensor, memory: Memory,
             bias: tf.Tensor | None = None) -> tuple[State, tf.Tensor, StepOutput]:
        """Takes one step of all layers, and attends over the memory with their new state.

        Args:
            embedded: `[batch, hidden]`, see `embedded`.
            state: Parts of `[batch, hidden]`, from the first layer to the last.
            context: `[batch, memory units]`.
            memory: The encoded images.
            bias: `[batch, time]`, see `guided`.

        Returns:
            The new state, the new context, and the output.
        """
        x = embedded + context @ self.input.kernel[self._embedding_size:]
        new_state: list[tf.Tensor] = []
        for n, cell in enumerate(self.cells):
            parts = cell(x, state[n * self._parts:(n + 1) * self._parts])
            new_state.extend(parts)
            x = parts[-1]
        query = self.query(tf.concat(new_state, -1))
        scores = tf.tensordot(tf.tanh(memory.keys + query[:, None]), self.score, 1)
        scores += memory.bias
        attention = tf.nn.softmax(scores)
        weights = attention if bias is None else tf.nn.softmax(scores + bias)
        # For a batch of one image, this sum is faster than a batched matrix product.
        context = tf.reduce_sum(memory.values * weights[:, :, None], 1)
        return tuple(new_state), context, StepOutput(tf.concat([x, context], -1), attention)
