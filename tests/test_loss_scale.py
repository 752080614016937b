"""The loss scale of float16 training."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from aocr.training.loss_scale import INITIAL_FACTOR, LossScale

GROWTH_STEPS = 1000


def test_gradients_are_divided_by_the_factor() -> None:
    scale = LossScale()
    assert scale.unscale([tf.constant(INITIAL_FACTOR)])[0].numpy() == 1.0


def test_an_overflow_halves_the_factor_and_skips_the_step() -> None:
    scale, applied = LossScale(), []
    norm = scale.apply_if_finite(tf.constant(np.inf), lambda: applied.append(1))
    assert (norm.numpy(), scale.factor.numpy(), applied) == (0.0, INITIAL_FACTOR / 2, [])
    norm = scale.apply_if_finite(tf.constant(3.0), lambda: applied.append(1))
    assert (norm.numpy(), scale.factor.numpy(), applied) == (3.0, INITIAL_FACTOR / 2, [1])


def test_many_steps_without_overflow_double_the_factor() -> None:
    scale = LossScale()
    step = tf.function(lambda norm: scale.apply_if_finite(norm, lambda: None), autograph=False)
    step(tf.constant(np.nan))
    for _ in range(GROWTH_STEPS - 1):
        step(tf.constant(1.0))
    assert scale.factor.numpy() == INITIAL_FACTOR / 2
    step(tf.constant(1.0))
    assert scale.factor.numpy() == INITIAL_FACTOR


def test_the_factor_stays_finite() -> None:
    scale = LossScale()
    scale.factor.assign(2.0 ** 100)
    scale._calm.assign(GROWTH_STEPS)
    scale.apply_if_finite(tf.constant(1.0), lambda: None)
    assert scale.factor.numpy() == 2.0 ** 100


def test_a_norm_that_scaling_did_not_cause_is_returned() -> None:
    scale = LossScale()
    scale.factor.assign(1.0)
    assert np.isnan(scale.apply_if_finite(tf.constant(np.nan), lambda: None).numpy())
