"""A training step, the averaged weights, and the statistics that are saved with them."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.random import default_rng

from aocr.config import FLOAT32, PRECISIONS, ModelConfig, TrainConfig
from aocr.data.pipeline import Batch
from aocr.model import packing
from aocr.model.layers import BatchNorm
from aocr.runtime.distributed import Cluster
from aocr.training import grouped_loss
from aocr.training.averaging import PRECISE_BN_BATCHES, STEPS_PER_UPDATE, batch_norms
from aocr.training.state import TrainingState
from aocr.training.step import TrainStep

CONFIG = ModelConfig(max_width=40, max_height=32, max_prediction=2, alphabet="ab",
                     attn_num_hidden=4)


def make_step(settings: TrainConfig | None = None) -> tuple[TrainingState, TrainStep]:
    """Returns a new state, and a step on one device."""
    settings = settings or TrainConfig()
    cluster = Cluster(tf.distribute.get_strategy())
    state = TrainingState(CONFIG, settings, cluster)
    return state, TrainStep(state, CONFIG, settings, cluster)


def noise_batch(widths: list[int], seed: int = 0) -> Batch:
    """Returns a batch of noise."""
    images = default_rng(seed).normal(size=[len(widths), 32, max(widths), 1])
    return Batch(tf.constant(images, tf.float32), tf.constant(widths, tf.int32),
                 tf.constant([[3, 4, 2]] * len(widths), tf.int32),
                 tf.range(len(widths), dtype=tf.int64), tf.fill([len(widths)], ""))


@pytest.mark.slow
@pytest.mark.parametrize("widths", [[16, 16], [4, 4, 4, 4, 40]])
def test_recalibrated_statistics_are_those_of_the_last_batches_under_the_averaged_weights(
        widths: list[int]) -> None:
    state, step = make_step()
    batch = noise_batch(widths)
    for _ in range(PRECISE_BN_BATCHES):
        step.run(batch, np.array(widths))
    running = [norm.moving_mean.numpy() for norm in batch_norms(state.model)]
    step.recalibrate_batch_norm()
    assert all(np.array_equal(*pair) for pair in zip(
        running, [norm.moving_mean for norm in batch_norms(state.model)], strict=True))
    cnn = state.average.model.cnn
    mask = tf.sequence_mask(widths, max(widths))
    inference = cnn(batch.images, mask, BatchNorm.inference)
    training = cnn(batch.images, mask, BatchNorm.training)
    np.testing.assert_allclose(inference, training, atol=1e-4)


@pytest.mark.slow
def test_recalibrated_statistics_weigh_the_last_batches_equally() -> None:
    state, step = make_step(TrainConfig(initial_learning_rate=1e-30))  # the weights do not change
    norm = batch_norms(state.average.model)[0]
    means = []
    for seed in range(PRECISE_BN_BATCHES):
        batch = noise_batch([12, 20], seed)
        step.run(batch, np.array([12, 20]))
        copy, _ = make_step()
        copy.model.recalibrate(batch.images, batch.widths, packing.first_fit(np.array([12, 20])))
        means.append(batch_norms(copy.model)[0].moving_mean.numpy())
    step.recalibrate_batch_norm()
    np.testing.assert_allclose(norm.moving_mean, np.mean(means, 0), atol=1e-6)


@pytest.mark.slow
def test_too_few_batches_keep_the_earlier_statistics() -> None:
    state, step = make_step()
    for _ in range(PRECISE_BN_BATCHES - 1):
        step.run(noise_batch([8]), np.array([8]))
    step.recalibrate_batch_norm()
    pairs = list(zip(batch_norms(state.average.model), batch_norms(state.model), strict=True))
    for average, trained in pairs:
        assert np.array_equal(average.moving_mean, trained.moving_mean)
        assert np.array_equal(average.moving_variance, trained.moving_variance)
    step.run(noise_batch([8]), np.array([8]))
    step.recalibrate_batch_norm()  # only the batches since the last call count
    for average, trained in pairs:
        assert np.array_equal(average.moving_mean, trained.moving_mean)


@pytest.mark.slow
def test_statistics_of_frequent_checkpoints_are_those_of_the_batches_between_them() -> None:
    state, step = make_step(TrainConfig(steps_per_checkpoint=2))
    norm, means = batch_norms(state.average.model)[0], []
    for seed in range(2):
        for widths in ([12], [12]):
            step.run(noise_batch(widths, seed), np.array(widths))
        step.recalibrate_batch_norm()
        means.append(norm.moving_mean.numpy())
        assert norm.updates.numpy() == 2
    assert not np.array_equal(*means)


def test_the_average_is_updated_every_few_steps() -> None:
    state, step = make_step()
    expected: list[np.ndarray] = []
    for number in range(1, 3 * STEPS_PER_UPDATE):
        step.run(noise_batch([8, 8], number), np.array([8, 8]))
        weights = [variable.numpy() for variable in state.model.trainable_variables]
        if number % STEPS_PER_UPDATE == 0:
            share = 10 / (number / STEPS_PER_UPDATE + 9)
            expected = [share * new + (1 - share) * old for new, old in zip(
                weights, expected or weights, strict=True)]
    averaged = state.average.model.trainable_variables
    for value, variable in zip(expected, averaged, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-5, atol=1e-7)
    assert not np.array_equal(weights[0], averaged[0])


def test_the_averaged_model_of_a_run_of_few_steps_is_the_trained_one() -> None:
    state, step = make_step()
    step.run(noise_batch([8]), np.array([8]))
    step.recalibrate_batch_norm()
    assert STEPS_PER_UPDATE > 1
    for trained, average in zip(state.model.variables, state.average.model.variables, strict=True):
        assert np.array_equal(trained, average) or trained.dtype == tf.int64


@pytest.mark.slow
@pytest.mark.parametrize("widths", [[16, 16], [4, 4, 4, 4, 40]])
def test_all_precisions_take_nearly_the_same_step(widths: list[int]) -> None:
    results = {}
    for precision in PRECISIONS:
        state, step = make_step(TrainConfig(precision=precision))
        first = step.run(noise_batch(widths), np.array(widths))
        second = step.run(noise_batch(widths), np.array(widths))
        assert all(variable.dtype not in (tf.float16, tf.bfloat16)
                   for variable in state.model.variables)
        results[precision] = [*first, second.loss]
    for half in PRECISIONS[1:]:
        assert results[half] != results[FLOAT32]
        np.testing.assert_allclose(results[half], results[FLOAT32], rtol=0.05)


@pytest.mark.slow
def test_a_checkpoint_holds_the_loss_scale_of_float16(tmp_path: Path) -> None:
    settings = TrainConfig(precision="mixed_float16")
    (saved, saved_step), (restored, restored_step) = make_step(settings), make_step(settings)
    saved.scale.factor.assign(2.0 ** 60)
    saved_step.run(noise_batch([8, 8]), np.array([8, 8]))
    path = saved.checkpoint.write(str(tmp_path / "saved"))
    restored.checkpoint.read(path).assert_consumed()
    assert restored.scale.factor.numpy() == 2.0 ** 59
    results = [step.run(noise_batch([8, 8]), np.array([8, 8]))
               for step in (saved_step, restored_step)]
    assert results[0] == results[1]


@pytest.mark.slow
def test_a_float16_step_that_overflows_changes_no_weight() -> None:
    state, step = make_step(TrainConfig(precision="mixed_float16"))
    state.scale.factor.assign(2.0 ** 60)
    before = [variable.numpy() for variable in state.model.trainable_variables]
    result = step.run(noise_batch([8, 8]), np.array([8, 8]))
    assert np.isfinite(result.loss)
    assert result.gradient_norm == 0.0
    assert state.scale.factor.numpy() == 2.0 ** 59
    assert all(np.array_equal(*pair) for pair in zip(
        before, state.model.trainable_variables, strict=True))


def test_a_step_on_wide_inputs_in_groups_equals_one_without(
        monkeypatch: pytest.MonkeyPatch) -> None:
    widths = [4, 9, 12, 16, 20, 33, 60, 61]
    config = dataclasses.replace(CONFIG, max_width=grouped_loss.MIN_INPUT_WIDTH)
    settings, cluster = TrainConfig(), Cluster(tf.distribute.get_strategy())
    used: list[str] = []
    by_width = grouped_loss.GroupedLoss.by_width

    def counted(*arguments: Any) -> tuple[tf.Tensor, tf.Tensor]:
        used.append("groups")
        return by_width(*arguments)

    monkeypatch.setattr(grouped_loss.GroupedLoss, "by_width", counted)
    steps = []
    for model_config in (config, CONFIG):  # the network is the same
        state = TrainingState(model_config, settings, cluster, tf.float64)
        step = TrainStep(state, model_config, settings, cluster)
        results = [step.run(noise_batch(widths, seed), np.array(widths)) for seed in range(2)]
        steps.append([*itertools.chain(*results), *(
            variable.numpy() for variable in state.model.trainable_variables)])
    assert used == ["groups"]
    for grouped, whole in zip(*steps, strict=True):
        np.testing.assert_allclose(grouped, whole, rtol=1e-6, atol=1e-9)
