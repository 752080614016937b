"""The loss in groups of images of similar width."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from numpy.random import default_rng

from aocr.config import CONV_FEATURES, ModelConfig, TrainConfig
from aocr.runtime.distributed import Cluster
from aocr.training.grouped_loss import GroupedLoss
from aocr.training.state import TrainingState
from aocr.training.step import TrainStep

CONFIG = ModelConfig(max_width=80, max_height=32, max_prediction=6, alphabet="ab",
                     attn_num_hidden=4)
Loss = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


@pytest.fixture(scope="module")
def losses() -> dict[str, tuple[TrainingState, GroupedLoss]]:
    """Returns the two losses of a training step in float64, with the model's state."""
    settings, cluster = TrainConfig(), Cluster(tf.distribute.get_strategy())
    state = TrainingState(CONFIG, settings, cluster, tf.float64)
    step = TrainStep(state, CONFIG, settings, cluster)
    return {"plain": (state, GroupedLoss(step._loss, tf.float64)),
            "guided": (state, GroupedLoss(step._guided_loss, tf.float64))}


def make_batch(widths: list[int], lengths: list[int]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns features, targets and widths; an image of width 0 has no target."""
    rng = default_rng(3)
    features = rng.normal(size=[len(widths), max(1, -(-max(widths) // 4)), CONV_FEATURES])
    targets = np.zeros([len(widths), max(lengths) + 2], np.int32)
    for row, (width, length) in enumerate(zip(widths, lengths, strict=True)):
        if width:
            targets[row, :length + 1] = [*rng.integers(3, 5, length), 2]
    return tf.constant(features), tf.constant(targets), tf.constant(widths)


def evaluate(state: TrainingState, loss: Loss, batch: tuple[tf.Tensor, ...]) -> list[tf.Tensor]:
    """Returns the loss, the cost, and the gradients of both by features and weights."""
    features, targets, widths = batch
    variables = state.model.encoder.trainable_variables + state.model.decoder.trainable_variables
    with tf.GradientTape() as tape:
        tape.watch(features)
        values = loss(features, targets, widths)
        total = values[0] + 3.0 * values[1]
    return [*values, *(tf.convert_to_tensor(gradient)
                       for gradient in tape.gradient(total, [features, *variables]))]


@pytest.mark.parametrize("kind", ["plain", "guided"])
@pytest.mark.parametrize(("widths", "lengths"), [
    ([0, 1, 4, 5, 9, 16, 16, 33, 80], [1, 0, 1, 2, 6, 1, 3, 4, 5]),
    ([0, 0, 0, 0, 7, 9], [1, 1, 1, 1, 2, 3]),
    ([5, 40], [2, 1]),
    ([12], [3])])
def test_groups_give_the_loss_and_the_gradients_of_the_whole_batch(
        losses: dict[str, tuple[TrainingState, GroupedLoss]], kind: str, widths: list[int],
        lengths: list[int]) -> None:
    state, loss = losses[kind]
    batch = make_batch(widths, lengths)
    whole, groups = (evaluate(state, function, batch) for function in (loss.whole, loss.by_width))
    assert len(whole) == len(groups) > 20
    assert whole[0] > 0.0
    assert (whole[1] > 0.0) == (kind == "guided")
    for value, grouped in zip(whole, groups, strict=True):
        np.testing.assert_allclose(grouped, value, rtol=1e-9, atol=1e-12)


def test_a_group_has_only_the_columns_and_steps_of_its_images() -> None:
    shapes: list[tuple[int, ...]] = []

    def record(features: tf.Tensor, targets: tf.Tensor, widths: tf.Tensor
               ) -> tuple[tf.Tensor, tf.Tensor]:
        def note(*sizes: tf.Tensor) -> None:
            shapes.append(tuple(int(size) for size in sizes))

        sizes = [tf.shape(features)[0], tf.shape(features)[1], tf.shape(targets)[1]]
        with tf.control_dependencies([tf.py_function(note, sizes, [])]):
            return tf.reduce_sum(features), tf.cast(tf.reduce_sum(widths), tf.float64)

    batch = make_batch([4, 8, 9, 16, 17, 20, 60, 61], [1, 2, 1, 3, 1, 1, 6, 2])
    GroupedLoss(record, tf.float64).by_width(*batch)
    assert sorted(shapes) == [(2, 2, 3), (2, 4, 4), (2, 5, 2), (2, 16, 7)]
