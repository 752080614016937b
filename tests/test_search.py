"""Beam search in automata, against the NumPy derivation of `tests/reference.py`."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf
from numpy.random import default_rng

from aocr.inference.automaton import acyclic, make_table
from aocr.model import AttentionOCR, Memory, TransitionTable, unrestricted
from aocr.model.beam_search import SearchResult, search
from aocr.tokenizer import EOS_ID
from tests import reference, reference_decoding
from tests.networks import assert_close, make_config, make_memory, make_model
from tests.reference_decoding import Hypothesis

LONGEST = 4
CHARACTERS = range(3, 7)
LENGTHS = [3, 6, 1, 4]
Text = tuple[int, ...]


@functools.cache
def model_of(seed: int) -> AttentionOCR:
    """Returns a model whose output bias, and so the texts, depends on the seed."""
    model = make_model(make_config(max_prediction=LONGEST, use_gru=bool(seed % 2)))
    model.decoder.output.bias.assign(default_rng(seed).normal(size=7))
    return model


def random_texts(seed: int) -> set[Text]:
    """Returns accepted texts of up to `LONGEST` characters."""
    rng = default_rng(seed)
    texts = [text for length in range(LONGEST + 1)
             for text in itertools.product(CHARACTERS, repeat=length)]
    chosen = rng.choice(len(texts), rng.integers(1, 40), replace=False)
    return {texts[n] for n in chosen}


def table_of(texts: set[Text]) -> TransitionTable:
    table = make_table(acyclic(sorted(texts)), LONGEST)
    assert table is not None
    return table


def run(model: AttentionOCR, memory: Memory, table: TransitionTable, width: int) -> SearchResult:
    graph = tf.function(lambda memory: search(model.decoder, memory, LONGEST + 2, table, width),
                        autograph=False)
    return graph(memory)


def assert_equal_to_reference(searched: SearchResult, row: int, expected: list[Hypothesis],
                              time: int) -> None:
    """Asserts equal texts, probabilities of each step and attention of one image."""
    ids, log_probabilities = (part[row].numpy() for part in searched[:2])
    for n, hypothesis in enumerate(expected):
        steps = len(hypothesis.ids)
        assert tuple(ids[n, :steps]) == hypothesis.ids
        assert (ids[n, steps:] == EOS_ID).all()
        assert_close(log_probabilities[n, :steps], hypothesis.log_probabilities)
        assert not log_probabilities[n, steps:].any()
    assert (log_probabilities[len(expected):] == -np.inf).all()
    best = np.stack(expected[0].attention)
    assert_close(searched.attention[row, :len(best), :time], best)


@pytest.mark.parametrize("width", [1, 3, 8])
@pytest.mark.parametrize("seed", range(3))
def test_search_in_a_random_automaton_equals_the_reference(seed: int, width: int) -> None:
    model, texts = model_of(seed), random_texts(seed)
    memory, values, last_states = make_memory(model, LENGTHS)
    searched = run(model, memory, table_of(texts), width)
    weights = reference.collect(model)
    for row, length in enumerate(LENGTHS):
        expected = reference_decoding.beam_search(
            weights, values[row, :length], last_states[row], LONGEST + 2, width,
            lambda prefix: reference_decoding.next_ids(prefix, texts))
        assert_equal_to_reference(searched, row, expected, length)
        assert all(hypothesis.ids[:-1] in texts for hypothesis in expected)


@pytest.mark.parametrize(("seed", "width"), [(0, 2), (1, 5)])
def test_unrestricted_search_equals_the_reference(seed: int, width: int) -> None:
    model = model_of(seed)
    memory, values, last_states = make_memory(model, LENGTHS)
    searched = run(model, memory, unrestricted(7), width)
    weights = reference.collect(model)
    for row, length in enumerate(LENGTHS):
        expected = reference_decoding.beam_search(
            weights, values[row, :length], last_states[row], LONGEST + 2, width,
            lambda _: {EOS_ID, *CHARACTERS})
        assert_equal_to_reference(searched, row, expected, length)


@pytest.mark.parametrize("seed", range(3))
def test_a_beam_of_width_1_is_greedy_decoding(seed: int) -> None:
    model = model_of(seed)
    model.decoder.output.bias[:2].assign([-1e3, -1e3])  # PAD and GO, which no label holds
    memory, *_ = make_memory(model, LENGTHS)
    greedy = tf.function(model.greedy, autograph=False)(memory)
    searched = run(model, memory, unrestricted(7), 1)
    before_eos = np.cumsum(greedy.ids == EOS_ID, 1) == 0
    np.testing.assert_array_equal(
        np.where(before_eos, searched.ids[:, 0], EOS_ID), np.where(before_eos, greedy.ids, EOS_ID))
    largest = tf.reduce_max(tf.nn.log_softmax(greedy.logits), -1)
    assert_close(np.where(before_eos, searched.log_probabilities[:, 0], 0),
                 np.where(before_eos, largest, 0))


def test_the_most_probable_text_of_a_beam_is_never_less_probable_than_the_greedy_one() -> None:
    model = model_of(1)
    memory, *_ = make_memory(model, [1, 2, 3, 4, 5, 6] * 5)
    for table in (unrestricted(7), table_of(random_texts(1))):
        greedy, *others = (tf.reduce_sum(run(model, memory, table, width).log_probabilities, -1)
                           for width in (1, 2, 6))
        for wider in others:
            assert (wider[:, 0] >= greedy[:, 0] - 1e-12).numpy().all()
            assert np.isclose(wider, greedy).any(1).all(), "the greedy text is lost"


def test_other_rows_do_not_change_the_result_of_a_row() -> None:
    model = model_of(0)
    memory, *_ = make_memory(model, LENGTHS)
    together = run(model, memory, table_of(random_texts(0)), 3)
    for row in range(len(LENGTHS)):
        alone = run(model, Memory(*(part[row:row + 1] for part in memory)),
                    table_of(random_texts(0)), 3)
        steps = alone.ids.shape[2]
        np.testing.assert_array_equal(alone.ids[0], together.ids[row, :, :steps])
        assert_close(alone.log_probabilities[0], together.log_probabilities[row, :, :steps])
