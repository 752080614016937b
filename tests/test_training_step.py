"""One step, and the statistics that are saved with its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.random import default_rng

from aocr.config import PRECISIONS, ModelConfig, TrainConfig
from aocr.data.pipeline import Batch
from aocr.model import packing
from aocr.model.layers import BatchNorm
from aocr.training.averaging import EVERY, norms
from aocr.training.step import PRECISE_BN_BATCHES, Trainer

CONFIG = ModelConfig(max_width=40, max_height=32, max_prediction=2, alphabet="ab",
                     attn_num_hidden=4)


def batch(widths: list[int], seed: int = 0) -> Batch:
    """A batch of noise."""
    images = default_rng(seed).normal(size=[len(widths), 32, max(widths), 1])
    return Batch(tf.constant(images, tf.float32), tf.constant(widths, tf.int32),
                 tf.constant([[3, 4, 2]] * len(widths), tf.int32),
                 tf.range(len(widths), dtype=tf.int64), tf.fill([len(widths)], ""))


def averages(trainer: Trainer) -> list[np.ndarray]:
    return [value.numpy() for norm in norms(trainer.average)
            for value in (norm.moving_mean, norm.moving_variance)]


@pytest.mark.slow
@pytest.mark.parametrize("widths", [[16, 16], [4, 4, 4, 4, 40]])
def test_settled_averages_are_those_of_the_recent_batches_under_the_last_weights(
        widths: list[int]) -> None:
    trainer = Trainer(CONFIG, TrainConfig())
    seen = batch(widths)
    for _ in range(PRECISE_BN_BATCHES):
        trainer.take_step(seen, np.array(widths))
    running = [norm.moving_mean.numpy() for norm in norms(trainer.model)]
    trainer.settle()
    assert all(np.array_equal(*pair) for pair in zip(
        running, [norm.moving_mean for norm in norms(trainer.model)], strict=True))
    model = trainer.average
    inside = tf.sequence_mask(widths, max(widths))
    saved = model.cnn(seen.images, inside, BatchNorm.by_average)
    own = model.cnn(seen.images, inside, BatchNorm.by_batch)
    np.testing.assert_allclose(saved, own, atol=1e-4)


@pytest.mark.slow
def test_settled_averages_weigh_every_recent_batch_the_same() -> None:
    trainer = Trainer(CONFIG, TrainConfig(initial_learning_rate=1e-30))  # the weights stay
    norm = norms(trainer.average)[0]
    means = []
    for n in range(PRECISE_BN_BATCHES):
        trainer.take_step(batch([12, 20], n), np.array([12, 20]))
        copy = Trainer(CONFIG, TrainConfig())
        copied = norms(copy.model)[0]
        one = batch([12, 20], n)
        copy.model.settle(one.images, one.widths, packing.plan(np.array([12, 20])))
        means.append(copied.moving_mean.numpy())
    trainer.settle()
    np.testing.assert_allclose(norm.moving_mean, np.mean(means, 0), atol=1e-6)


@pytest.mark.slow
def test_too_few_batches_leave_the_statistics_that_were() -> None:
    trainer = Trainer(CONFIG, TrainConfig())
    for _ in range(PRECISE_BN_BATCHES - 1):
        trainer.take_step(batch([8]), np.array([8]))
    trainer.settle()
    for own, running in zip(norms(trainer.average), norms(trainer.model), strict=True):
        assert np.array_equal(own.moving_mean, running.moving_mean)
        assert np.array_equal(own.moving_variance, running.moving_variance)
    trainer.take_step(batch([8]), np.array([8]))
    trainer.settle()  # only the batches since the last call count
    for own, running in zip(norms(trainer.average), norms(trainer.model), strict=True):
        assert np.array_equal(own.moving_mean, running.moving_mean)


def test_the_average_follows_the_weights() -> None:
    trainer = Trainer(CONFIG, TrainConfig())
    expected: list[np.ndarray] = []
    for step in range(1, 3 * EVERY):
        trainer.take_step(batch([8, 8], step), np.array([8, 8]))
        weights = [each.numpy() for each in trainer.model.trainable_variables]
        if step % EVERY == 0:
            share = 10 / (step / EVERY + 9)
            expected = [share * new + (1 - share) * old for new, old in zip(
                weights, expected or weights, strict=True)]
    for average, found in zip(expected, trainer.average.trainable_variables, strict=True):
        np.testing.assert_allclose(found, average, rtol=1e-5, atol=1e-7)
    assert not np.array_equal(weights[0], trainer.average.trainable_variables[0])


def test_a_training_of_few_steps_is_read_as_it_is() -> None:
    trainer = Trainer(CONFIG, TrainConfig())
    trainer.take_step(batch([8]), np.array([8]))
    trainer.settle()
    assert EVERY > 1
    for one, other in zip(trainer.model.variables, trainer.average.variables, strict=True):
        assert np.array_equal(one, other) or one.dtype == tf.int64


@pytest.mark.slow
@pytest.mark.parametrize("widths", [[16, 16], [4, 4, 4, 4, 40]])
def test_every_precision_takes_nearly_the_same_step(widths: list[int]) -> None:
    found = {}
    for precision in PRECISIONS:
        trainer = Trainer(CONFIG, TrainConfig(precision=precision))
        first = trainer.take_step(batch(widths), np.array(widths))
        second, _ = trainer.take_step(batch(widths), np.array(widths))
        assert all(each.dtype != tf.float16 and each.dtype != tf.bfloat16
                   for each in trainer.model.variables)
        found[precision] = [*first, second]
    for half in PRECISIONS[1:]:
        assert found[half] != found[PRECISIONS[0]]
        np.testing.assert_allclose(found[half], found[PRECISIONS[0]], rtol=0.05)


@pytest.mark.slow
def test_a_checkpoint_holds_the_factor_of_float16(tmp_path: Path) -> None:
    settings = TrainConfig(precision="mixed_float16")
    saved, restored = (Trainer(CONFIG, settings) for _ in range(2))
    saved._scale.factor.assign(2.0 ** 60)
    saved.take_step(batch([8, 8]), np.array([8, 8]))
    path = saved.checkpoint.write(str(tmp_path / "saved"))
    restored.checkpoint.read(path).assert_consumed()
    assert restored._scale.factor.numpy() == 2.0 ** 59
    steps = [each.take_step(batch([8, 8]), np.array([8, 8])) for each in (saved, restored)]
    assert steps[0] == steps[1]


@pytest.mark.slow
def test_a_float16_step_that_overflows_changes_no_weight() -> None:
    trainer = Trainer(CONFIG, TrainConfig(precision="mixed_float16"))
    trainer._scale.factor.assign(2.0 ** 60)
    before = [each.numpy() for each in trainer.model.trainable_variables]
    loss, norm = trainer.take_step(batch([8, 8]), np.array([8, 8]))
    assert np.isfinite(loss)
    assert norm == 0.0
    assert trainer._scale.factor.numpy() == 2.0 ** 59
    assert all(np.array_equal(*pair) for pair in zip(
        before, trainer.model.trainable_variables, strict=True))
