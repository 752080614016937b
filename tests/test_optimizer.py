"""AdaDelta and Adam against the formulas of their papers in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from aocr.training.optimizer import BETA_1, BETA_2, EPSILON, RHO, Adadelta, Adam

STEPS = 5


@pytest.mark.parametrize("learning_rate", [1.0, 0.3])
def test_five_steps_equal_zeilers_formulas(learning_rate: float) -> None:
    random = np.random.default_rng(7)
    start = [random.normal(size=(3, 4)), random.normal(size=5)]
    gradients = [[random.normal(size=value.shape) * 10.0 ** -n for value in start]
                 for n in range(STEPS)]
    variables = [tf.Variable(value, dtype=tf.float64) for value in start]
    optimizer = Adadelta(variables)
    for step in gradients:
        optimizer.apply([tf.constant(gradient) for gradient in step],
                        tf.constant(learning_rate, tf.float64))
    for n, value in enumerate(start):
        squares, updates = np.zeros_like(value), np.zeros_like(value)
        for step in gradients:
            squares = RHO * squares + (1 - RHO) * step[n] ** 2
            change = np.sqrt(updates + EPSILON) / np.sqrt(squares + EPSILON) * step[n]
            updates = RHO * updates + (1 - RHO) * change ** 2
            value = value - learning_rate * change
        np.testing.assert_allclose(variables[n], value, rtol=1e-12)
        np.testing.assert_allclose(optimizer.accumulators[n], squares, rtol=1e-12)
        np.testing.assert_allclose(optimizer.updates[n], updates, rtol=1e-12)


@pytest.mark.parametrize("learning_rate", [0.001, 0.3])
def test_five_steps_equal_the_formulas_of_kingma_and_ba(learning_rate: float) -> None:
    random = np.random.default_rng(7)
    start = [random.normal(size=(3, 4)), random.normal(size=5)]
    gradients = [[random.normal(size=value.shape) * 10.0 ** -n for value in start]
                 for n in range(STEPS)]
    variables = [tf.Variable(value, dtype=tf.float64) for value in start]
    optimizer = Adam(variables)
    for step in gradients:
        optimizer.apply([tf.constant(gradient) for gradient in step],
                        tf.constant(learning_rate, tf.float64))
    assert optimizer.updates.numpy() == STEPS
    for n, value in enumerate(start):
        mean, square = np.zeros_like(value), np.zeros_like(value)
        for t, step in enumerate(gradients, 1):
            mean = BETA_1 * mean + (1 - BETA_1) * step[n]
            square = BETA_2 * square + (1 - BETA_2) * step[n] ** 2
            correction = np.sqrt(1 - BETA_2 ** t) / (1 - BETA_1 ** t)
            value = value - learning_rate * correction * mean / (np.sqrt(square) + EPSILON)
        np.testing.assert_allclose(variables[n], value, rtol=1e-12)
        np.testing.assert_allclose(optimizer.means[n], mean, rtol=1e-12)
        np.testing.assert_allclose(optimizer.squares[n], square, rtol=1e-12)


def test_constants_are_those_of_the_original_aocr() -> None:
    assert (RHO, EPSILON) == (0.95, 1e-8)


def test_running_averages_are_variables_that_are_not_trained() -> None:
    optimizer = Adadelta([tf.Variable([1.0, 2.0])])
    assert len(optimizer.variables) >= 2
    assert not any(slot.trainable for slot in [*optimizer.accumulators, *optimizer.updates])


def test_a_compiled_step_equals_an_eager_one() -> None:
    variable, twin = tf.Variable([1.0, -2.0]), tf.Variable([1.0, -2.0])
    optimizer, eager = Adadelta([variable]), Adadelta([twin])
    apply = tf.function(optimizer.apply)
    for gradient in ([0.5, 1.0], [-1.0, 0.1]):
        apply([tf.constant(gradient)], tf.constant(1.0))
        eager.apply([tf.constant(gradient)], tf.constant(1.0))
    np.testing.assert_array_equal(variable, twin)


def test_a_missing_gradient_is_refused() -> None:
    optimizer = Adadelta([tf.Variable([1.0]), tf.Variable([2.0])])
    with pytest.raises(ValueError):
        optimizer.apply([tf.constant([1.0])], tf.constant(1.0))
