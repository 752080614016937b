"""Gradients of the weights, and the loss of a training step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import tensorflow as tf
from numpy.random import default_rng

from aocr.model import AttentionOCR, packing
from aocr.model.loss import sequence_loss
from tests import reference, reference_decoding
from tests.networks import (
    CASES,
    TARGETS,
    TRAINING_WIDTHS,
    assert_close,
    encode_batch,
    make_images,
    pad,
    shared_model,
    training_model,
)
from tests.reference import Array


def network_loss(model: AttentionOCR) -> tf.Tensor:
    """Returns the loss of a training step, dropout included."""
    images, widths = pad(make_images(TRAINING_WIDTHS))
    memory = encode_batch(model, images, widths, training_dropout_mask(), packing.first_fit(widths))
    logits = model.teacher_forced(memory, TARGETS[:3])
    return tf.reduce_mean(sequence_loss(logits, TARGETS[:3]))


def decoder_loss(model: AttentionOCR) -> tf.Tensor:
    """Returns the loss of a batch that is given as a memory."""
    rng, units = default_rng(3), model.decoder.keys.shape[0]
    memory = model.decoder.attend_over(
        tf.constant(rng.normal(size=[3, 4, units])), tf.constant([2, 4, 1]),
        tf.constant(rng.normal(size=[3, 2 * units])))
    logits = model.teacher_forced(memory, TARGETS[:3])
    return tf.reduce_mean(sequence_loss(logits, TARGETS[:3]))


def training_dropout_mask() -> Array:
    """Returns dropout factors for three images of four columns."""
    return default_rng(4).integers(0, 2, [3, 4, 512]) / 0.5


def check_gradients(loss: Callable[[], tf.Tensor], variables: Sequence[tf.Variable]) -> None:
    """Compares directional derivatives with central differences, variable by variable."""
    def gradients() -> list[tf.Tensor | None]:
        with tf.GradientTape() as tape:
            value = loss()
        return [None if gradient is None else tf.convert_to_tensor(gradient)
                for gradient in tape.gradient(value, variables)]

    rng, distance, loss_value = default_rng(6), 1e-6, tf.function(loss, autograph=False)
    results = tf.function(gradients, autograph=False)()
    for variable, gradient in zip(variables, results, strict=True):
        assert gradient is not None, variable.name
        direction = rng.normal(size=variable.shape)
        direction *= distance / np.linalg.norm(direction)
        value = variable.numpy()
        variable.assign(value + direction)
        above = loss_value()
        variable.assign(value - direction)
        difference = (above - loss_value()) / 2.0
        variable.assign(value)
        np.testing.assert_allclose(np.sum(gradient * direction) / distance, difference / distance,
                                   1e-4, 1e-8, err_msg=variable.name)


@pytest.mark.slow
def test_gradients_of_all_weights_equal_central_differences() -> None:
    model = training_model()
    check_gradients(lambda: network_loss(model), model.trainable_variables)


@pytest.mark.slow
def test_gradients_of_a_gru_decoder_equal_central_differences() -> None:
    model = shared_model(CASES[4])
    check_gradients(lambda: decoder_loss(model), model.decoder.trainable_variables)


def test_all_weights_are_trainable_and_no_moving_average_is() -> None:
    model = shared_model()
    names = {variable.name for variable in model.trainable_variables}
    others = {variable.name for variable in model.variables} - names
    assert len(others) == 9
    assert all("moving" in name or "updates" in name for name in others)
    assert not any("moving" in name or "updates" in name for name in names)


def test_loss_of_a_training_step_equals_the_reference() -> None:
    model, dropout_mask, losses = training_model(), training_dropout_mask(), []
    weights = reference.collect(model)
    features, _ = reference.convnet(
        weights, make_images(TRAINING_WIDTHS), reference.batch_statistics)
    for row, columns in enumerate(features):
        memory = reference.encode(weights, columns * dropout_mask[row, :len(columns)])
        logits = reference.teacher_forced(weights, *memory, TARGETS[row])
        losses.append(reference_decoding.sequence_loss(logits, TARGETS[row]))
    assert_close(tf.function(network_loss, autograph=False)(model), np.mean(losses))
