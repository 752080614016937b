"""One step, and the statistics that are saved with its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.random import default_rng

from aocr.batches import Batch
from aocr.config import PRECISIONS, ModelConfig, TrainConfig
from aocr.model.layers import BatchNorm
from aocr.trainer import PARTS, SETTLING_BATCHES, Trainer

CONFIG = ModelConfig(max_width=40, max_height=32, max_prediction=2, alphabet="ab",
                     attn_num_hidden=4)


def batch(widths: list[int], seed: int = 0) -> Batch:
    """A batch of noise."""
    images = default_rng(seed).normal(size=[len(widths), 32, max(widths), 1])
    return {"images": tf.constant(images, tf.float32), "widths": tf.constant(widths, tf.int32),
            "targets": tf.constant([[3, 4, 2]] * len(widths), tf.int32)}


def averages(trainer: Trainer) -> list[np.ndarray]:
    return [value.numpy() for conv in trainer.model.cnn.convs if conv.norm is not None
            for value in (conv.norm.moving_mean, conv.norm.moving_variance)]


@pytest.mark.parametrize("widths", [
    [16, 16], pytest.param([4] * (PARTS - 1) + [40], marks=pytest.mark.slow)])
def test_settled_averages_are_those_of_the_recent_batches_under_the_last_weights(
        widths: list[int]) -> None:
    trainer = Trainer(CONFIG, TrainConfig())
    seen = batch(widths)
    for _ in range(SETTLING_BATCHES):
        trainer.take_step(seen, np.array(widths))
    lagging = averages(trainer)
    updates = [int(conv.norm.updates) for conv in trainer.model.cnn.convs if conv.norm is not None]
    trainer.settle()
    settled = averages(trainer)
    assert not all(np.allclose(*pair, rtol=1e-3) for pair in zip(lagging, settled, strict=True))
    assert updates == [int(conv.norm.updates) for conv in trainer.model.cnn.convs
                       if conv.norm is not None]
    model = trainer.model
    saved = model.cnn(seen["images"], seen["widths"], BatchNorm.by_average)
    own = model.cnn(seen["images"], seen["widths"], BatchNorm.by_batch)
    np.testing.assert_allclose(saved[0], own[0], atol=1e-4)


@pytest.mark.slow
def test_settled_averages_weigh_every_recent_batch_the_same() -> None:
    trainer = Trainer(CONFIG, TrainConfig(initial_learning_rate=1e-30))  # the weights stay
    norm = trainer.model.cnn.convs[2].norm
    assert norm is not None
    means = []
    for n in range(SETTLING_BATCHES):
        trainer.take_step(batch([12, 20], n), np.array([12, 20]))
        copy = Trainer(CONFIG, TrainConfig())
        copied = copy.model.cnn.convs[2].norm
        assert copied is not None
        copy.model.settle(*(batch([12, 20], n)[name] for name in ("images", "widths")))
        means.append(copied.moving_mean.numpy())
    trainer.settle()
    np.testing.assert_allclose(norm.moving_mean, np.mean(means, 0), atol=1e-6)


def test_too_few_batches_leave_the_running_averages() -> None:
    trainer = Trainer(CONFIG, TrainConfig())
    for _ in range(SETTLING_BATCHES - 1):
        trainer.take_step(batch([8]), np.array([8]))
    before = averages(trainer)
    trainer.settle()
    assert all(np.array_equal(*pair) for pair in zip(before, averages(trainer), strict=True))
    trainer.take_step(batch([8]), np.array([8]))
    before = averages(trainer)
    trainer.settle()  # only the batches since the last call count
    assert all(np.array_equal(*pair) for pair in zip(before, averages(trainer), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("widths", [[16, 16], [9, 16]])
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


def test_a_checkpoint_of_before_the_factor_is_gone_on_from(tmp_path: Path) -> None:
    saved, restored = (Trainer(CONFIG, TrainConfig(seed=seed)) for seed in range(2))
    path = saved._required.write(str(tmp_path / "model.ckpt-1"))
    assert restored.restore([path], strict=True) == path
    for one, other in zip(saved.model.variables, restored.model.variables, strict=True):
        assert np.array_equal(one, other)


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
