"""Batch sampling: which records form which batch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aocr.config import TrainConfig
from aocr.data import sampler
from aocr.data.index import RecordIndex
from aocr.data.sampler import Mixture, Position
from aocr.data.tfrecord import TFRecordFile
from tests.benchmarks.records import epoch_batches, mixing

START = Position(0, 0)
WIDTHS = st.lists(st.integers(1, 86), max_size=150)


def index_of(widths: Sequence[int]) -> RecordIndex:
    """Returns an index of records with these widths in a file that does not exist."""
    n = len(widths)
    numbers = np.arange(1, n + 1)
    return RecordIndex([TFRecordFile("none", n, 1, None)], np.zeros(n, np.int64), numbers, numbers,
                       numbers, np.array(widths, np.int64), numbers, [])


@given(WIDTHS, st.integers(1, 70), st.integers(0, 99), st.integers(0, 99))
def test_every_record_is_in_one_batch_and_there_are_no_more_batches_than_needed(
        widths: list[int], size: int, seed: int, epoch: int) -> None:
    index = index_of(widths)
    for batches in (sampler.bucketed_batches(index, size),
                    epoch_batches(index, size, seed, epoch)):
        assert sorted(n for batch in batches for n in batch) == list(range(len(widths)))
        assert len(batches) == -(-len(widths) // size)
        assert all(1 <= len(batch) <= size for batch in batches)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(1, 9), st.integers(1, 20), st.data())
def test_every_batch_holds_the_same_number_of_records_of_a_mixture(
        count: int, size: int, mixed: int, data: st.DataObject) -> None:
    index, others = index_of([5 + n % 7 for n in range(count)]), index_of([9] * mixed)
    joined = index.join(others)
    mixture = sampler.Mixture(count, mixed, data.draw(st.integers(1, mixed)), size, seed=3)
    length = 2 * -(-count // size)
    start = data.draw(st.integers(0, length - 1))

    def plans(position: Position) -> list[sampler.BatchPlan]:
        return list(itertools.islice(sampler.mixed_batches(
            joined, mixture, sampler.training_batches(index, size, 3, position)), length))

    complete = plans(START)
    without = sampler.training_batches(index, size, 3, START)
    for plan, unmixed in zip(complete, without, strict=False):
        assert sorted(plan.records[plan.records < count]) == sorted(unmixed.records)
        added = plan.records[plan.records >= count]
        assert len(set(added)) == mixture.per_batch
        assert (np.diff(joined.width[plan.records]) >= 0).all()
    for plan, expected in zip(plans(complete[start].end), complete[start + 1:], strict=False):
        np.testing.assert_array_equal(plan.records, expected.records)


@pytest.mark.parametrize("own", [1, 10, 20, 49, 50, 60, 200, 5000])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_records_are_mixed_in_with_their_share_also_of_a_few(own: int, share: float) -> None:
    mixture = Mixture.plan(own, 10_000, TrainConfig(mix=("x",), mix_share=share))
    batches = epoch_batches(index_of([9] * own), mixture.own_per_batch, 0, 0)
    assert len(batches) == mixture.batches_per_epoch
    for batch in batches:
        assert len(batch) + mixture.per_batch <= 65
        expected = len(batch) * share / (1 - share)
        assert abs(mixture.per_batch - expected) <= max(1.0, 0.05 * expected)


def test_a_mixture_is_no_larger_than_its_records_and_leaves_room() -> None:
    assert Mixture.plan(100, 3, TrainConfig(mix=("x",), mix_share=0.5)).per_batch == 3
    assert Mixture.plan(9, 5, TrainConfig(batch_size=2, mix=("x",), mix_share=0.9))[2:4] == (1, 1)


def test_all_records_of_a_mixture_are_used_about_equally_often() -> None:
    mixture = sampler.Mixture(5, 40, 4, 5, seed=0)
    counts = np.bincount(np.concatenate([mixture.batch(epoch, number) for epoch in range(10)
                                         for number in range(100)]) - 5, minlength=40)
    assert len(counts) == 40
    assert counts.min() > 60  # 100 is expected


@given(st.integers(1, 300), st.integers(1, 70))
def test_sizes_of_training_batches_differ_by_at_most_one(count: int, size: int) -> None:
    sizes = [len(batch) for batch in epoch_batches(index_of([9] * count), size, 0, 0)]
    assert max(sizes) - min(sizes) <= 1


@given(WIDTHS, st.integers(1, 20), st.integers(0, 2**63), st.integers(0, 99))
def test_the_order_depends_only_on_seed_and_epoch(
        widths: list[int], size: int, seed: int, epoch: int) -> None:
    first = epoch_batches(index_of(widths), size, seed, epoch)
    np.random.seed(size)
    second = epoch_batches(index_of(widths), size, seed, epoch)
    assert [list(batch) for batch in first] == [list(batch) for batch in second]


def test_other_epochs_and_seeds_have_other_orders_and_other_batches() -> None:
    index = index_of([10 + n % 70 for n in range(200)])
    epochs = [epoch_batches(index, 8, seed, epoch)
              for seed in (0, 1) for epoch in range(4)]
    assert len({tuple(np.concatenate(batches)) for batches in epochs}) == len(epochs)
    assert len({frozenset(map(frozenset, batches)) for batches in epochs}) == len(epochs)


def test_a_training_batch_is_a_random_sample_sorted_by_width() -> None:
    widths = np.random.default_rng(0).integers(10, 87, 2000)
    batches = epoch_batches(index_of(widths.tolist()), 50, 0, 0)
    assert all((np.diff(widths[batch]) >= 0).all() for batch in batches)
    means = np.array([widths[batch].mean() for batch in batches])
    assert abs(means - widths.mean()).max() < 5 * widths.std() / np.sqrt(50)


def test_an_epoch_mixes_the_shards_as_a_uniform_shuffle_does() -> None:
    widths = np.random.default_rng(0).integers(10, 87, 8000)
    shards = np.arange(8000, dtype=np.int32) // 1000
    statistics = mixing(replace(index_of(widths.tolist()), file=shards), 50)
    assert abs(statistics["chi_square"]) < 4
    assert abs(statistics["rank_correlation"]) < 4
    assert abs(statistics["same_shard"] - statistics["expected_same_shard"]) < 0.02


def test_bucketed_batches_need_little_padding() -> None:
    widths = np.random.default_rng(0).integers(10, 87, 2000)

    def padding(batches: Sequence[np.ndarray]) -> float:
        area = sum(len(batch) * int(widths[batch].max()) for batch in batches)
        return 1 - int(widths.sum()) / area

    order = np.random.default_rng(1).permutation(2000)
    shuffled = padding([order[n:n + 16] for n in range(0, 2000, 16)])
    assert padding(sampler.bucketed_batches(index_of(widths.tolist()), 16)) < shuffled / 5


def test_bucketing_moves_records_only_within_a_window() -> None:
    size = 3
    widths = np.random.default_rng(2).integers(1, 87, 400)
    batches = sampler.bucketed_batches(index_of(widths.tolist()), size)
    window = sampler.WINDOW_BATCHES * size
    for start in range(0, 400, window):
        positions = np.concatenate(batches[start // size:(start + window) // size])
        assert sorted(positions) == list(range(start, min(400, start + window)))


def test_the_largest_seed_is_accepted() -> None:
    assert len(epoch_batches(index_of([5] * 10), 5, 2**63 - 1, 0)) == 2


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 3), st.data())
def test_training_batches_continue_from_any_position(
        count: int, size: int, epoch: int, data: st.DataObject) -> None:
    index = index_of([5 + n % 7 for n in range(count)])
    epochs = [epoch_batches(index, size, 3, epoch + n) for n in range(2)]
    used = data.draw(st.integers(0, len(epochs[0]) - 1))
    position = sum(map(len, epochs[0][:used]))
    expected = epochs[0][used:] + epochs[1]
    plans = itertools.islice(sampler.training_batches(index, size, 3, Position(epoch, position)),
                             len(expected))
    for plan, records in zip(plans, expected, strict=True):
        np.testing.assert_array_equal(plan.records, records)


def test_a_position_within_a_batch_leaves_out_only_the_used_records() -> None:
    index = index_of([5] * 10)
    plans = list(itertools.islice(sampler.training_batches(index, 3, 0, Position(0, 4)), 3))
    order = np.concatenate(epoch_batches(index, 3, 0, 0))
    records = np.concatenate([plan.records for plan in plans if plan.epoch == 0])
    assert sorted(records) == sorted(order[4:])
    assert [plan.end for plan in plans if plan.epoch == 0][-1] == (1, 0)
    assert plans[0].start == (0, 4)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 9), st.data())
def test_after_a_change_of_the_batch_size_every_record_is_used_once(
        count: int, before: int, after: int, data: st.DataObject) -> None:
    index = index_of([5 + n % 7 for n in range(count)])
    batches = epoch_batches(index, before, 3, 0)
    used = batches[:data.draw(st.integers(0, len(batches) - 1))]
    plans = itertools.takewhile(lambda plan: plan.epoch == 0, sampler.training_batches(
        index, after, 3, Position(0, sum(map(len, used)))))
    assert sorted(np.concatenate([*used, *(plan.records for plan in plans)])) == list(range(count))
