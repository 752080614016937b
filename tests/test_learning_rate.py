"""The learning rate: warm-up, cosine, and runs that are resumed with other settings."""

from __future__ import annotations

import math
from typing import Any

import pytest
import tensorflow as tf

from aocr.config import OPTIMIZERS, TrainConfig
from aocr.training.learning_rate import FINAL_SHARE, HOLD_STEPS, LearningRate

WARM_UP_STEPS = OPTIMIZERS["adam"].warm_up_steps


def steps(number: int) -> tf.Tensor:
    return tf.constant(number, tf.int64)


def make_rate(**settings: Any) -> LearningRate:
    """Returns the learning rate of a new run."""
    config = TrainConfig(**settings)
    rate = LearningRate(config)
    rate.update(steps(0), config, new_optimizer=True)
    return rate


def at(rate: LearningRate, step: int) -> float:
    return float(rate.at(steps(step)))


def test_adam_warms_up_linearly() -> None:
    rate = make_rate()
    assert at(rate, 0) == pytest.approx(0.002 / WARM_UP_STEPS)
    assert at(rate, WARM_UP_STEPS // 2 - 1) == pytest.approx(0.001)
    assert at(rate, WARM_UP_STEPS - 1) == at(rate, HOLD_STEPS - 1) == pytest.approx(0.002)


def test_the_rate_falls_with_the_inverse_square_root_of_the_steps() -> None:
    rate = make_rate()
    for factor in (1, 4, 100):
        assert at(rate, factor * HOLD_STEPS - 1) == pytest.approx(0.002 / math.sqrt(factor))


def test_a_constant_rate_is_constant() -> None:
    rate = make_rate(schedule="constant")
    assert at(rate, WARM_UP_STEPS - 1) == at(rate, 10_000) == pytest.approx(0.002)


def test_adadelta_does_not_warm_up() -> None:
    assert at(make_rate(optimizer="adadelta"), 0) == 1.0
    assert at(make_rate(initial_learning_rate=0.5), 0) == 0.5


def test_the_cosine_falls_to_a_hundredth_at_the_last_step() -> None:
    rate = make_rate(schedule="cosine", max_steps=1000)
    final = FINAL_SHARE * 0.002
    for step in (250, 500, 900):
        expected = final + (0.002 - final) * (1 + math.cos(math.pi * step / 1000)) / 2
        assert at(rate, step) == pytest.approx(expected)
    assert at(rate, 1000) == at(rate, 2000) == pytest.approx(final)


@pytest.mark.parametrize("step", [100, 600, 1000])
def test_a_prolonged_run_continues_from_the_rate_that_it_had_reached(step: int) -> None:
    rate = make_rate(schedule="cosine", max_steps=1000)
    before = at(rate, step)
    rate.update(steps(step), TrainConfig(schedule="cosine", max_steps=3000), new_optimizer=False)
    assert at(rate, step) == pytest.approx(before)
    after = [at(rate, n) for n in range(step, 3001, 50)]
    assert after == sorted(after, reverse=True)
    assert at(rate, 3000) == pytest.approx(FINAL_SHARE * 0.002)


def test_another_schedule_continues_from_the_rate_that_was_reached() -> None:
    rate = make_rate()
    before = at(rate, 700)
    for settings in (TrainConfig(schedule="cosine", max_steps=1000), TrainConfig(),
                     TrainConfig(schedule="constant")):
        rate.update(steps(700), settings, new_optimizer=False)
        assert at(rate, 700) == pytest.approx(before)


@pytest.mark.parametrize("settings", [
    TrainConfig(schedule="cosine", max_steps=1000), TrainConfig(), TrainConfig(schedule="constant")
    ], ids=lambda settings: settings.used_schedule)
def test_the_same_settings_change_nothing(settings: TrainConfig) -> None:
    rate = LearningRate(settings)
    rate.update(steps(0), settings, new_optimizer=True)
    before = [at(rate, step) for step in range(0, 1001, 100)]
    rate.update(steps(400), settings, new_optimizer=False)
    assert [at(rate, step) for step in range(0, 1001, 100)] == before


def test_a_changed_rate_holds_from_its_step_on() -> None:
    rate = make_rate()
    rate.update(steps(400), TrainConfig(optimizer="adam", initial_learning_rate=0.0005),
                new_optimizer=False)
    assert at(rate, 400) == at(rate, 400 + HOLD_STEPS - 1) == pytest.approx(0.0005)
    rate.update(steps(500), TrainConfig(optimizer="adam"), new_optimizer=False)
    assert at(rate, 400 + 4 * HOLD_STEPS - 1) == pytest.approx(0.00025)


def test_a_schedule_that_is_not_given_again_is_kept() -> None:
    rate = make_rate(schedule="cosine", max_steps=1000)
    expected = [at(rate, step) for step in range(0, 1001, 100)]
    rate.update(steps(400), TrainConfig(), new_optimizer=False)
    assert [at(rate, step) for step in range(0, 1001, 100)] == expected
    rate.update(steps(1000), TrainConfig(max_steps=3000), new_optimizer=False)
    assert at(rate, 2000) == expected[-1]
    assert rate.describe(steps(1000)) == (
        "2e-05, cosine at its end; a different --initial-learning-rate starts a new one")
    rate.update(steps(1000), TrainConfig(initial_learning_rate=0.001, max_steps=3000),
                new_optimizer=False)
    assert rate.describe(steps(1000)) == "0.001, cosine until step 3000"
    assert "at its end" in rate.describe(steps(3500))
    assert FINAL_SHARE * 0.001 < at(rate, 2000) < 0.001


def test_the_rate_is_described_as_it_is_at_a_step() -> None:
    rate = make_rate()
    assert rate.describe(steps(0)) == "0.002, inverse-sqrt"
    assert rate.describe(steps(4 * HOLD_STEPS - 1)) == "0.001, inverse-sqrt"


def test_another_optimizer_takes_the_rate_that_is_given_with_it() -> None:
    settings = TrainConfig(optimizer="adam", initial_learning_rate=0.002)
    rate = make_rate()
    rate.update(steps(1000), settings, new_optimizer=True)
    assert at(rate, 1000 + WARM_UP_STEPS) == pytest.approx(0.002)


def test_another_optimizer_starts_with_its_own_rate_and_warm_up() -> None:
    changed = TrainConfig(optimizer="adam")
    rate = LearningRate(changed)
    rate.update(steps(300), changed, new_optimizer=True)
    assert at(rate, 300) == pytest.approx(0.002 / WARM_UP_STEPS)
    assert at(rate, 300 + WARM_UP_STEPS) == pytest.approx(0.002)
