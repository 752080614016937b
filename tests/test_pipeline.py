"""The order of an epoch, and the pipeline that reads it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from aocr.config import ModelConfig
from aocr.data import example, pipeline, sampler
from aocr.data.example import Record
from aocr.data.index import RecordIndex, build_index
from aocr.data.pipeline import Batch
from aocr.data.tfrecord import TFRecordFile
from aocr.images import preprocessing
from aocr.tokenizer import EOS_ID, PAD_ID, Tokenizer
from tests.benchmarks.records import mixing
from tests.drawing import encoded, undecodable_png, word

CONFIG = ModelConfig(alphabet="abc ")
TOKENIZER = Tokenizer(CONFIG.alphabet)
LABELS = ("abc", "", "a", "ccccc", "b a", "ab")


def planned(widths: Sequence[int]) -> RecordIndex:
    """An index of records that nobody reads."""
    n = len(widths)
    numbers = np.arange(1, n + 1)
    return RecordIndex([TFRecordFile("none", n, 1, None)], np.zeros(n, np.int64), numbers, numbers,
                       numbers, np.array(widths, np.int64), numbers, [])


def stored(path: Path, images: Sequence[bytes]) -> RecordIndex:
    """The index of a file with these images and the labels in turn."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for n, file in enumerate(images):
            writer.write(example.encode(Record(file, LABELS[n % len(LABELS)], "")))
    return build_index([str(path)], CONFIG, TOKENIZER)


WIDTHS = st.lists(st.integers(1, 86), max_size=150)


@given(WIDTHS, st.integers(1, 70), st.integers(0, 99), st.integers(0, 99))
def test_every_record_is_in_one_batch_and_there_are_no_more_batches_than_needed(
        widths: list[int], size: int, seed: int, epoch: int) -> None:
    index = planned(widths)
    for plan in (sampler.bucketed_batches(index, size),
                 sampler.shuffled_batches(index, size, seed, epoch)):
        assert sorted(n for batch in plan for n in batch) == list(range(len(widths)))
        assert len(plan) == -(-len(widths) // size)
        assert all(1 <= len(batch) <= size for batch in plan)


@given(st.integers(1, 300), st.integers(1, 70))
def test_batches_to_train_on_have_the_same_size(count: int, size: int) -> None:
    sizes = [len(batch) for batch in sampler.shuffled_batches(planned([9] * count), size, 0, 0)]
    assert max(sizes) - min(sizes) <= 1


@given(WIDTHS, st.integers(1, 20), st.integers(0, 2**63), st.integers(0, 99))
def test_order_depends_on_seed_and_epoch_alone(
        widths: list[int], size: int, seed: int, epoch: int) -> None:
    first = sampler.shuffled_batches(planned(widths), size, seed, epoch)
    np.random.seed(size)
    again = sampler.shuffled_batches(planned(widths), size, seed, epoch)
    assert [list(batch) for batch in first] == [list(batch) for batch in again]


def test_other_epochs_and_other_seeds_have_other_orders_and_other_neighbours() -> None:
    index = planned([10 + n % 70 for n in range(200)])
    plans = [sampler.shuffled_batches(index, 8, seed, epoch) for seed in (0,
                                                                          1) for epoch in range(4)]
    assert len({tuple(n for batch in plan for n in batch) for plan in plans}) == len(plans)
    assert len({frozenset(map(frozenset, plan)) for plan in plans}) == len(plans)


def test_a_training_batch_is_random_and_in_the_order_of_its_widths() -> None:
    widths = np.random.default_rng(0).integers(10, 87, 2000)
    plan = sampler.shuffled_batches(planned(widths.tolist()), 50, 0, 0)
    assert all((np.diff(widths[batch]) >= 0).all() for batch in plan)
    means = np.array([widths[batch].mean() for batch in plan])
    assert abs(means - widths.mean()).max() < 5 * widths.std() / np.sqrt(50)


def test_an_epoch_mixes_the_shards_as_a_uniform_shuffle_does() -> None:
    widths = np.random.default_rng(0).integers(10, 87, 8000)
    shards = np.arange(8000, dtype=np.int32) // 1000
    mixed = mixing(replace(planned(widths.tolist()), file=shards), 50)
    assert abs(mixed["chi_square"]) < 4
    assert abs(mixed["rank_correlation"]) < 4
    assert abs(mixed["same_shard"] - mixed["expected_same_shard"]) < 0.02


def test_like_widths_stand_together_where_the_order_does_not_matter() -> None:
    widths = np.random.default_rng(0).integers(10, 87, 2000)

    def padding(plan: Sequence[np.ndarray]) -> float:
        area = sum(len(batch) * int(widths[batch].max()) for batch in plan)
        return 1 - int(widths.sum()) / area

    random = np.random.default_rng(1).permutation(2000)
    plain = padding([random[n:n + 16] for n in range(0, 2000, 16)])
    assert padding(sampler.bucketed_batches(planned(widths.tolist()), 16)) < plain / 5


def test_in_order_moves_records_within_a_window_only() -> None:
    size = 3
    widths = np.random.default_rng(2).integers(1, 87, 400)
    plan = sampler.bucketed_batches(planned(widths.tolist()), size)
    window = sampler.WINDOW_BATCHES * size
    for start in range(0, 400, window):
        numbers = np.concatenate(plan[start // size:(start + window) // size])
        assert sorted(numbers) == list(range(start, min(400, start + window)))


def test_the_largest_seed_is_taken() -> None:
    assert len(sampler.shuffled_batches(planned([5] * 10), 5, 2**63 - 1, 0)) == 2


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 3), st.data())
def test_the_endless_plan_goes_on_from_any_position(
        count: int, size: int, epoch: int, data: st.DataObject) -> None:
    index = planned([5 + n % 7 for n in range(count)])
    whole = [sampler.shuffled_batches(index, size, 3, epoch),
             sampler.shuffled_batches(index, size, 3, epoch + 1)]
    used = data.draw(st.integers(0, len(whole[0]) - 1))
    position = sum(map(len, whole[0][:used]))
    left = whole[0][used:] + whole[1]
    plan = itertools.islice(sampler.training_batches(index, size, 3, epoch, position), len(left))
    for found, expected in zip(plan, left, strict=True):
        np.testing.assert_array_equal(found.records, expected)


def test_a_position_within_a_batch_leaves_out_only_what_was_used() -> None:
    index = planned([5] * 10)
    plan = list(itertools.islice(sampler.training_batches(index, 3, 0, 0, 4), 3))
    whole = np.concatenate(sampler.shuffled_batches(index, 3, 0, 0))
    left = np.concatenate([one.records for one in plan if one.epoch == 0])
    assert sorted(left) == sorted(whole[4:])
    assert [one.position for one in plan if one.epoch == 0][-1] == 10


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 9), st.data())
def test_a_new_batch_size_uses_every_record_once(count: int, before: int, after: int,
                                                 data: st.DataObject) -> None:
    index = planned([5 + n % 7 for n in range(count)])
    first = sampler.shuffled_batches(index, before, 3, 0)
    used = first[:data.draw(st.integers(0, len(first) - 1))]
    rest = itertools.takewhile(lambda one: one.epoch == 0, sampler.training_batches(
        index, after, 3, 0, sum(map(len, used))))
    assert sorted(np.concatenate([*used, *(one.records for one in rest)])) == list(range(count))


def test_a_share_without_images_is_an_empty_batch(tmp_path: Path) -> None:
    index = stored(tmp_path / "data", [encoded(word("a", (20, 24)))])
    plan = [np.array([], np.int32), np.array([0])]
    first, second = pipeline.make_pipeline(index, plan, TOKENIZER, CONFIG).as_numpy_iterator()
    assert (len(first.records), list(second.records)) == (0, [0])
    whole = pipeline.fill_undecodable(Batch(*map(tf.constant, first)), plan[0], 1)
    assert (whole.images.shape[0], whole.widths.numpy().tolist()) == (1, [0])


def test_batches_hold_images_targets_and_numbers(tmp_path: Path) -> None:
    files = [encoded(word("a", (10 + 9 * n, 24))) for n in range(7)]
    index = stored(tmp_path / "data", files)
    plan = [np.array([4, 0, 3]), np.array([6, 2]), np.array([1]), np.array([5])]
    loaded = list(pipeline.make_pipeline(index, plan, TOKENIZER, CONFIG).as_numpy_iterator())
    assert [list(batch.records) for batch in loaded] == [list(numbers) for numbers in plan]
    for batch in loaded:
        labels = [TOKENIZER.encode(LABELS[n % len(LABELS)]) for n in batch.records]
        longest = max(map(len, labels))
        padded = [ids + [PAD_ID] * (longest - len(ids)) for ids in labels]
        np.testing.assert_array_equal(batch.targets, padded)
        assert (batch.targets == EOS_ID).sum() == len(labels)
        images, widths = preprocessing.preprocess_batch(
            tf.constant([files[n] for n in batch.records]), CONFIG)
        np.testing.assert_array_equal(batch.images, images)
        np.testing.assert_array_equal(batch.widths, widths)
        np.testing.assert_array_equal(batch.widths, index.width[batch.records])
        assert batch.targets.dtype == batch.widths.dtype == np.int32
        assert batch.records.dtype == np.int64


def test_one_shape_of_tensors_for_all_batches(tmp_path: Path) -> None:
    index = stored(tmp_path / "data", [encoded(word("a", (30, 24)))])
    spec = pipeline.make_pipeline(index, [np.array([0])], TOKENIZER, CONFIG).element_spec
    assert spec.images.shape.as_list() == [None, 32, None, 1]
    assert spec.targets.shape.as_list() == [None, None]


@pytest.mark.parametrize("bad", [{1}, {3, 4, 5, 7}, {0, 1, 2, 6, 7, 8}, set(range(12))],
                         ids=["one of three", "batch and one", "two batches", "all"])
def test_undecodable_images_leave_their_batch_and_others_stay_in_order(
        tmp_path: Path, bad: set[int]) -> None:
    good = encoded(word("a", (30, 24)))
    index = stored(tmp_path / "data", [undecodable_png() if n in bad else good for n in range(12)])
    assert len(index) == 12
    plan = [np.arange(n, n + 3) for n in range(0, 12, 3)]
    data = pipeline.make_pipeline(index, plan, TOKENIZER, CONFIG)
    loaded = list(data.as_numpy_iterator())
    met = [pipeline.undecodable(index, pipeline.undecoded(numbers, batch))
           for numbers, batch in zip(plan, data, strict=True)]
    assert [set(skipped) for skipped in met] == [bad & set(batch.tolist()) for batch in plan]
    assert all(skip.record == n + 1 for skipped in met for n, skip in skipped.items())
    kept = [[n for n in batch if n not in bad] for batch in plan]
    assert [list(batch.records) for batch in loaded] == kept
    for batch in loaded:
        assert len(batch.images) == len(batch.targets) == len(batch.records)
        for row, n in zip(batch.targets, batch.records, strict=True):
            ids = TOKENIZER.encode(LABELS[n % len(LABELS)])
            assert list(row[:len(ids)]) == ids


@pytest.mark.parametrize(("kept", "least"), [([], 1), ([1], 4), ([0, 2], 2), ([0, 1, 2], 1)])
def test_blank_rows_stand_for_what_is_missing(kept: list[int], least: int) -> None:
    numbers = np.array([40, 10, 30])
    batch = Batch(tf.ones([len(kept), 32, 5, 1]), tf.fill([len(kept)], 5),
                  tf.fill([len(kept), 2], 3), tf.constant(numbers[kept], tf.int64),
                  tf.fill([len(kept)], ""))
    whole = pipeline.fill_undecodable(batch, numbers, least)
    expected = [5 if n in kept else 0 for n in range(max(3, least))]
    assert whole.widths.numpy().tolist() == expected
    assert whole.targets.numpy().tolist() == [[3 * (n > 0)] * 2 for n in expected]
    assert (whole.images.numpy().sum((1, 2, 3)) == 32 * np.array(expected)).all()


@settings(max_examples=2, deadline=None)
@given(st.permutations(range(12)))
def test_batches_come_in_the_order_of_the_plan(
        tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    index = stored(tmp_path_factory.mktemp("order") / "data",
                   [undecodable_png() if n % 3 == 0 else encoded(word("a", (9, 9)))
                    for n in range(12)])
    plan = [np.array([n]) for n in order]
    loaded = pipeline.make_pipeline(index, plan, TOKENIZER, CONFIG).as_numpy_iterator()
    assert [list(batch.records) for batch in loaded] == [[n] if n % 3 else [] for n in order]


def test_no_plan_gives_no_batches(tmp_path: Path) -> None:
    index = stored(tmp_path / "data", [encoded(word("a", (30, 24)))])
    assert not list(pipeline.make_pipeline(index, [], TOKENIZER, CONFIG))
