"""The factor of float16 training."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from aocr.training.optimizer import START, LossScale

CALM = 1000


def test_gradients_are_divided_by_the_factor() -> None:
    scale = LossScale()
    assert scale.unscaled([tf.constant(START)])[0].numpy() == 1.0


def test_an_overflow_halves_the_factor_and_skips_the_step() -> None:
    scale, applied = LossScale(), []
    norm = scale.guarded(tf.constant(np.inf), lambda: applied.append(1))
    assert (norm.numpy(), scale.factor.numpy(), applied) == (0.0, START / 2, [])
    norm = scale.guarded(tf.constant(3.0), lambda: applied.append(1))
    assert (norm.numpy(), scale.factor.numpy(), applied) == (3.0, START / 2, [1])


def test_calm_steps_in_a_row_double_the_factor() -> None:
    scale = LossScale()
    take = tf.function(lambda norm: scale.guarded(norm, lambda: None), autograph=False)
    take(tf.constant(np.nan))
    for _ in range(CALM - 1):
        take(tf.constant(1.0))
    assert scale.factor.numpy() == START / 2
    take(tf.constant(1.0))
    assert scale.factor.numpy() == START


def test_the_factor_stays_finite() -> None:
    scale = LossScale()
    scale.factor.assign(2.0 ** 100)
    scale._calm.assign(CALM)
    scale.guarded(tf.constant(1.0), lambda: None)
    assert scale.factor.numpy() == 2.0 ** 100


def test_what_no_factor_mends_is_not_hidden() -> None:
    scale = LossScale()
    scale.factor.assign(1.0)
    assert np.isnan(scale.guarded(tf.constant(np.nan), lambda: None).numpy())
