"""Batch statistics and their moving averages."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf
from numpy.random import default_rng

from aocr.model import AttentionOCR, packing
from aocr.model.layers import BatchNorm, Initializer
from tests import reference
from tests.networks import (
    TARGETS,
    WIDTHS,
    assert_close,
    encode_batch,
    make_config,
    make_images,
    make_model,
    mask_of,
    network,
    norms_of,
    pad,
    shared_model,
)


def test_batch_statistics_exclude_padding_and_averages_are_unbiased() -> None:
    model = make_model(make_config())
    graph = tf.function(functools.partial(encode_batch, model), autograph=False,
                        reduce_retracing=True)
    weights, moments = reference.collect(model), []
    for seed in range(3):
        images = make_images([11 - 3 * seed, 1, 6 + seed, 2], seed=seed)
        batch, widths = pad(images, beyond=3, noise=10.0)
        dropout_mask = 2.0 * default_rng(seed).integers(
            0, 2, [len(images), -(-batch.shape[2] // 4), 512])
        encoded = graph(batch, widths, dropout_mask, packing.first_fit(widths))
        features, used = reference.convnet(weights, images, reference.batch_statistics)
        for row, columns in enumerate(features):
            memory, last_states = reference.encode(
                weights, columns * dropout_mask[row, :len(columns)])
            assert_close(encoded.values[row, :len(columns)], memory)
            assert_close(encoded.start[row],
                         np.concatenate(reference.start_state(weights, last_states)))
        moments.append(used)
        for name, norm in norms_of(model).items():
            means, variances = zip(*(used[name] for used in moments), strict=True)
            assert_close(norm.moving_mean, reference.unbiased_averages(means)[-1])
            assert_close(norm.moving_variance, reference.unbiased_averages(variances)[-1])


def test_averages_equal_the_reference_for_many_updates_whatever_their_initial_values() -> None:
    norm = BatchNorm(Initializer(0, tf.float64), "norm", 2)
    norm.moving_mean.assign([1e6, -1e6])
    norm.moving_variance.assign([1e6, 1e6])
    update = tf.function(norm.training, autograph=False)
    xs = default_rng(1).normal(size=[1100, 2, 3, 4, 2]) + np.arange(1100.0).reshape(-1, 1, 1, 1, 1)
    means = reference.unbiased_averages(list(xs.mean((1, 2, 3))))
    variances = reference.unbiased_averages(list(xs.var((1, 2, 3))))
    for x, mean, variance in zip(xs, means, variances, strict=True):
        update(x, np.ones([2, 1, 4, 1]))
        assert_close(norm.moving_mean, mean, 1e-8)
        assert_close(norm.moving_variance, variance, 1e-8)
    assert norm.updates.numpy() == 1100


@pytest.mark.parametrize("widths", [
    [3, 8, 17, 24, 29, 31, 0], [1, 1, 1, 1, 40], [4, 8, 12, 16, 20], [9, 10, 11, 12], [23]])
def test_a_packed_batch_gives_the_features_of_the_padded_batch(widths: list[int]) -> None:
    images = pad(make_images([max(width, 1) for width in widths]), beyond=3, noise=9.0)[0]
    padded, packed = make_model(make_config()), make_model(make_config())
    expected = padded.cnn(images, mask_of(images, widths), BatchNorm.training)
    features = packed._batch_features(tf.constant(images), tf.constant(widths),
                                packing.first_fit(np.array(widths)), BatchNorm.training)
    assert features.shape == expected.shape
    for row, expected_row, width in zip(features, expected, widths, strict=True):
        assert_close(row[:-(-width // 4)], expected_row[:-(-width // 4)], 1e-10)
    for variable, other in zip(padded.cnn.variables, packed.cnn.variables, strict=True):
        assert_close(variable, other, 1e-10)


def test_a_batch_without_padding_gives_the_same_features_without_a_mask() -> None:
    images, widths = pad(make_images([24, 24, 24]))
    images = tf.cast(images, tf.float32)
    masked, unmasked = (AttentionOCR(make_config()) for _ in range(2))
    features = masked.cnn(images, mask_of(images, widths), BatchNorm.training)
    difference = features - unmasked.cnn(images, None, BatchNorm.training)
    # Not value by value: float32 rounding of a single one exceeds 1e-5 on some processors.
    assert np.linalg.norm(difference) < 1e-5 * np.linalg.norm(features)
    for variable, other in zip(masked.cnn.variables, unmasked.cnn.variables, strict=True):
        assert_close(variable, other, 1e-5)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
@pytest.mark.parametrize("widths", [[24, 24, 24], [8, 17, 24]])
def test_half_precision_gives_features_near_those_of_float32(
        dtype: tf.DType, widths: list[int]) -> None:
    images, _ = pad(make_images(widths))
    images = tf.cast(images, tf.float32)
    mask = None if min(widths) == max(widths) else mask_of(images, widths)
    full, half = (AttentionOCR(make_config()) for _ in range(2))
    features = full.cnn(images, mask, BatchNorm.training)
    half_features = half.cnn(tf.cast(images, dtype), mask, BatchNorm.training)
    assert half_features.dtype == dtype
    difference = np.abs(features - tf.cast(half_features, tf.float32))
    assert 0 < difference.mean() < 0.02 * np.abs(features).mean()
    for variable, other in zip(full.cnn.variables, half.cnn.variables, strict=True):
        assert other.dtype == variable.dtype  # weights and statistics stay float32
        assert_close(variable, other, 0.02)


def test_reference_averages_equal_the_recursive_form_and_preserve_constants() -> None:
    values, running, m = list(default_rng(2).normal(size=[40, 3])), np.full(3, 1e3), 0.99
    for t, (value, average) in enumerate(
            zip(values, reference.unbiased_averages(values), strict=True), start=1):
        momentum = min(m, (t - 1) / (t + 9))
        running = momentum * running + (1.0 - momentum) * value
        assert_close(average, running)
    assert_close(reference.unbiased_averages([values[0]] * 30), [values[0]] * 30)


def test_moving_averages_converge_to_the_statistics_of_a_repeated_batch() -> None:
    model = make_model(make_config())
    batch = pad(make_images(WIDTHS[:3]))
    dropout_and_packing = np.float64(1.0), packing.first_fit(batch[1])
    encode_for_training = tf.function(functools.partial(encode_batch, model), autograph=False)
    encode = tf.function(model.encode, autograph=False)
    with pytest.raises(AssertionError):  # the initial averages are not those of the batch
        assert_close(encode(*batch).values,
                     encode_for_training(*batch, *dropout_and_packing).values, 1e-3)
    for _ in range(6):
        inference, expected = encode(*batch), encode_for_training(*batch, *dropout_and_packing)
        for row, length in enumerate(-(-batch[1] // 4)):
            assert_close(inference.values[row, :length], expected.values[row, :length])
        assert_close(inference.start, expected.start)


def test_inference_changes_no_variable() -> None:
    model = shared_model()
    before = [variable.numpy() for variable in model.variables]
    network(model)(*pad(make_images(WIDTHS)), TARGETS)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
