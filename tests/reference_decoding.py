"""Decoding, probabilities and the loss, in NumPy, with the network of `tests.reference`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.reference import EOS, GO, PAD, Array, Weights, decoder_step, softmax, start_state


class Greedy(NamedTuple):
    """Result of greedy decoding: ids `[S]`, logits `[S, vocab]`, attention `[S, time]`."""

    ids: NDArray[np.int64]
    logits: Array
    attention: Array


def greedy(weights: Weights, memory: Array, last_states: Array, steps: int) -> Greedy:
    """Decodes greedily, all steps: EOS does not end it."""
    state, previous = start_state(weights, last_states), GO
    context: Array = np.zeros(memory.shape[1])
    ids, logits, attention = [], [], []
    for _ in range(steps):
        step = decoder_step(weights, memory, previous, state, context)
        state, context, previous = step.state, step.context, int(np.argmax(step.logits))
        ids.append(previous)
        logits.append(step.logits)
        attention.append(step.attention)
    return Greedy(np.array(ids), np.stack(logits), np.stack(attention))


def sequence_loss(logits: Array, targets: Sequence[int]) -> float:
    """Returns the mean cross-entropy over an image's characters and EOS; logits `[S, vocab]`."""
    probabilities = softmax(logits)
    losses = [-np.log(probabilities[n, target]) for n, target in enumerate(targets)
              if target != PAD]
    return float(np.mean(losses))


def probability(logits: Array) -> float:
    """Returns the product of the largest probabilities up to the first EOS, which is included."""
    product = 1.0
    for probabilities in softmax(logits):
        product *= float(probabilities.max())
        if np.argmax(probabilities) == EOS:
            break
    return product


class Hypothesis(NamedTuple):
    """A text that a beam search considers, with the decoder's state after it."""

    ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    attention: tuple[Array, ...]
    state: list[Array]
    context: Array

    @property
    def score(self) -> float:
        """Log-probability of the ids."""
        return sum(self.log_probabilities)

    @property
    def finished(self) -> bool:
        """Whether the ids end with EOS."""
        return self.ids[-1:] == (EOS,)


def next_ids(prefix: Sequence[int], texts: set[tuple[int, ...]]) -> set[int]:
    """Returns the ids that may follow a prefix of the accepted texts, which have no EOS."""
    n = len(prefix)
    return {text[n] if len(text) > n else EOS for text in texts if text[:n] == tuple(prefix)}


def beam_search(weights: Weights, memory: Array, last_states: Array, steps: int, width: int,
                allowed: Callable[[Sequence[int]], set[int]]) -> list[Hypothesis]:
    """Decodes the most probable texts, of which the greedy one is never lost.

    Args:
        weights: See the module.
        memory: `[time, A]`.
        last_states: `[4E]`.
        steps: Largest number of steps.
        width: Number of hypotheses.
        allowed: Returns the ids that may follow the ids so far.

    Returns:
        The hypotheses by falling probability.
    """
    hypotheses = [Hypothesis((), (), (), start_state(weights, last_states),
                             np.zeros(memory.shape[1]))]
    for _ in range(steps):
        continued = [_continuations(weights, memory, hypothesis, allowed)
                     for hypothesis in hypotheses]
        greedy_one = max(continued[0], key=lambda hypothesis: hypothesis.score)
        others = [hypothesis for group in continued for hypothesis in group
                  if hypothesis is not greedy_one]
        others.sort(key=lambda hypothesis: -hypothesis.score)
        hypotheses = [greedy_one, *others[:width - 1]]
        if all(hypothesis.finished for hypothesis in hypotheses):
            break
    return sorted(hypotheses, key=lambda hypothesis: -hypothesis.score)


def _continuations(weights: Weights, memory: Array, hypothesis: Hypothesis,
                   allowed: Callable[[Sequence[int]], set[int]]) -> list[Hypothesis]:
    if hypothesis.finished:
        return [hypothesis]
    previous = hypothesis.ids[-1] if hypothesis.ids else GO
    step = decoder_step(weights, memory, previous, hypothesis.state, hypothesis.context)
    log_probabilities = np.log(softmax(step.logits))
    return [Hypothesis((*hypothesis.ids, token),
                       (*hypothesis.log_probabilities, float(log_probabilities[token])),
                       (*hypothesis.attention, step.attention), step.state, step.context)
            for token in allowed(hypothesis.ids)]
