"""Compares the network with its NumPy implementation in `tests.reference`; tests its invariants.

All weights are random (biases, batch-norm parameters and moving averages too), so that no zero or
one hides an error. Sizes are tiny, and numbers are float64 unless stated otherwise.
"""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf
from numpy.random import default_rng

from aocr.model.loss import sequence_loss
from aocr.tokenizer import PAD_ID
from tests import reference, reference_decoding
from tests.networks import (
    TARGETS,
    WIDTHS,
    all_cases,
    assert_close,
    make_config,
    make_images,
    make_memory,
    make_model,
    network,
    pad,
    shared_model,
)

# Parity with the reference


@all_cases
def test_each_row_of_a_padded_batch_equals_the_reference(case: tuple[bool, int, bool]) -> None:
    model = shared_model(case)
    images = make_images(WIDTHS, channels=3 if case[2] else 1)
    weights = reference.collect(model)
    out = network(model)(*pad(images), TARGETS)
    features, _ = reference.convnet(weights, images)
    for row, columns in enumerate(features):
        unpadded = slice(len(columns))
        assert out.lengths[row] == len(columns) == -(-WIDTHS[row] // 4)
        assert_close(out.features[row, unpadded], columns)
        memory, last_states = reference.encode(weights, columns)
        assert_close(out.memory.values[row, unpadded], memory)
        assert_close(out.memory.keys[row, unpadded], memory @ weights["keys"])
        assert_close(out.memory.start[row], np.concatenate(
            reference.start_state(weights, last_states)))
        assert_close(out.logits[row],
                     reference.teacher_forced(weights, memory, last_states, TARGETS[row]))
        expected = reference_decoding.greedy(weights, memory, last_states, steps=6)
        assert out.greedy.ids[row].tolist() == expected.ids.tolist()
        assert_close(out.greedy.logits[row], expected.logits)
        assert_close(out.greedy.attention[row, :, unpadded], expected.attention)


def test_the_compared_outputs_are_not_trivial() -> None:
    out = network(shared_model())(*pad(make_images(WIDTHS)), TARGETS)
    assert len(np.unique(out.greedy.ids)) > 1
    assert out.features.std() > 0.1
    assert out.memory.values.std() > 0.1
    assert np.abs(out.greedy.logits - out.greedy.logits[:1]).max(-1)[1:].min() > 1e-3
    assert out.greedy.attention[2].std(0).max() > 1e-4  # differs between steps


def test_each_decoder_layer_has_its_own_weights() -> None:
    cells = shared_model().decoder.cells
    assert len({id(cell.kernel) for cell in cells}) == len(cells) == 3


def test_sequence_loss_equals_the_reference_and_ignores_logits_at_pad() -> None:
    rng = default_rng(0)
    logits = rng.normal(size=[*TARGETS.shape, 7]) * 3.0
    loss = tf.function(sequence_loss, autograph=False)
    expected = [reference_decoding.sequence_loss(*row) for row in zip(logits, TARGETS, strict=True)]
    assert_close(loss(logits, TARGETS), expected)
    logits[TARGETS == PAD_ID] = rng.normal(size=[np.sum(TARGETS == PAD_ID), 7])
    assert_close(loss(logits, TARGETS), expected)


def test_reference_probability_ends_with_eos() -> None:
    probabilities = np.array([[0.1, 0.0, 0.2, 0.7], [0.2, 0.0, 0.5, 0.3],
                              [0.6, 0.0, 0.1, 0.3]])
    logits = np.log(probabilities + 1e-300)
    assert_close(reference_decoding.probability(logits), 0.7 * 0.5)
    assert_close(reference_decoding.probability(logits[[0, 2]]), 0.7 * 0.6)


# Padding


def test_an_image_alone_gives_the_same_results_as_in_a_padded_batch() -> None:
    model, images = shared_model(), make_images([*WIDTHS, 23, 3, 17])
    targets = np.resize(TARGETS, [len(images), 5])
    together = network(model)(*pad(images, beyond=7), targets)
    for row, image in enumerate(images):
        alone = network(model)(*pad([image]), targets[row:row + 1])
        time = alone.lengths[0]
        assert together.lengths[row] == time
        assert_close(together.memory.values[row, :time], alone.memory.values[0], 1e-10)
        assert_close(together.logits[row], alone.logits[0], 1e-10)
        assert_close(together.greedy.logits[row], alone.greedy.logits[0], 1e-10)
        assert_close(together.greedy.attention[row, :, :time], alone.greedy.attention[0], 1e-10)
        assert together.greedy.ids[row].tolist() == alone.greedy.ids[0].tolist()


def test_an_image_alone_gives_the_same_results_as_in_a_padded_batch_in_float32() -> None:
    model = make_model(make_config(layers=3), tf.float32)
    batch, widths = pad(make_images(WIDTHS), beyond=5)
    batch = batch.astype(np.float32)
    together = network(model)(batch, widths, TARGETS)
    for row, width in enumerate(widths):
        only = slice(row, row + 1)
        alone = network(model)(batch[only, :, :width], widths[only], TARGETS[only])
        assert_close(together.logits[row], alone.logits[0], 1e-4)


def test_values_in_the_padding_of_images_have_no_effect() -> None:
    graph, images = network(shared_model()), make_images(WIDTHS)
    clean = graph(*pad(images, beyond=4), TARGETS)
    noisy = graph(*pad(images, beyond=4, noise=50.0), TARGETS)
    tf.nest.map_structure(functools.partial(assert_close, tolerance=1e-12), clean, noisy)


def test_the_encoder_ignores_the_padding() -> None:
    encoder = shared_model().encoder
    lengths = np.array([3, 5, 1], np.int32)
    features = default_rng(0).normal(size=[3, 5, 512])
    encode = tf.function(encoder, autograph=False)
    clean, clean_states = encode(features, lengths)
    for row, length in zip(features, lengths, strict=True):
        row[length:] = 9.0
    noisy, noisy_states = encode(features, lengths)
    assert_close(noisy_states, clean_states, 1e-12)
    for row, length in enumerate(lengths):
        assert_close(noisy[row, :length], clean[row, :length], 1e-12)


def test_attention_sums_to_one_and_is_zero_in_the_padding() -> None:
    model, lengths = shared_model(), [3, 6, 1]
    greedy = tf.function(model.greedy, autograph=False)
    clean = greedy(make_memory(model, lengths)[0], until_eos=False)
    noisy = greedy(make_memory(model, lengths, noise=20.0)[0], until_eos=False)
    assert_close(tf.reduce_sum(clean.attention, -1), np.ones([3, 6]), 1e-12)
    for row, length in enumerate(lengths):
        assert not np.any(clean.attention[row, :, length:])
        assert np.all(clean.attention[row, :, :length] > 0.0)
    tf.nest.map_structure(functools.partial(assert_close, tolerance=1e-12), clean, noisy)
