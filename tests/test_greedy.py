"""Greedy decoding, and the size of its graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from aocr.model import AttentionOCR, Decoded, Memory
from aocr.tokenizer import EOS_ID, GO_ID
from tests.networks import (
    assert_close,
    both_cells,
    long_model,
    make_config,
    make_memory,
    shared_model,
)


def first_eos(ids: NDArray[np.int32]) -> list[int]:
    """Returns the step of each row's first EOS, or the number of steps."""
    return [list(row).index(EOS_ID) if EOS_ID in row else len(row) for row in ids]


def greedy_with_bias(eos_bias: float, memory: Memory, until_eos: bool) -> Decoded:
    """Decodes with a bias in favor of EOS or against it."""
    model = long_model()
    model.decoder.output.bias.assign([0.0, 0.0, eos_bias, 0.0, 0.0, 0.0, 0.0])
    return tf.function(model.greedy, autograph=False)(memory, until_eos)


def test_greedy_stops_when_every_row_has_emitted_eos() -> None:
    memory, *_ = make_memory(long_model(), [1, 2, 3, 4, 5, 6] * 5)
    ends = np.array(first_eos(greedy_with_bias(1.25, memory, until_eos=False).ids.numpy()))
    rows = np.flatnonzero(ends < 8)
    steps = ends[rows].max() + 1
    assert len(np.unique(ends[rows])) > 1, "rows do not end at different steps"
    memory = Memory(*(tf.gather(part, rows) for part in memory))
    all_steps = greedy_with_bias(1.25, memory, until_eos=False)
    stopped = greedy_with_bias(1.25, memory, until_eos=True)
    assert all_steps.ids.shape == [len(rows), 11]
    assert stopped.ids.shape == [len(rows), steps]
    np.testing.assert_array_equal(stopped.ids, all_steps.ids[:, :steps])
    assert_close(stopped.logits, all_steps.logits[:, :steps], 1e-12)
    assert_close(stopped.attention, all_steps.attention[:, :steps], 1e-12)


@pytest.mark.parametrize(("eos_bias", "steps"), [(1e3, 1), (-1e3, 11)])
def test_greedy_takes_between_one_and_all_steps(eos_bias: float, steps: int) -> None:
    memory, *_ = make_memory(long_model(), [4, 2])
    decoded = greedy_with_bias(eos_bias, memory, until_eos=True)
    assert decoded.ids.shape == [2, steps]
    assert decoded.ids.dtype == tf.int32
    assert decoded.logits.shape == [2, steps, 7]
    assert decoded.attention.shape == [2, steps, 4]
    decoded = greedy_with_bias(eos_bias, memory, until_eos=False)
    assert decoded.ids.shape == [2, 11]


def test_greedy_equals_teacher_forcing_with_its_own_ids() -> None:
    model = shared_model()
    memory, *_ = make_memory(model, [3, 6, 1])
    decoded = tf.function(model.greedy, autograph=False)(memory, until_eos=False)
    logits = tf.function(model.teacher_forced, autograph=False)(memory, decoded.ids)
    assert_close(decoded.logits, logits, 1e-12)


def test_the_input_of_the_first_step_is_go_and_not_the_target() -> None:
    model = shared_model()
    memory, *_ = make_memory(model, [3])
    forced = tf.function(model.teacher_forced, autograph=False)
    logits = forced(memory, np.array([[3, 4, 5]], np.int32))
    assert_close(forced(memory, np.array([[6, 4, 3]], np.int32))[:, 0], logits[:, 0], 1e-12)
    assert np.abs(forced(memory, np.array([[GO_ID, 4, 5]], np.int32)) - logits)[0, 1].max() > 1e-4


def test_steps_compute_scores_from_the_precomputed_keys() -> None:
    model = shared_model()
    memory, *_ = make_memory(model, [4, 2])
    without_keys = memory._replace(keys=tf.zeros_like(memory.keys))
    decoded = tf.function(model.greedy, autograph=False)(without_keys, until_eos=False)
    assert_close(decoded.attention[0], np.full([6, 4], 1 / 4), 1e-12)
    assert_close(decoded.attention[1], np.broadcast_to([1 / 2, 1 / 2, 0.0, 0.0], [6, 4]), 1e-12)


def count_nodes(function: Callable[..., object], *arguments: object) -> int:
    """Returns the number of nodes in a function's graph and in all functions it calls."""
    traced = tf.function(function, autograph=False).get_concrete_function(*arguments)
    graph = traced.graph.as_graph_def()
    return len(graph.node) + sum(len(part.node_def) for part in graph.library.function)


@both_cells
def test_graph_size_does_not_depend_on_the_longest_label(use_gru: bool) -> None:
    sizes = []
    for max_prediction in (8, 600):
        config = make_config(use_gru, max_prediction=max_prediction)
        model = AttentionOCR(config)
        memory = Memory(*(tf.TensorSpec([2, *shape]) for shape in ([5, 16], [5, 16], [5], [
            config.attn_num_layers * config.attn_num_hidden * (1 if use_gru else 2)])))
        targets = tf.TensorSpec([2, config.decode_steps], tf.int32)
        sizes.append((count_nodes(model.greedy, memory), count_nodes(
            model.teacher_forced, memory, targets)))
    assert sizes[0] == sizes[1]
    assert min(sizes[0]) > 50
