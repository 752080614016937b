"""Augmentation: the distortions against NumPy, and their dependence on seed, epoch and record."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from aocr.config import AUGMENTATIONS, ModelConfig, TrainConfig
from aocr.data import example, pipeline
from aocr.data.example import Record
from aocr.data.index import RecordIndex, build_index
from aocr.data.pipeline import Augmentation, Batch, BatchRecords
from aocr.data.sampler import Mixture, Position
from aocr.images import augmentation, distortions, preprocessing
from aocr.images.augmentation import STRENGTHS
from aocr.runtime.distributed import Cluster
from aocr.tokenizer import Tokenizer
from aocr.training import contact_sheet
from aocr.training.batches import TrainingBatches
from tests.conftest import Command, World
from tests.drawing import encoded, undecodable_png, word

CONFIG = ModelConfig(alphabet="abc", color=True)
TOKENIZER = Tokenizer(CONFIG.alphabet)
START = Position(0, 0)


def pixels(height: int, width: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Returns random values from 0 to 255, smooth enough for JPEG."""
    generator = np.random.default_rng(seed)
    coarse = generator.uniform(0, 255, (height // 4 + 2, width // 4 + 2, channels))
    return coarse.repeat(4, 0).repeat(4, 1)[:height, :width].astype(np.float32)


def median_of_edges(image: np.ndarray) -> np.ndarray:
    height, width, channels = image.shape
    colors = []
    for channel in range(channels):
        values = [image[y, x, channel] for x in range(width) for y in (0, height - 1)]
        values += [image[y, x, channel] for y in range(height) for x in (0, width - 1)]
        colors.append(sorted(values)[len(values) // 2])
    return np.array(colors)


def bilinear(image: np.ndarray, y: float, x: float, outside: np.ndarray) -> np.ndarray:
    """Returns the color at a position between pixels."""
    height, width, _ = image.shape
    total = np.zeros(image.shape[2])
    for row in (int(np.floor(y)), int(np.floor(y)) + 1):
        for column in (int(np.floor(x)), int(np.floor(x)) + 1):
            is_inside = 0 <= row < height and 0 <= column < width
            color = image[row, column] if is_inside else outside
            total += color * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def warped(image: np.ndarray, linear: list[list[float]], shift: tuple[float, float] = (0, 0),
           perspective: tuple[float, float] = (0, 0)) -> np.ndarray:
    height, width, _ = image.shape
    matrix = distortions.transform(
        tf.constant([width, height], tf.float32), tf.constant(linear, tf.float32),
        tf.constant(shift, tf.float32), tf.constant(perspective, tf.float32))
    return distortions.warp(tf.constant(image), matrix).numpy()


def index_of(path: Path, count: int = 7) -> RecordIndex:
    """Writes words of several widths, one of them undecodable, and returns their index."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for n in range(count):
            image = undecodable_png() if n == 2 else encoded(word("abc", (20 + 9 * n, 24)))
            writer.write(example.encode(Record(image, "abc", "")))
    return build_index([str(path)], CONFIG, TOKENIZER)


def augmented(index: RecordIndex, plan: list[BatchRecords], level: str, seed: int = 1,
              config: ModelConfig = CONFIG) -> dict[tuple[int, int], np.ndarray]:
    """Returns the images of a plan without padding, by epoch and record."""
    images: dict[tuple[int, int], np.ndarray] = {}
    data = pipeline.make_training_pipeline(
        index, plan, TOKENIZER, config, Augmentation(level, seed))
    for (_, (epoch, *_)), batch in zip(plan, data, strict=True):
        assert isinstance(batch, Batch)
        for image, width, record in zip(
                batch.images.numpy(), batch.widths.numpy(), batch.records.numpy(), strict=True):
            assert not image[:, width:].any()
            images[int(epoch), int(record)] = image[:, :width]
    return images


def test_a_shift_moves_pixels_and_fills_with_the_median_of_the_edges() -> None:
    image = pixels(8, 12, 3)
    expected = np.tile(median_of_edges(image), (8, 12, 1))
    expected[:6, 3:] = image[2:, :9]
    np.testing.assert_allclose(
        warped(image, [[1, 0], [0, 1]], shift=(3, -2)), expected, atol=1e-3)


def test_a_quarter_turn_turns_by_a_quarter() -> None:
    image = pixels(9, 9)
    np.testing.assert_allclose(warped(image, [[0, -1], [1, 0]]), np.rot90(image), atol=1e-2)


def test_a_linear_part_of_two_halves_the_size() -> None:
    image = pixels(9, 13)
    expected = np.tile(median_of_edges(image), (9, 13, 1))
    expected[2:7, 3:10] = image[::2, ::2]
    np.testing.assert_allclose(warped(image, [[2, 0], [0, 2]]), expected, atol=1e-3)


@settings(max_examples=20)
@given(st.integers(2, 10), st.integers(2, 14), st.lists(st.floats(-0.3, 0.3), min_size=4,
                                                       max_size=4),
       st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
       st.tuples(st.floats(-0.03, 0.03), st.floats(-0.03, 0.03)))
def test_every_transform_samples_the_position_that_it_computes(
        height: int, width: int, changes: list[float], shift: tuple[float, float],
        perspective: tuple[float, float]) -> None:
    image = pixels(height, width)
    linear = np.eye(2) + np.reshape(changes, [2, 2])
    result = warped(image, linear.tolist(), shift, perspective)
    outside = median_of_edges(image)
    for y in range(height):
        for x in range(width):
            position = np.array([x - (width - 1) / 2 - shift[0], y - (height - 1) / 2 - shift[1]])
            source = linear @ position / (1 + perspective @ position)
            color = bilinear(image, source[1] + (height - 1) / 2, source[0] + (width - 1) / 2,
                             outside)
            np.testing.assert_allclose(result[y, x], color, atol=0.1)


@pytest.mark.parametrize("level", AUGMENTATIONS[1:])
@pytest.mark.parametrize("width", [10, 80, 800])
def test_no_transform_moves_text_far_out_of_an_image(level: str, width: int) -> None:
    limits = STRENGTHS[level]
    allowed = {"light": 10, "strong": 20}[level]  # with all amounts at their limits
    corners = np.array([[x, y, 1] for x in (0, width - 1) for y in (0, 31)])
    for draws in np.random.default_rng(0).choice([-1.0, 1.0], (32, 8)):
        rows = augmentation.random_transform(
            tf.constant([32, width, 1]), tf.constant(draws, tf.float32), limits).numpy()
        to_source = np.append(rows, 1).reshape(3, 3)
        moved = corners @ np.linalg.inv(to_source).T
        moved = moved[:, :2] / moved[:, 2:]
        assert moved.min() > -allowed
        assert (moved - [width, 32]).max() < allowed


def test_erasing_fills_a_rectangle() -> None:
    image = pixels(10, 12, 3)
    expected = image.copy()
    expected[3:5, 7:] = 90
    result = distortions.erase(tf.constant(image), tf.constant([3.0, 7.0]),
                               tf.constant([2.0, 9.0]), tf.constant(90.0))
    np.testing.assert_array_equal(result, expected)


def test_blur_is_a_convolution_with_a_gaussian() -> None:
    image = pixels(6, 9)
    weights = np.exp(-np.arange(-2, 3) ** 2 / (2 * 0.8 ** 2))
    kernel = np.outer(weights, weights) / weights.sum() ** 2
    outer = np.pad(image[..., 0], 2, "edge")
    expected = [[(outer[y:y + 5, x:x + 5] * kernel).sum() for x in range(9)] for y in range(6)]
    result = distortions.blur(tf.constant(image), tf.constant(0.8))
    np.testing.assert_allclose(result[..., 0], expected, rtol=1e-5)


def test_contrast_brightness_and_inversion_are_linear_and_clipped() -> None:
    image = tf.constant([0.0, 100, 150, 250])[:, None, None]  # the mean is 125
    half, inverted, bright = (
        distortions.adjust(image, contrast, brightness).numpy().ravel().tolist()
        for contrast, brightness in ((0.5, 0.0), (-1.0, 0.0), (1.0, 0.4)))
    assert half == [62.5, 112.5, 137.5, 187.5]
    assert inverted == [255, 155, 105, 5]
    assert bright == [102, 202, 252, 255]


def test_noise_has_the_requested_deviation() -> None:
    image = tf.fill([40, 90, 3], 127.5)
    noise = distortions.add_noise(image, tf.constant([1, 2], tf.int64), tf.constant(0.05)) - image
    assert abs(np.mean(noise)) < 0.5
    assert np.std(noise) == pytest.approx(0.05 * 255, rel=0.03)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_compression_is_that_of_a_jpeg_file(channels: int, mode: str) -> None:
    image = pixels(32, 48, channels).round()
    file = io.BytesIO()
    Image.fromarray(image.astype(np.uint8).squeeze(), mode).save(file, "JPEG", quality=40)
    expected = np.asarray(Image.open(file), np.float32).reshape(image.shape)
    result = distortions.compress(tf.constant(image), tf.constant(40)).numpy()
    assert result.shape == image.shape
    assert np.abs(result - image).mean() > 1
    assert np.abs(result - expected).mean() < 1


@pytest.mark.parametrize("level", AUGMENTATIONS[1:])
def test_images_depend_on_seed_epoch_and_record_only(level: str, tmp_path: Path) -> None:
    index = index_of(tmp_path / "data")
    records = np.array([0, 1, 3, 4, 5, 6])
    images = augmented(
        index, [BatchRecords.of_epoch(np.arange(7), epoch) for epoch in (0, 1, 2 ** 30 - 1)],
        level)
    assert set(images) == {(epoch, n) for epoch in (0, 1, 2 ** 30 - 1) for n in records}
    apart = augmented(index, [BatchRecords.of_epoch(records[[n]], 1) for n in (4, 0, 2)], level)
    for key, image in apart.items():
        np.testing.assert_array_equal(image, images[key])
    other_seed = augmented(index, [BatchRecords.of_epoch(records, 1)], level, seed=2 ** 63 - 1)
    for n in records:
        assert (images[0, n] != images[1, n]).any()
        assert (images[1, n] != other_seed[1, n]).any()
        assert np.abs(images[0, n]).max() <= 1


def test_images_that_are_mixed_in_are_distorted_anew_in_every_batch(tmp_path: Path) -> None:
    index = index_of(tmp_path / "data")
    settings = TrainConfig(batch_size=3, augment="strong")
    mixture = Mixture(len(index) - 1, 1, 1, 2, seed=0)
    cluster = Cluster(mock.Mock(num_replicas_in_sync=1))
    batches = TrainingBatches(index, TOKENIZER, CONFIG, settings, cluster, mixture)
    images = [image[:, :width].numpy()
              for local in itertools.islice(batches.read_from(START, START), 4)
              for image, width, record in zip(local.batch.images, local.batch.widths,
                                              local.batch.records.numpy(), strict=True)
              if record == mixture.start]
    assert len(images) == 4
    assert len({image.tobytes() for image in images}) == 4


def test_resumed_runs_and_workers_see_the_images_of_one_uninterrupted_run(tmp_path: Path) -> None:
    index = index_of(tmp_path / "data")
    settings = TrainConfig(batch_size=3, augment="strong", seed=4)

    def images(workers: int, worker: int, start: Position, count: int
               ) -> dict[tuple[int, int], np.ndarray]:
        cluster = Cluster(mock.Mock(num_replicas_in_sync=workers), workers, worker)
        batches = TrainingBatches(index, TOKENIZER, CONFIG, settings, cluster)
        return {(local.plan.epoch, int(record)): image[:, :width].numpy()
                for local in itertools.islice(batches.read_from(start, start), count)
                for image, width, record in zip(local.batch.images, local.batch.widths,
                                                local.batch.records.numpy(), strict=True)}

    expected = images(1, 0, Position(0, 0), count=9)  # three epochs of three batches
    assert len(expected) == 3 * 6
    resumed = images(1, 0, Position(1, 3), count=5)
    shares = [images(2, worker, Position(0, 0), count=9) for worker in range(2)]
    assert len(shares[0] | shares[1]) == len(shares[0]) + len(shares[1]) == len(expected)
    for share in (resumed, *shares):
        assert share
        for key, image in share.items():
            np.testing.assert_array_equal(image, expected[key])


def test_equal_images_are_distorted_differently(tmp_path: Path) -> None:
    with tf.io.TFRecordWriter(str(tmp_path / "data")) as writer:
        for _ in range(2):
            writer.write(example.encode(Record(encoded(word("abc")), "abc", "")))
    index = build_index([str(tmp_path / "data")], CONFIG, TOKENIZER)
    images = augmented(index, [BatchRecords.of_epoch(np.arange(2), 0)], "light")
    assert (images[0, 0] != images[0, 1]).any()


def test_without_augmentation_images_are_those_of_the_preprocessing(tmp_path: Path) -> None:
    index = index_of(tmp_path / "data")
    images = augmented(index, [BatchRecords.of_epoch(np.arange(7), 3)], "off")
    for (_, n), image in images.items():
        expected = preprocessing.preprocess(
            tf.constant(encoded(word("abc", (20 + 9 * n, 24)))), CONFIG)
        np.testing.assert_array_equal(image, expected)


def test_the_padding_of_the_padded_layout_stays_black(tmp_path: Path) -> None:
    config = ModelConfig(alphabet="abc", color=True, layout="padded")
    images = augmented(index_of(tmp_path / "data"), [BatchRecords.of_epoch(np.arange(7), 0)],
                       "strong", config=config)
    for (_, n), image in images.items():
        assert image.shape == (32, config.input_width, 3)
        if n >= 5:  # as wide as the input
            continue
        assert (image[24:] == -1).all()
        assert (image[:, 20 + 9 * n:] == -1).all()


def test_the_contact_sheet_shows_images_unchanged_and_augmented(
        world: World, command: Command, tmp_path: Path) -> None:
    path, model_dir = tmp_path / "sheet.png", tmp_path / "new"
    code, logged = command("train", world.records, "--model-dir", model_dir, "--augment", "strong",
                           "--show-augmented", path)
    assert code == 0
    assert f"Wrote {path}: 8 images, each unchanged and then as --augment strong" in logged
    assert not model_dir.exists()
    sheet = np.asarray(Image.open(path))[::2, ::2]
    cells = sheet.reshape(8, 36, contact_sheet.EPOCHS + 1, -1, 3).swapaxes(1, 2)
    for n, image in enumerate(world.images):
        expected = preprocessing.preprocess(tf.constant(image.read_bytes()), ModelConfig())
        row = cells[n, :, :32, :expected.shape[1]]
        values = np.clip(np.round(expected * 128 + 128), 0, 255)
        np.testing.assert_array_equal(row[0], values.repeat(3, 2))
        assert all((row[0] != changed).any() for changed in row[1:])


def test_the_contact_sheet_shows_no_images_of_a_mixture(
        world: World, command: Command, tmp_path: Path) -> None:
    pictures = []
    for flags in ([], ["--mix", world.records]):
        path = tmp_path / f"{len(flags)}.png"
        assert command("train", world.records, "--model-dir", tmp_path / "new", "--augment",
                       "light", "--show-augmented", path, *flags)[0] == 0
        pictures.append(path.read_bytes())
    assert pictures[0] == pictures[1]


def test_a_contact_sheet_that_cannot_be_written_is_one_line(
        world: World, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "missing" / "sheet.png"
    code, logged = command("train", world.records, "--augment", "light", "--show-augmented", path)
    assert code == 1
    assert f"cannot write {path}: " in logged.splitlines()[-1]


def test_a_contact_sheet_needs_an_augmentation(world: World, command: Command, tmp_path: Path
                                               ) -> None:
    code, logged = command("train", world.records, "--show-augmented", tmp_path / "sheet.png")
    assert code == 1
    assert logged.splitlines()[-1].endswith("--show-augmented needs --augment light or strong")


def test_images_that_cannot_be_decoded_are_counted_beside_a_contact_sheet(
        world: World, command: Command, tmp_path: Path) -> None:
    records = tmp_path / "damaged.tfrecords"
    with tf.io.TFRecordWriter(str(records)) as writer:
        for image in (undecodable_png(), world.images[0].read_bytes()):
            writer.write(example.encode(Record(image, "A", "")))
    code, logged = command("train", records, "--augment", "light", "--show-augmented",
                           tmp_path / "sheet.png")
    assert code == 0
    assert "Using 1 of 2 images to show, skipping 1." in logged
    assert "1 x unreadable image (first: record 1 of " in logged


def test_versions_of_wide_images_continue_in_the_next_line() -> None:
    images = np.zeros([9, 2, 32, 700, 1])
    assert contact_sheet.draw(images, np.array([700, 50])).size == (2 * 2 * 704, 2 * 2 * 5 * 36)
