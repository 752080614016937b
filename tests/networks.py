"""Small networks of random weights, and batches of images, for the tests of the network.

All weights are random (biases, batch-norm parameters and moving averages too), so that no zero or
one hides an error. Sizes are tiny, and numbers are float64 unless stated otherwise.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from numpy.random import default_rng
from numpy.typing import NDArray

from aocr.config import ModelConfig
from aocr.images import preprocessing
from aocr.model import AttentionOCR, Decoded, Memory, packing
from aocr.model.layers import BatchNorm, Initializer
from tests.reference import Array

ALPHABET = "abcd"
WIDTHS = (13, 1, 24, 6, 2)
TARGETS = np.array([[3, 4, 2, 0, 0], [2, 0, 0, 0, 0], [6, 6, 5, 3, 2], [5, 2, 0, 0, 0],
                    [4, 3, 6, 2, 0]], np.int32)
TRAINING_WIDTHS = (13, 5, 1)  # four columns; the two narrow ones share a row
CASES = [(False, 1, False), (False, 2, True), (False, 3, False),
         (True, 1, True), (True, 2, False), (True, 3, True)]
all_cases = pytest.mark.parametrize(
    "case", CASES,
    ids=lambda case: f"{'gru' if case[0] else 'lstm'}-{case[1]}-{'color' if case[2] else 'gray'}")
both_cells = pytest.mark.parametrize("use_gru", [False, True], ids=["lstm", "gru"])


class Outputs(NamedTuple):
    """Everything the network computes for a batch."""

    features: Array
    lengths: NDArray[np.int32]
    memory: Memory
    logits: Array
    greedy: Decoded


def make_config(use_gru: bool = False, layers: int = 2, color: bool = False,
                max_prediction: int = 4) -> ModelConfig:
    return ModelConfig(use_gru=use_gru, attn_num_layers=layers, color=color, attn_num_hidden=4,
                       target_embedding_size=3, alphabet=ALPHABET, max_prediction=max_prediction)


def make_model(config: ModelConfig, dtype: tf.DType = tf.float64) -> AttentionOCR:
    """Returns a model of random weights, of a size that keeps activations near 1."""
    model = AttentionOCR(config, Initializer(1, dtype))
    rng = default_rng(5)
    for variable in sorted(model.variables, key=lambda variable: variable.name):
        shape = variable.shape.as_list()
        if variable.dtype.is_integer:
            continue
        if "gamma" in variable.name or "variance" in variable.name:
            value = rng.uniform(0.5, 1.5, shape)
        else:
            limit = 0.5 if len(shape) == 1 else math.sqrt(6.0 / math.prod(shape[:-1]))
            limit *= 1.0 + ("decoder" in variable.name)  # else all rows decode to a fixed point
            value = rng.uniform(-limit, limit, shape)
        variable.assign(value.astype(dtype.as_numpy_dtype))
    return model


@functools.cache
def shared_model(case: tuple[bool, int, bool] = CASES[2]) -> AttentionOCR:
    """Returns a model for tests that do not change it."""
    return make_model(make_config(*case))


@functools.cache
def long_model() -> AttentionOCR:
    """Returns a model that takes up to 11 steps, for tests that set only its output bias."""
    return make_model(make_config(max_prediction=9))


@functools.cache
def training_model() -> AttentionOCR:
    """Returns a model for tests that update the moving averages."""
    return make_model(make_config())


@functools.cache
def network(model: AttentionOCR) -> Callable[..., Outputs]:
    """Returns inference and teacher forcing as one graph."""
    dtype = model.decoder.keys.dtype
    channels = model.cnn.convs[0].kernel.shape[2]

    @functools.partial(tf.function, autograph=False, input_signature=[
        tf.TensorSpec([None, 32, None, channels], dtype), tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([None, None], tf.int32)])
    def graph(images: tf.Tensor, widths: tf.Tensor, targets: tf.Tensor) -> Outputs:
        memory = model.encode(images, widths)
        features = model.cnn(images, mask_of(images, widths), BatchNorm.inference)
        return Outputs(features, -(-widths // 4), memory,
                       model.teacher_forced(memory, targets),
                       model.greedy(memory, until_eos=False))

    return lambda *batch: tf.nest.map_structure(lambda tensor: tensor.numpy(), graph(*batch))


def make_images(widths: Iterable[int], channels: int = 1, seed: int = 2) -> list[Array]:
    rng = default_rng(seed)
    return [rng.uniform(-1.0, 1.0, [32, width, channels]) for width in widths]


def pad(images: Sequence[NDArray[np.floating]], beyond: int = 0, noise: float = 0.0
        ) -> tuple[Array, NDArray[np.int32]]:
    """Returns a padded batch, and the widths of its images.

    Args:
        images: `[32, width, channels]` each.
        beyond: Columns of padding behind the widest image.
        noise: Standard deviation of the values in the padding.
    """
    widths = [image.shape[1] for image in images]
    shape = [len(images), 32, max(widths) + beyond, images[0].shape[2]]
    batch = noise * default_rng(8).normal(size=shape)
    for row, image in zip(batch, images, strict=True):
        row[:, :image.shape[1]] = image
    return batch, np.array(widths, np.int32)


def mask_of(images: tf.Tensor, widths: tf.Tensor) -> tf.Tensor:
    """Returns the mask of padded images, `[batch, width]` bool."""
    return tf.sequence_mask(widths, tf.shape(images)[2])


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), tolerance, tolerance)


def make_memory(model: AttentionOCR, lengths: Sequence[int], noise: float = 0.0
                ) -> tuple[Memory, Array, Array]:
    """Returns a random memory, its values `[batch, time, units]` and the encoder's last states.

    Args:
        model: The model that attends over it.
        lengths: Columns of each row.
        noise: Standard deviation of the values in the padding.
    """
    rng, units = default_rng(3), model.decoder.keys.shape[0]
    values = rng.normal(size=[len(lengths), max(lengths), units])
    last_states = rng.normal(size=[len(lengths), 2 * units])
    for row, length in zip(values, lengths, strict=True):
        row[length:] = noise * rng.normal(size=row[length:].shape)
    attend_over = tf.function(model.decoder.attend_over, autograph=False)
    return attend_over(values, np.array(lengths, np.int32), last_states), values, last_states


def encode_batch(model: AttentionOCR, images: tf.Tensor, widths: tf.Tensor,
                 dropout_mask: tf.Tensor, packed: packing.Packing) -> Memory:
    return model.encode_features(
        model.batch_features(images, widths, dropout_mask, packed), widths)


def decode_all(model: AttentionOCR, files: list[bytes], config: ModelConfig) -> Decoded:
    """Decodes all steps, as the original does."""
    images, widths = preprocessing.preprocess_batch(tf.constant(files), config)
    return model.greedy(model.encode(images, widths), until_eos=False)


def norms_of(model: AttentionOCR) -> dict[str, BatchNorm]:
    return {f"conv{n}": conv.norm for n, conv in enumerate(model.cnn.convs, start=1)
            if conv.norm is not None}
