"""Compares the network with its NumPy implementation in `tests.reference`; tests its invariants.

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
from aocr.model import AttentionOCR, Decoded, Memory, packing
from aocr.model.layers import BatchNorm, Initializer, Linear
from aocr.model.loss import sequence_loss
from aocr.model.rnn import GruCell
from aocr.tokenizer import EOS_ID, GO_ID, PAD_ID
from tests import reference
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


# Parity with the reference


@all_cases
def test_each_row_of_a_padded_batch_equals_the_reference(case: tuple[bool, int, bool]) -> None:
    model = shared_model(case)
    images = make_images(WIDTHS, channels=3 if case[2] else 1)
    weights = reference.collect(model)
    out = network(model)(*pad(images), TARGETS)
    features, _ = reference.convnet(weights, images)
    for row, columns in enumerate(features):
        unpadded = slice(len(columns))
        assert out.lengths[row] == len(columns) == -(-WIDTHS[row] // 4)
        assert_close(out.features[row, unpadded], columns)
        memory, last_states = reference.encode(weights, columns)
        assert_close(out.memory.values[row, unpadded], memory)
        assert_close(out.memory.keys[row, unpadded], memory @ weights["keys"])
        assert_close(out.memory.start[row], np.concatenate(
            reference.start_state(weights, last_states)))
        assert_close(out.logits[row],
                     reference.teacher_forced(weights, memory, last_states, TARGETS[row]))
        expected = reference.greedy(weights, memory, last_states, steps=6)
        assert out.greedy.ids[row].tolist() == expected.ids.tolist()
        assert_close(out.greedy.logits[row], expected.logits)
        assert_close(out.greedy.attention[row, :, unpadded], expected.attention)


def test_the_compared_outputs_are_not_trivial() -> None:
    out = network(shared_model())(*pad(make_images(WIDTHS)), TARGETS)
    assert len(np.unique(out.greedy.ids)) > 1
    assert out.features.std() > 0.1
    assert out.memory.values.std() > 0.1
    assert np.abs(out.greedy.logits - out.greedy.logits[:1]).max(-1)[1:].min() > 1e-3
    assert out.greedy.attention[2].std(0).max() > 1e-4  # differs between steps


def test_each_decoder_layer_has_its_own_weights() -> None:
    cells = shared_model().decoder.cells
    assert len({id(cell.kernel) for cell in cells}) == len(cells) == 3


def test_sequence_loss_equals_the_reference_and_ignores_logits_at_pad() -> None:
    rng = default_rng(0)
    logits = rng.normal(size=[*TARGETS.shape, 7]) * 3.0
    loss = tf.function(sequence_loss, autograph=False)
    expected = [reference.sequence_loss(*row) for row in zip(logits, TARGETS, strict=True)]
    assert_close(loss(logits, TARGETS), expected)
    logits[TARGETS == PAD_ID] = rng.normal(size=[np.sum(TARGETS == PAD_ID), 7])
    assert_close(loss(logits, TARGETS), expected)


def test_reference_probability_ends_with_eos() -> None:
    probabilities = np.array([[0.1, 0.0, 0.2, 0.7], [0.2, 0.0, 0.5, 0.3],
                              [0.6, 0.0, 0.1, 0.3]])
    logits = np.log(probabilities + 1e-300)
    assert_close(reference.probability(logits), 0.7 * 0.5)
    assert_close(reference.probability(logits[[0, 2]]), 0.7 * 0.6)


# Padding


def test_an_image_alone_gives_the_same_results_as_in_a_padded_batch() -> None:
    model, images = shared_model(), make_images([*WIDTHS, 23, 3, 17])
    targets = np.resize(TARGETS, [len(images), 5])
    together = network(model)(*pad(images, beyond=7), targets)
    for row, image in enumerate(images):
        alone = network(model)(*pad([image]), targets[row:row + 1])
        time = alone.lengths[0]
        assert together.lengths[row] == time
        assert_close(together.memory.values[row, :time], alone.memory.values[0], 1e-10)
        assert_close(together.logits[row], alone.logits[0], 1e-10)
        assert_close(together.greedy.logits[row], alone.greedy.logits[0], 1e-10)
        assert_close(together.greedy.attention[row, :, :time], alone.greedy.attention[0], 1e-10)
        assert together.greedy.ids[row].tolist() == alone.greedy.ids[0].tolist()


def test_an_image_alone_gives_the_same_results_as_in_a_padded_batch_in_float32() -> None:
    model = make_model(make_config(layers=3), tf.float32)
    batch, widths = pad(make_images(WIDTHS), beyond=5)
    batch = batch.astype(np.float32)
    together = network(model)(batch, widths, TARGETS)
    for row, width in enumerate(widths):
        only = slice(row, row + 1)
        alone = network(model)(batch[only, :, :width], widths[only], TARGETS[only])
        assert_close(together.logits[row], alone.logits[0], 1e-4)


def test_values_in_the_padding_of_images_have_no_effect() -> None:
    graph, images = network(shared_model()), make_images(WIDTHS)
    clean = graph(*pad(images, beyond=4), TARGETS)
    noisy = graph(*pad(images, beyond=4, noise=50.0), TARGETS)
    tf.nest.map_structure(functools.partial(assert_close, tolerance=1e-12), clean, noisy)


def test_the_encoder_ignores_the_padding() -> None:
    encoder = shared_model().encoder
    lengths = np.array([3, 5, 1], np.int32)
    features = default_rng(0).normal(size=[3, 5, 512])
    encode = tf.function(encoder, autograph=False)
    clean, clean_states = encode(features, lengths)
    for row, length in zip(features, lengths, strict=True):
        row[length:] = 9.0
    noisy, noisy_states = encode(features, lengths)
    assert_close(noisy_states, clean_states, 1e-12)
    for row, length in enumerate(lengths):
        assert_close(noisy[row, :length], clean[row, :length], 1e-12)


def test_attention_sums_to_one_and_is_zero_in_the_padding() -> None:
    model, lengths = shared_model(), [3, 6, 1]
    greedy = tf.function(model.greedy, autograph=False)
    clean = greedy(make_memory(model, lengths)[0], until_eos=False)
    noisy = greedy(make_memory(model, lengths, noise=20.0)[0], until_eos=False)
    assert_close(tf.reduce_sum(clean.attention, -1), np.ones([3, 6]), 1e-12)
    for row, length in enumerate(lengths):
        assert not np.any(clean.attention[row, :, length:])
        assert np.all(clean.attention[row, :, :length] > 0.0)
    tf.nest.map_structure(functools.partial(assert_close, tolerance=1e-12), clean, noisy)


# Batch statistics and their moving averages


def encode_batch(model: AttentionOCR, images: tf.Tensor, widths: tf.Tensor,
                 dropout_mask: tf.Tensor, packed: packing.Packing) -> Memory:
    return model.encode_features(
        model.batch_features(images, widths, dropout_mask, packed), widths)


def norms_of(model: AttentionOCR) -> dict[str, BatchNorm]:
    return {f"conv{n}": conv.norm for n, conv in enumerate(model.cnn.convs, start=1)
            if conv.norm is not None}


def test_batch_statistics_exclude_padding_and_averages_are_unbiased() -> None:
    model = make_model(make_config())
    graph = tf.function(functools.partial(encode_batch, model), autograph=False,
                        reduce_retracing=True)
    weights, moments = reference.collect(model), []
    for seed in range(3):
        images = make_images([11 - 3 * seed, 1, 6 + seed, 2], seed=seed)
        batch, widths = pad(images, beyond=3, noise=10.0)
        dropout_mask = 2.0 * default_rng(seed).integers(
            0, 2, [len(images), -(-batch.shape[2] // 4), 512])
        encoded = graph(batch, widths, dropout_mask, packing.first_fit(widths))
        features, used = reference.convnet(weights, images, reference.batch_statistics)
        for row, columns in enumerate(features):
            memory, last_states = reference.encode(
                weights, columns * dropout_mask[row, :len(columns)])
            assert_close(encoded.values[row, :len(columns)], memory)
            assert_close(encoded.start[row],
                         np.concatenate(reference.start_state(weights, last_states)))
        moments.append(used)
        for name, norm in norms_of(model).items():
            means, variances = zip(*(used[name] for used in moments), strict=True)
            assert_close(norm.moving_mean, reference.unbiased_averages(means)[-1])
            assert_close(norm.moving_variance, reference.unbiased_averages(variances)[-1])


def test_averages_equal_the_reference_for_many_updates_whatever_their_initial_values() -> None:
    norm = BatchNorm(Initializer(0, tf.float64), "norm", 2)
    norm.moving_mean.assign([1e6, -1e6])
    norm.moving_variance.assign([1e6, 1e6])
    update = tf.function(norm.training, autograph=False)
    xs = default_rng(1).normal(size=[1100, 2, 3, 4, 2]) + np.arange(1100.0).reshape(-1, 1, 1, 1, 1)
    means = reference.unbiased_averages(list(xs.mean((1, 2, 3))))
    variances = reference.unbiased_averages(list(xs.var((1, 2, 3))))
    for x, mean, variance in zip(xs, means, variances, strict=True):
        update(x, np.ones([2, 1, 4, 1]))
        assert_close(norm.moving_mean, mean, 1e-8)
        assert_close(norm.moving_variance, variance, 1e-8)
    assert norm.updates.numpy() == 1100


@pytest.mark.parametrize("widths", [
    [3, 8, 17, 24, 29, 31, 0], [1, 1, 1, 1, 40], [4, 8, 12, 16, 20], [9, 10, 11, 12], [23]])
def test_a_packed_batch_gives_the_features_of_the_padded_batch(widths: list[int]) -> None:
    images = pad(make_images([max(width, 1) for width in widths]), beyond=3, noise=9.0)[0]
    padded, packed = make_model(make_config()), make_model(make_config())
    expected = padded.cnn(images, mask_of(images, widths), BatchNorm.training)
    features = packed._batch_features(tf.constant(images), tf.constant(widths),
                                packing.first_fit(np.array(widths)), BatchNorm.training)
    assert features.shape == expected.shape
    for row, expected_row, width in zip(features, expected, widths, strict=True):
        assert_close(row[:-(-width // 4)], expected_row[:-(-width // 4)], 1e-10)
    for variable, other in zip(padded.cnn.variables, packed.cnn.variables, strict=True):
        assert_close(variable, other, 1e-10)


def test_a_batch_without_padding_gives_the_same_features_without_a_mask() -> None:
    images, widths = pad(make_images([24, 24, 24]))
    images = tf.cast(images, tf.float32)
    masked, unmasked = (AttentionOCR(make_config()) for _ in range(2))
    features = masked.cnn(images, mask_of(images, widths), BatchNorm.training)
    assert_close(features, unmasked.cnn(images, None, BatchNorm.training), 1e-5)
    for variable, other in zip(masked.cnn.variables, unmasked.cnn.variables, strict=True):
        assert_close(variable, other, 1e-5)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
@pytest.mark.parametrize("widths", [[24, 24, 24], [8, 17, 24]])
def test_half_precision_gives_features_near_those_of_float32(
        dtype: tf.DType, widths: list[int]) -> None:
    images, _ = pad(make_images(widths))
    images = tf.cast(images, tf.float32)
    mask = None if min(widths) == max(widths) else mask_of(images, widths)
    full, half = (AttentionOCR(make_config()) for _ in range(2))
    features = full.cnn(images, mask, BatchNorm.training)
    half_features = half.cnn(tf.cast(images, dtype), mask, BatchNorm.training)
    assert half_features.dtype == dtype
    difference = np.abs(features - tf.cast(half_features, tf.float32))
    assert 0 < difference.mean() < 0.02 * np.abs(features).mean()
    for variable, other in zip(full.cnn.variables, half.cnn.variables, strict=True):
        assert other.dtype == variable.dtype  # weights and statistics stay float32
        assert_close(variable, other, 0.02)


def test_reference_averages_equal_the_recursive_form_and_preserve_constants() -> None:
    values, running, m = list(default_rng(2).normal(size=[40, 3])), np.full(3, 1e3), 0.99
    for t, (value, average) in enumerate(
            zip(values, reference.unbiased_averages(values), strict=True), start=1):
        momentum = min(m, (t - 1) / (t + 9))
        running = momentum * running + (1.0 - momentum) * value
        assert_close(average, running)
    assert_close(reference.unbiased_averages([values[0]] * 30), [values[0]] * 30)


def test_moving_averages_converge_to_the_statistics_of_a_repeated_batch() -> None:
    model = make_model(make_config())
    batch = pad(make_images(WIDTHS[:3]))
    dropout_and_packing = np.float64(1.0), packing.first_fit(batch[1])
    encode_for_training = tf.function(functools.partial(encode_batch, model), autograph=False)
    encode = tf.function(model.encode, autograph=False)
    with pytest.raises(AssertionError):  # the initial averages are not those of the batch
        assert_close(encode(*batch).values,
                     encode_for_training(*batch, *dropout_and_packing).values, 1e-3)
    for _ in range(6):
        inference, expected = encode(*batch), encode_for_training(*batch, *dropout_and_packing)
        for row, length in enumerate(-(-batch[1] // 4)):
            assert_close(inference.values[row, :length], expected.values[row, :length])
        assert_close(inference.start, expected.start)


def test_inference_changes_no_variable() -> None:
    model = shared_model()
    before = [variable.numpy() for variable in model.variables]
    network(model)(*pad(make_images(WIDTHS)), TARGETS)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


# Greedy decoding


def first_eos(ids: NDArray[np.int32]) -> list[int]:
    """Returns the step of each row's first EOS, or the number of steps."""
    return [list(row).index(EOS_ID) if EOS_ID in row else len(row) for row in ids]


def greedy_with_bias(eos_bias: float, memory: Memory, until_eos: bool) -> Decoded:
    """Decodes with a bias in favor of EOS or against it."""
    model = long_model()
    model.decoder.output.bias.assign([0.0, 0.0, eos_bias, 0.0, 0.0, 0.0, 0.0])
    return tf.function(model.greedy, autograph=False)(memory, until_eos)


def test_greedy_stops_when_every_row_has_emitted_eos() -> None:
    memory, *_ = make_memory(long_model(), [1, 2, 3, 4, 5, 6] * 5)
    ends = np.array(first_eos(greedy_with_bias(1.25, memory, until_eos=False).ids.numpy()))
    rows = np.flatnonzero(ends < 8)
    steps = ends[rows].max() + 1
    assert len(np.unique(ends[rows])) > 1, "rows do not end at different steps"
    memory = Memory(*(tf.gather(part, rows) for part in memory))
    all_steps = greedy_with_bias(1.25, memory, until_eos=False)
    stopped = greedy_with_bias(1.25, memory, until_eos=True)
    assert all_steps.ids.shape == [len(rows), 11]
    assert stopped.ids.shape == [len(rows), steps]
    np.testing.assert_array_equal(stopped.ids, all_steps.ids[:, :steps])
    assert_close(stopped.logits, all_steps.logits[:, :steps], 1e-12)
    assert_close(stopped.attention, all_steps.attention[:, :steps], 1e-12)


@pytest.mark.parametrize(("eos_bias", "steps"), [(1e3, 1), (-1e3, 11)])
def test_greedy_takes_between_one_and_all_steps(eos_bias: float, steps: int) -> None:
    memory, *_ = make_memory(long_model(), [4, 2])
    decoded = greedy_with_bias(eos_bias, memory, until_eos=True)
    assert decoded.ids.shape == [2, steps]
    assert decoded.ids.dtype == tf.int32
    assert decoded.logits.shape == [2, steps, 7]
    assert decoded.attention.shape == [2, steps, 4]
    decoded = greedy_with_bias(eos_bias, memory, until_eos=False)
    assert decoded.ids.shape == [2, 11]


def test_greedy_equals_teacher_forcing_with_its_own_ids() -> None:
    model = shared_model()
    memory, *_ = make_memory(model, [3, 6, 1])
    decoded = tf.function(model.greedy, autograph=False)(memory, until_eos=False)
    logits = tf.function(model.teacher_forced, autograph=False)(memory, decoded.ids)
    assert_close(decoded.logits, logits, 1e-12)


def test_the_input_of_the_first_step_is_go_and_not_the_target() -> None:
    model = shared_model()
    memory, *_ = make_memory(model, [3])
    forced = tf.function(model.teacher_forced, autograph=False)
    logits = forced(memory, np.array([[3, 4, 5]], np.int32))
    assert_close(forced(memory, np.array([[6, 4, 3]], np.int32))[:, 0], logits[:, 0], 1e-12)
    assert np.abs(forced(memory, np.array([[GO_ID, 4, 5]], np.int32)) - logits)[0, 1].max() > 1e-4


def test_steps_compute_scores_from_the_precomputed_keys() -> None:
    model = shared_model()
    memory, *_ = make_memory(model, [4, 2])
    without_keys = memory._replace(keys=tf.zeros_like(memory.keys))
    decoded = tf.function(model.greedy, autograph=False)(without_keys, until_eos=False)
    assert_close(decoded.attention[0], np.full([6, 4], 1 / 4), 1e-12)
    assert_close(decoded.attention[1], np.broadcast_to([1 / 2, 1 / 2, 0.0, 0.0], [6, 4]), 1e-12)


# Graph size


def count_nodes(function: Callable[..., object], *arguments: object) -> int:
    """Returns the number of nodes in a function's graph and in all functions it calls."""
    traced = tf.function(function, autograph=False).get_concrete_function(*arguments)
    graph = traced.graph.as_graph_def()
    return len(graph.node) + sum(len(part.node_def) for part in graph.library.function)


@both_cells
def test_graph_size_does_not_depend_on_the_longest_label(use_gru: bool) -> None:
    sizes = []
    for max_prediction in (8, 600):
        config = make_config(use_gru, max_prediction=max_prediction)
        model = AttentionOCR(config)
        memory = Memory(*(tf.TensorSpec([2, *shape]) for shape in ([5, 16], [5, 16], [5], [
            config.attn_num_layers * config.attn_num_hidden * (1 if use_gru else 2)])))
        targets = tf.TensorSpec([2, config.decode_steps], tf.int32)
        sizes.append((count_nodes(model.greedy, memory), count_nodes(
            model.teacher_forced, memory, targets)))
    assert sizes[0] == sizes[1]
    assert min(sizes[0]) > 50


# Gradients


def network_loss(model: AttentionOCR) -> tf.Tensor:
    """Returns the loss of a training step, dropout included."""
    images, widths = pad(make_images(TRAINING_WIDTHS))
    memory = encode_batch(model, images, widths, training_dropout_mask(), packing.first_fit(widths))
    logits = model.teacher_forced(memory, TARGETS[:3])
    return tf.reduce_mean(sequence_loss(logits, TARGETS[:3]))


def decoder_loss(model: AttentionOCR) -> tf.Tensor:
    """Returns the loss of a batch that is given as a memory."""
    rng, units = default_rng(3), model.decoder.keys.shape[0]
    memory = model.decoder.attend_over(
        tf.constant(rng.normal(size=[3, 4, units])), tf.constant([2, 4, 1]),
        tf.constant(rng.normal(size=[3, 2 * units])))
    logits = model.teacher_forced(memory, TARGETS[:3])
    return tf.reduce_mean(sequence_loss(logits, TARGETS[:3]))


def training_dropout_mask() -> Array:
    """Returns dropout factors for three images of four columns."""
    return default_rng(4).integers(0, 2, [3, 4, 512]) / 0.5


def check_gradients(loss: Callable[[], tf.Tensor], variables: Sequence[tf.Variable]) -> None:
    """Compares directional derivatives with central differences, variable by variable."""
    def gradients() -> list[tf.Tensor | None]:
        with tf.GradientTape() as tape:
            value = loss()
        return [None if gradient is None else tf.convert_to_tensor(gradient)
                for gradient in tape.gradient(value, variables)]

    rng, distance, loss_value = default_rng(6), 1e-6, tf.function(loss, autograph=False)
    results = tf.function(gradients, autograph=False)()
    for variable, gradient in zip(variables, results, strict=True):
        assert gradient is not None, variable.name
        direction = rng.normal(size=variable.shape)
        direction *= distance / np.linalg.norm(direction)
        value = variable.numpy()
        variable.assign(value + direction)
        above = loss_value()
        variable.assign(value - direction)
        difference = (above - loss_value()) / 2.0
        variable.assign(value)
        np.testing.assert_allclose(np.sum(gradient * direction) / distance, difference / distance,
                                   1e-4, 1e-8, err_msg=variable.name)


@pytest.mark.slow
def test_gradients_of_all_weights_equal_central_differences() -> None:
    model = training_model()
    check_gradients(lambda: network_loss(model), model.trainable_variables)


@pytest.mark.slow
def test_gradients_of_a_gru_decoder_equal_central_differences() -> None:
    model = shared_model(CASES[4])
    check_gradients(lambda: decoder_loss(model), model.decoder.trainable_variables)


def test_all_weights_are_trainable_and_no_moving_average_is() -> None:
    model = shared_model()
    names = {variable.name for variable in model.trainable_variables}
    others = {variable.name for variable in model.variables} - names
    assert len(others) == 9
    assert all("moving" in name or "updates" in name for name in others)
    assert not any("moving" in name or "updates" in name for name in names)


def test_loss_of_a_training_step_equals_the_reference() -> None:
    model, dropout_mask, losses = training_model(), training_dropout_mask(), []
    weights = reference.collect(model)
    features, _ = reference.convnet(
        weights, make_images(TRAINING_WIDTHS), reference.batch_statistics)
    for row, columns in enumerate(features):
        memory = reference.encode(weights, columns * dropout_mask[row, :len(columns)])
        logits = reference.teacher_forced(weights, *memory, TARGETS[row])
        losses.append(reference.sequence_loss(logits, TARGETS[row]))
    assert_close(tf.function(network_loss, autograph=False)(model), np.mean(losses))


# Initial weights


@functools.cache
def default_model() -> AttentionOCR:
    return AttentionOCR(ModelConfig(), Initializer(3))


def test_the_default_model_has_8_5_million_weights() -> None:
    count = sum(math.prod(variable.shape) for variable in default_model().trainable_variables)
    assert 8_000_000 < count < 9_000_000
    assert count == 8_529_645


GLOROT_FANS = {
    "conv1/kernel": (9, 576), "conv2/kernel": (576, 1152), "conv3/kernel": (1152, 2304),
    "conv4/kernel": (2304, 2304), "conv5/kernel": (2304, 4608), "conv6/kernel": (4608, 4608),
    "conv7/kernel": (2048, 2048), "encoder/forward/kernel": (768, 1024),
    "encoder/backward/kernel": (768, 1024), "decoder/embedding": (39, 10),
    "decoder/start/kernel": (1024, 512), "decoder/input/kernel": (522, 128),
    "decoder/cell1/kernel": (256, 512), "decoder/cell2/kernel": (256, 512),
    "decoder/keys": (512, 512), "decoder/query/kernel": (512, 512), "decoder/score": (512, 512),
    "decoder/output/kernel": (640, 39)}


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
