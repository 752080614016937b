"""Initial weights."""

from __future__ import annotations

import functools
import math

import numpy as np
import tensorflow as tf
from numpy.random import default_rng

from aocr.config import ModelConfig
from aocr.model import AttentionOCR
from aocr.model.layers import Initializer, Linear
from aocr.model.rnn import GruCell
from tests.networks import assert_close, make_config, norms_of
from tests.reference import Array

GLOROT_FANS = {
    "conv1/kernel": (9, 576), "conv2/kernel": (576, 1152), "conv3/kernel": (1152, 2304),
    "conv4/kernel": (2304, 2304), "conv5/kernel": (2304, 4608), "conv6/kernel": (4608, 4608),
    "conv7/kernel": (2048, 2048), "encoder/forward/kernel": (768, 1024),
    "encoder/backward/kernel": (768, 1024), "decoder/embedding": (39, 10),
    "decoder/start/kernel": (1024, 512), "decoder/input/kernel": (522, 128),
    "decoder/cell1/kernel": (256, 512), "decoder/cell2/kernel": (256, 512),
    "decoder/keys": (512, 512), "decoder/query/kernel": (512, 512), "decoder/score": (512, 512),
    "decoder/output/kernel": (640, 39)}


@functools.cache
def default_model() -> AttentionOCR:
    return AttentionOCR(ModelConfig(), Initializer(3))


def test_the_default_model_has_8_5_million_weights() -> None:
    count = sum(math.prod(variable.shape) for variable in default_model().trainable_variables)
    assert 8_000_000 < count < 9_000_000
    assert count == 8_529_645


def check_glorot(values: Array, fan_in: int, fan_out: int) -> None:
    """Asserts a uniform distribution: bounds, and mean and variance within 5 standard errors."""
    limit, count = math.sqrt(6.0 / (fan_in + fan_out)), values.size
    assert np.abs(values).max() <= limit * (1.0 + 1e-6)
    assert np.abs(values).max() > limit * (1.0 - 10.0 / count)
    assert abs(values.mean()) < 5.0 * limit / math.sqrt(3.0 * count)
    assert abs(values.var() / (limit ** 2 / 3.0) - 1.0) < 5.0 * math.sqrt(0.8 / count)


def test_matrices_are_initialized_by_glorot_and_everything_else_by_constants() -> None:
    unseen = dict(GLOROT_FANS)
    for variable in default_model().trainable_variables:
        name, values = variable.name.split(":")[0], variable.numpy().astype(np.float64)
        if name in unseen:
            check_glorot(values, *unseen.pop(name))
        else:
            assert name.endswith(("/bias", "/beta", "/gamma")), name
            assert np.all(values == float(name.endswith("/gamma"))), name
    assert not unseen
    for norm in norms_of(default_model()).values():
        assert not np.any(norm.moving_mean)
        assert np.all(norm.moving_variance == 1.0)
        assert norm.updates.numpy() == 0


def test_gru_gate_biases_are_initially_1_and_the_candidate_bias_0() -> None:
    cell = GruCell(Initializer(7), "cell", 60, 40)
    assert np.all(cell.gates_bias == 1.0)
    assert not np.any(cell.candidate_bias)
    check_glorot(cell.gates_kernel.numpy().astype(np.float64), 100, 80)
    check_glorot(cell.candidate_kernel.numpy().astype(np.float64), 100, 40)


def test_linear_maps_the_last_axis() -> None:
    linear = Linear(Initializer(0, tf.float64), "linear", 3, 2)
    linear.bias.assign([5.0, -5.0])
    x = default_rng(0).normal(size=[2, 4, 3])
    assert_close(linear(tf.constant(x)), x @ linear.kernel.numpy() + [5.0, -5.0])


def test_the_seed_determines_the_initial_weights() -> None:
    first, again, other = (AttentionOCR(make_config(), Initializer(seed)) for seed in (1, 1, 2))
    for variable, same, different in zip(first.trainable_variables, again.trainable_variables,
                                    other.trainable_variables, strict=True):
        np.testing.assert_array_equal(variable, same)
        if variable.name.split(":")[0] in GLOROT_FANS:
            assert not np.any(variable == different), variable.name


def test_initial_weights_differ_by_name_and_do_not_depend_on_the_order_of_creation() -> None:
    init = Initializer(4)
    first, second = init.glorot("a", [3, 5]), init.glorot("b", [3, 5])
    assert not np.any(first == second)
    np.testing.assert_array_equal(Initializer(4).glorot("b", [3, 5]), second)
    random_weights = [variable for variable in default_model().trainable_variables
             if variable.name.split(":")[0] in GLOROT_FANS]
    firsts = [float(tf.reshape(variable, [-1])[0] / tf.reduce_max(tf.abs(variable)))
              for variable in random_weights]
    assert len(np.unique(np.round(firsts, 6))) == len(GLOROT_FANS)
