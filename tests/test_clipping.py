"""Clipping of gradients against NumPy, and what an outlier does to the weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from aocr.config import OPTIMIZERS
from aocr.training.clipping import DECAY, FIRST_STEPS, GradientClipping
from aocr.training.optimizer import Adam

SHAPES = (3, 4), (5,)
RATIO = 3.0


def _gradients(norms: list[float], seed: int = 7) -> list[list[tf.Tensor]]:
    """Returns random gradients of two variables for each step, float64, with these norms."""
    random = np.random.default_rng(seed)
    steps = [[random.normal(size=shape) for shape in SHAPES] for _ in norms]
    return [[tf.constant(value * norm / _norm(step)) for value in step]
            for step, norm in zip(steps, norms, strict=True)]


def _norm(values: list[np.ndarray]) -> float:
    return math.sqrt(sum(float(np.sum(np.square(value))) for value in values))


def test_the_limit_equals_its_formula_in_numpy() -> None:
    norms = [*np.random.default_rng(3).lognormal(-3.0, 2.0, size=3 * FIRST_STEPS)]
    clipping, logs = GradientClipping(4.0, RATIO), np.log(norms)
    relative = 0
    for n, gradients in enumerate(_gradients(norms)):
        clipped, norm = clipping.clip(gradients)
        limit = 4.0
        if n >= FIRST_STEPS:
            weights = DECAY ** np.arange(n)[::-1]
            limit = min(4.0, RATIO * np.exp(np.average(logs[:n], weights=weights)))
        factor = min(1.0, limit / norms[n])
        relative += limit < min(4.0, norms[n])
        np.testing.assert_allclose(norm, factor * norms[n], rtol=1e-12)
        for value, gradient in zip(clipped, gradients, strict=True):
            np.testing.assert_allclose(value, factor * gradient, rtol=1e-12)
    assert relative > 2


def test_without_a_ratio_only_the_constant_limit_applies() -> None:
    clipping = GradientClipping(2.0, math.inf)
    for gradients in _gradients([0.001] * 2 * FIRST_STEPS):
        clipping.clip(gradients)
    for norm, expected in ((1.5, 1.5), (30.0, 2.0)):
        assert clipping.clip(_gradients([norm])[0])[1].numpy() == pytest.approx(expected)


def test_without_a_maximum_norm_nothing_is_clipped() -> None:
    clipping = GradientClipping(None, RATIO)
    for gradients in _gradients([0.001] * 2 * FIRST_STEPS + [1e6]):
        clipped, _ = clipping.clip(gradients)
        assert all(value is gradient for value, gradient in zip(clipped, gradients, strict=True))


@pytest.mark.parametrize("norm", [0.0, math.inf, math.nan])
def test_norms_that_are_not_finite_or_0_do_not_count(norm: float) -> None:
    clipping = GradientClipping(100.0, RATIO)
    for gradients in _gradients([1.0] * 2 * FIRST_STEPS):
        clipping.clip(gradients)
    _, returned = clipping.clip([tf.constant([norm], tf.float64)])
    np.testing.assert_equal(returned.numpy(), norm)
    assert clipping.clip(_gradients([50.0])[0])[1].numpy() == pytest.approx(RATIO)


def test_a_compiled_step_equals_an_eager_one() -> None:
    compiled, eager = GradientClipping(4.0, RATIO), GradientClipping(4.0, RATIO)
    clip = tf.function(compiled.clip)
    for gradients in _gradients([1.0] * FIRST_STEPS + [50.0, 1.0, 50.0]):
        (first, first_norm), (second, second_norm) = clip(gradients), eager.clip(gradients)
        np.testing.assert_allclose(first_norm, second_norm, rtol=1e-14)
        for value, other in zip(first, second, strict=True):
            np.testing.assert_allclose(value, other, rtol=1e-14)


@pytest.mark.parametrize(("optimizer", "ratio"), [("adam", RATIO), ("adadelta", math.inf)])
def test_only_adam_has_a_limit_that_depends_on_the_last_norms(optimizer: str, ratio: float) -> None:
    assert OPTIMIZERS[optimizer].max_norm_ratio == ratio


def test_an_outlier_hardly_changes_weights_that_adam_has_trained() -> None:
    """Norms fall from 1 to 0.001 over 100 steps, as in training; then one is 5."""
    norms = [*np.geomspace(1.0, 0.001, 100), *[0.001] * 100, 5.0, *[0.001] * 20]
    moved = {ratio: _largest_change(norms, ratio) for ratio in (math.inf, RATIO)}
    assert moved[math.inf] > 0.005
    assert moved[RATIO] < moved[math.inf] / 10


def _largest_change(norms: list[float], ratio: float) -> float:
    """Returns the largest change of a weight by Adam, with a rate of 0.001, from step 200 on."""
    variables = [tf.Variable(tf.zeros(shape, tf.float64)) for shape in SHAPES]
    optimizer, clipping = Adam(variables), GradientClipping(5.0, ratio)
    before = [variable.numpy() for variable in variables]
    for n, gradients in enumerate(_gradients(norms)):
        if n == 200:
            before = [variable.numpy() for variable in variables]
        optimizer.apply(clipping.clip(gradients)[0], tf.constant(0.001, tf.float64))
    return max(float(np.abs(variable - value).max())
               for variable, value in zip(variables, before, strict=True))
