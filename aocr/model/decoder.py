"""The attention decoder: memory → one character a step.

Source: Bahdanau et al. 2015 (additive attention) and Luong et al. 2015 (input feeding), in the
arrangement of the original.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from aocr.config import ModelConfig
from aocr.model.layers import Initializer, Linear
from aocr.model.rnn import GruCell, LstmCell, State
from aocr.tokenizer import EOS_ID, GO_ID


class Memory(NamedTuple):
    """What the decoder looks at; made once for each image.

    Attributes:
        values: `[batch, time, memory units]`, the encoder's outputs.
        keys: `[batch, time, memory units]`, their projections for the scores.
        bias: `[batch, time]`, 0 inside the image and the lowest number in the padding.
        start: `[batch, state size]`, the decoder's first state.
    """

    values: tf.Tensor
    keys: tf.Tensor
    bias: tf.Tensor
    start: tf.Tensor


class Decoded(NamedTuple):
    """A greedy decoding of S steps.

    Attributes:
        ids: `[batch, S]` int32.
        logits: `[batch, S, vocab]`.
        attention: `[batch, S, time]`, rows sum to 1.
    """

    ids: tf.Tensor
    logits: tf.Tensor
    attention: tf.Tensor


class TeacherForced(NamedTuple):
    """A teacher-forced decoding of S steps.

    Attributes:
        logits: `[batch, S, vocab]`.
        attention: `[batch, S, time]`, rows sum to 1.
    """

    logits: tf.Tensor
    attention: tf.Tensor


class StepOutput(NamedTuple):
    """What one step saw: output and context `[batch, hidden + memory units]`, attention."""

    seen: tf.Tensor
    attention: tf.Tensor


class Decoder(tf.Module):
    """Stacked cells with additive attention; every layer has its own weights."""

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

    def remember(self, values: tf.Tensor, lengths: tf.Tensor, last: tf.Tensor) -> Memory:
        """Everything of an image that is the same at every step.

        Args:
            values: `[batch, time, memory units]`.
            lengths: `[batch]` int32, columns that are not padding.
            last: `[batch, 4 * encoder units]`, the encoder's last states.
        """
        inside = tf.sequence_mask(lengths, tf.shape(values)[1])
        bias = tf.where(inside, tf.zeros([], values.dtype), values.dtype.min)
        return Memory(values, tf.tensordot(values, self.keys, 1), bias, self.start(last))

    def teacher_forced(self, memory: Memory, targets: tf.Tensor) -> tf.Tensor:
        """Returns the logits of steps that are given the true previous character.

        Args:
            memory: The images.
            targets: `[batch, S]` int32: characters, EOS, then PAD.

        Returns:
            `[batch, S, vocab]`.
        """
        return self.guided(memory, targets, None).logits

    def guided(self, memory: Memory, targets: tf.Tensor, bias: tf.Tensor | None) -> TeacherForced:
        """As `teacher_forced`, with a bias on the attention's scores.

        Args:
            memory: The images.
            targets: As in `teacher_forced`.
            bias: `[batch, S, time]`, added to the scores from which the context is computed; the
                attention that is returned is the one without it.
        """
        step_biases = None if bias is None else tf.transpose(bias, [1, 0, 2])
        steps = tf.shape(targets)[1]
        previous = tf.pad(targets[:, :-1], [[0, 0], [1, 0]], constant_values=GO_ID)
        inputs = self._embedded(tf.gather(self.embedding, tf.transpose(previous)))
        arrays = tuple(tf.TensorArray(inputs.dtype, steps, element_shape=[None, size])
                       for size in (self._seen_size, None))

        def step(t: tf.Tensor, state: State, context: tf.Tensor,
                 arrays: tuple[tf.TensorArray, ...]) -> tuple[object, ...]:
            state, context, output = self._step(
                inputs[t], state, context, memory,
                None if step_biases is None else step_biases[t])
            arrays = arrays[0].write(t, output.seen), arrays[1].write(t, output.attention)
            return t + 1, state, context, arrays

        start = (tf.constant(0), self._start(memory), self._no_context(memory), arrays)
        *_, arrays = tf.while_loop(lambda t, *_: t < steps, step, start)
        seen, attention = (array.stack() for array in arrays)
        return TeacherForced(tf.transpose(self.output(seen), [1, 0, 2]),
                             tf.transpose(attention, [1, 0, 2]))

    def greedy(self, memory: Memory, steps: int, until_eos: bool = True) -> Decoded:
        """Decodes by feeding back the most probable character.

        Args:
            memory: The images.
            steps: Most steps to take.
            until_eos: End as soon as every row has met EOS, else take all steps.
        """
        table = self._embedded(self.embedding)  # read before the loop: frozen graphs need it
        batch = tf.shape(memory.values)[0]
        done = tf.zeros([batch], tf.bool)
        arrays = tuple(tf.TensorArray(memory.values.dtype, 0, dynamic_size=True,
                                      element_shape=shape)
                       for shape in ([None, self.output.bias.shape[0]], [None, None]))

        def step(t: tf.Tensor, ids: tf.Tensor, done: tf.Tensor, state: State,
                 context: tf.Tensor, arrays: tuple[tf.TensorArray, ...]) -> tuple[object, ...]:
            state, context, look = self._step(tf.gather(table, ids), state, context, memory)
            logits = self.output(look.seen)
            ids = tf.argmax(logits, -1, tf.int32)
            arrays = (arrays[0].write(t, logits), arrays[1].write(t, look.attention))
            return t + 1, ids, done | (ids == EOS_ID), state, context, arrays

        def more(t: tf.Tensor, ids: tf.Tensor, done: tf.Tensor, *_: object) -> tf.Tensor:
            return (t < steps) & ~(until_eos & tf.reduce_all(done))

        start = (tf.constant(0), tf.fill([batch], GO_ID), done, self._start(memory),
                 self._no_context(memory), arrays)
        *_, arrays = tf.while_loop(more, step, start)
        logits, attention = (tf.transpose(array.stack(), [1, 0, 2]) for array in arrays)
        return Decoded(tf.argmax(logits, -1, tf.int32), logits, attention)

    @property
    def _seen_size(self) -> int:
        return int(self.output.kernel.shape[0])

    def _embedded(self, vectors: tf.Tensor) -> tf.Tensor:
        """The embedding's part of the cell input, `[..., hidden]`."""
        return tf.tensordot(vectors, self.input.kernel[:self._embedding_size], 1) + self.input.bias

    def _start(self, memory: Memory) -> State:
        return tuple(tf.split(memory.start, self._parts * len(self.cells), axis=-1))

    def _no_context(self, memory: Memory) -> tf.Tensor:
        return tf.zeros_like(memory.values[:, 0])

    def _step(self, embedded: tf.Tensor, state: State, context: tf.Tensor, memory: Memory,
              bias: tf.Tensor | None = None) -> tuple[State, tf.Tensor, StepOutput]:
        """One step of all layers, then one look at the memory."""
        x = embedded + context @ self.input.kernel[self._embedding_size:]
        after: list[tf.Tensor] = []
        for n, cell in enumerate(self.cells):
            parts = cell(x, state[n * self._parts:(n + 1) * self._parts])
            after.extend(parts)
            x = parts[-1]
        query = self.query(tf.concat(after, -1))
        scores = tf.tensordot(tf.tanh(memory.keys + query[:, None]), self.score, 1)
        scores += memory.bias
        attention = tf.nn.softmax(scores)
        used = attention if bias is None else tf.nn.softmax(scores + bias)
        # A product of batches takes longer than this sum where the batch is one image.
        context = tf.reduce_sum(memory.values * used[:, :, None], 1)
        return tuple(after), context, StepOutput(tf.concat([x, context], -1), attention)
