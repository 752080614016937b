"""Beam search in a finite automaton: decodes only texts that the automaton accepts.

The automaton restricts every step: in state s, only the symbols of the transitions that leave s
are possible, and only those after which a final state can still be reached in the remaining
steps. Decoding therefore never reaches a dead end. An automaton of one state that accepts every
text gives an ordinary beam search, and a beam of width 1 greedy decoding in the automaton.

A hypothesis is scored by its log-probability under the model without the automaton. The first of
the hypotheses of an image is always the greedy one, which another beam search may lose; the most
probable text is therefore never less probable than the greedy one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from aocr.model.decoder import Decoder, Memory
from aocr.model.rnn import State
from aocr.tokenizer import EOS_ID, FIRST_CHARACTER_ID, GO_ID

FINAL_STATE = 0  # reached by EOS; it has one transition, EOS to itself
START_STATE = 1
_UNLIMITED = np.iinfo(np.int32).max


class TransitionTable(NamedTuple):
    """A deterministic automaton over ids, as arrays sorted by state.

    Attributes:
        first: `[states + 1]` int32, position of the first transition of each state.
        symbols: `[transitions]` int32, the id that a transition consumes.
        targets: `[transitions]` int32, the state that it leads to.
        distances: `[states]` int32, number of steps from each state to `FINAL_STATE`.
        steps: Maximum number of steps, including that of EOS.
    """

    first: np.ndarray
    symbols: np.ndarray
    targets: np.ndarray
    distances: np.ndarray
    steps: int


class SearchResult(NamedTuple):
    """The hypotheses of a beam search, by falling probability.

    Attributes:
        ids: `[batch, beam_width, steps]` int32; EOS in all steps after the first EOS.
        log_probabilities: `[batch, beam_width, steps]`, 0 after EOS; `-inf` if the automaton
            accepts fewer texts than the beam has hypotheses.
        attention: `[batch, steps, time]`, of the most probable hypothesis.
    """

    ids: tf.Tensor
    log_probabilities: tf.Tensor
    attention: tf.Tensor


class _Beam(NamedTuple):
    """Hypotheses between two steps, in rows of `beam_width` for each image.

    Attributes:
        states: `[batch, beam_width]` int32, states of the automaton.
        scores: `[batch, beam_width]`, log-probabilities; `-inf` for no hypothesis.
        ids: `[batch, beam_width, max steps]` int32, the ids so far.
        positions: `[batch, beam_width, max steps]` int32, the position in the beam that the
            hypothesis, or the one that it continues, had after each step.
    """

    states: tf.Tensor
    scores: tf.Tensor
    ids: tf.Tensor
    positions: tf.Tensor


class _Candidates(NamedTuple):
    """Continuations of each hypothesis by the transitions that leave its state.

    Attributes:
        symbols: `[rows, degree]` int32.
        targets: `[rows, degree]` int32.
        log_probabilities: `[rows, degree]`, `-inf` for transitions that are not possible.
    """

    symbols: tf.Tensor
    targets: tf.Tensor
    log_probabilities: tf.Tensor


def unrestricted(vocab_size: int) -> TransitionTable:
    """Returns the automaton that accepts every text, of any length."""
    symbols = [EOS_ID, *range(FIRST_CHARACTER_ID, vocab_size), EOS_ID]
    targets = [FINAL_STATE, *[START_STATE] * (vocab_size - FIRST_CHARACTER_ID), FINAL_STATE]
    first, symbols_array, targets_array = (
        np.array(values, np.int32) for values in ([0, 1, len(symbols)], symbols, targets))
    return TransitionTable(first, symbols_array, targets_array, np.zeros(2, np.int32), _UNLIMITED)


def search(decoder: Decoder, memory: Memory, max_steps: int, table: TransitionTable,
           beam_width: int, temperature: float = 1.0) -> SearchResult:
    """Decodes the most probable texts that an automaton accepts.

    Args:
        decoder: The decoder.
        memory: The encoded images.
        max_steps: Largest number of steps.
        table: The automaton.
        beam_width: Number of hypotheses of each image.
        temperature: Divides the logits.
    """
    batch = tf.shape(memory.values)[0]
    memory = Memory(*(tf.repeat(part, beam_width, 0) for part in memory))
    vectors = decoder.embedded(decoder.embedding)  # read before the loop: frozen graphs need it
    transitions = _Transitions(table)
    arrays = tuple(tf.TensorArray(memory.values.dtype, 0, dynamic_size=True, element_shape=shape)
                   for shape in ([None, beam_width], [None, beam_width, None]))

    def step(t: tf.Tensor, ids: tf.Tensor, state: State, context: tf.Tensor, beam: _Beam,
             arrays: tuple[tf.TensorArray, ...]) -> tuple[object, ...]:
        state, context, output = decoder.step(tf.gather(vectors, ids), state, context, memory)
        log_probabilities = tf.nn.log_softmax(decoder.output(output.features) / temperature)
        candidates = transitions.candidates(
            tf.reshape(beam.states, [-1]), log_probabilities, t)
        chosen = _choose(beam.scores, candidates, beam_width)
        parents = tf.range(batch)[:, None] * beam_width + chosen // transitions.degree
        rows = tf.reshape(parents, [-1])
        symbols, targets, log_probabilities = (
            _gather_in_groups(part, chosen, batch) for part in candidates)
        arrays = (arrays[0].write(t, log_probabilities),
                  arrays[1].write(t, tf.gather(output.attention, parents)))
        new = (tf.reshape(symbols, [-1]), tuple(tf.gather(part, rows) for part in state),
               tf.gather(context, rows),
               _extend(beam, t, parents, symbols, targets, log_probabilities))
        for value, before in zip(tf.nest.flatten(new), tf.nest.flatten(
                (ids, state, context, beam)), strict=True):
            value.set_shape(before.shape)  # within the loop, the number of images is not constant
        return t + 1, *new, arrays

    def more(t: tf.Tensor, ids: tf.Tensor, state: State, context: tf.Tensor, beam: _Beam,
             *_: object) -> tf.Tensor:
        unfinished = (beam.states != FINAL_STATE) & (beam.scores > -np.inf)
        return (t < max_steps) & tf.reduce_any(unfinished)

    start = (tf.constant(0), tf.fill([batch * beam_width], GO_ID), decoder.initial_state(memory),
             decoder.no_context(memory),
             _first_beam(batch, beam_width, max_steps, memory.values.dtype), arrays)
    steps, _, _, _, beam, arrays = tf.while_loop(more, step, start)
    return _trace(beam, steps, arrays[0].stack(), arrays[1].stack())


class _Transitions:
    """The constants of a table in the graph.

    Args:
        table: The automaton.

    Attributes:
        degree: Largest number of transitions that leave a state.
    """

    def __init__(self, table: TransitionTable) -> None:
        self._first, self._symbols, self._targets, self._distances = (
            tf.constant(values) for values in table[:4])
        self._steps = table.steps
        self.degree = int(np.diff(table.first).max())

    def candidates(self, states: tf.Tensor, log_probabilities: tf.Tensor, t: tf.Tensor
                   ) -> _Candidates:
        """Returns the continuations of hypotheses.

        Args:
            states: `[rows]` int32.
            log_probabilities: `[rows, vocab]`.
            t: Number of the step, int32.
        """
        first = tf.gather(self._first, states)[:, None]
        number = tf.range(self.degree)[None]
        exists = number < tf.gather(self._first, states + 1)[:, None] - first
        transition = tf.where(exists, first + number, 0)
        symbols = tf.gather(self._symbols, transition)
        targets = tf.gather(self._targets, transition)
        remaining = tf.maximum(self._steps - 1 - t, 0)
        possible = exists & (tf.gather(self._distances, targets) <= remaining)
        values = _gather_in_groups(log_probabilities, symbols, tf.shape(states)[0])
        values = tf.where((states == FINAL_STATE)[:, None], tf.zeros([], values.dtype), values)
        return _Candidates(symbols, targets, tf.where(possible, values, _minus_infinity(values)))


def _first_beam(batch: tf.Tensor, beam_width: int, max_steps: int, dtype: tf.DType) -> _Beam:
    is_first = tf.range(beam_width)[None] < tf.ones([batch, 1], tf.int32)
    scores = tf.where(is_first, tf.zeros([], dtype), tf.constant(-np.inf, dtype))
    return _Beam(tf.fill([batch, beam_width], START_STATE), scores,
                 tf.fill([batch, beam_width, max_steps], EOS_ID),
                 tf.zeros([batch, beam_width, max_steps], tf.int32))


def _choose(scores: tf.Tensor, candidates: _Candidates, beam_width: int) -> tf.Tensor:
    """Chooses the greedy continuation of the first hypothesis, then the most probable others.

    Returns:
        `[batch, beam_width]` int32, positions among the `beam_width * degree` candidates of each
        image.
    """
    degree = tf.shape(candidates.symbols)[1]
    sums = tf.reshape(scores, [-1, 1]) + candidates.log_probabilities
    sums = tf.reshape(sums, [-1, beam_width * degree])
    greedy = tf.argmax(sums[:, :degree], -1, tf.int32)
    is_greedy = tf.range(beam_width * degree)[None] == greedy[:, None]
    return tf.math.top_k(tf.where(is_greedy, -_minus_infinity(sums), sums), beam_width).indices


def _extend(beam: _Beam, t: tf.Tensor, parents: tf.Tensor, symbols: tf.Tensor, targets: tf.Tensor,
            log_probabilities: tf.Tensor) -> _Beam:
    """Returns the beam after a step; all arguments but `beam` and `t` are `[batch, beam_width]`."""
    beam_width, max_steps = beam.ids.shape[1:]
    ids, positions = (tf.gather(tf.reshape(part, [-1, max_steps]), parents)
                      for part in (beam.ids, beam.positions))
    is_now = tf.range(max_steps) == t
    return _Beam(
        targets, tf.gather(tf.reshape(beam.scores, [-1]), parents) + log_probabilities,
        tf.where(is_now, symbols[:, :, None], ids),
        tf.where(is_now, tf.range(beam_width)[None, :, None], positions))


def _trace(beam: _Beam, steps: tf.Tensor, log_probabilities: tf.Tensor, attention: tf.Tensor
           ) -> SearchResult:
    """Collects the values of each step of each hypothesis, and sorts the hypotheses.

    Args:
        beam: The hypotheses after the last step.
        steps: Number of steps, int32.
        log_probabilities: `[steps, batch, beam_width]`.
        attention: `[steps, batch, beam_width, time]`.
    """
    beam_width = beam.ids.shape[1]
    batch = tf.shape(beam.ids)[0]
    order = tf.math.top_k(beam.scores, beam_width).indices + tf.range(batch)[:, None] * beam_width
    ids, positions = (tf.gather(tf.reshape(part, [batch * beam_width, -1])[:, :steps], order)
                      for part in (beam.ids, beam.positions))
    step_and_image = tf.range(steps)[None] * batch + tf.range(batch)[:, None]
    places = step_and_image[:, None] * beam_width + positions
    values = tf.gather(tf.reshape(log_probabilities, [-1]), places)
    scores = tf.gather(tf.reshape(beam.scores, [-1]), order)[:, :, None]
    time = tf.shape(attention)[-1]
    return SearchResult(ids, tf.where(scores > -np.inf, values, _minus_infinity(values)),
                    tf.gather(tf.reshape(attention, [-1, time]), places[:, 0]))


def _gather_in_groups(values: tf.Tensor, positions: tf.Tensor, groups: tf.Tensor) -> tf.Tensor:
    """Gathers from equal parts of a tensor, one for each row of positions.

    `tf.gather(..., batch_dims=1)` does the same, but other runtimes lack it.

    Args:
        values: `[groups * n / size, size]`.
        positions: `[groups, m]` int32, from 0 to n - 1.
        groups: Number of groups, int32.

    Returns:
        `[groups, m]`.
    """
    values = tf.reshape(values, [-1])
    return tf.gather(values, tf.range(groups)[:, None] * (tf.size(values) // groups) + positions)


def _minus_infinity(values: tf.Tensor) -> tf.Tensor:
    return tf.constant(-np.inf, values.dtype)
