"""The input pipeline: batches of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from aocr.config import ModelConfig
from aocr.data import example, pipeline
from aocr.data.example import Record
from aocr.data.index import RecordIndex, build_index
from aocr.data.pipeline import Batch
from aocr.images import preprocessing
from aocr.tokenizer import EOS_ID, PAD_ID, Tokenizer
from tests.drawing import encoded, undecodable_png, word

CONFIG = ModelConfig(alphabet="abc ")
TOKENIZER = Tokenizer(CONFIG.alphabet)
LABELS = ("abc", "", "a", "ccccc", "b a", "ab")


def index_of(path: Path, images: Sequence[bytes]) -> RecordIndex:
    """Writes images with the labels in turn to a file, and returns its index."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for n, image in enumerate(images):
            writer.write(example.encode(Record(image, label_of(n), "")))
    return build_index([str(path)], CONFIG, TOKENIZER)


def label_of(n: int) -> str:
    return LABELS[n % len(LABELS)]


def batches_of(index: RecordIndex, plan: Sequence[np.ndarray]) -> list[Batch]:
    """Returns the batches of a plan with NumPy arrays."""
    return list(pipeline.make_pipeline(index, plan, TOKENIZER, CONFIG).as_numpy_iterator())


def test_a_batch_planned_without_records_is_empty(tmp_path: Path) -> None:
    index = index_of(tmp_path / "data", [encoded(word("a", (20, 24)))])
    plan = [np.array([], np.int32), np.array([0])]
    first, second = batches_of(index, plan)
    assert (len(first.records), list(second.records)) == (0, [0])
    filled = pipeline.fill_undecodable(Batch(*map(tf.constant, first)), plan[0], 1)
    assert (filled.images.shape[0], filled.widths.numpy().tolist()) == (1, [0])


def test_batches_hold_images_targets_and_records(tmp_path: Path) -> None:
    images = [encoded(word("a", (10 + 9 * n, 24))) for n in range(7)]
    index = index_of(tmp_path / "data", images)
    plan = [np.array([4, 0, 3]), np.array([6, 2]), np.array([1]), np.array([5])]
    batches = batches_of(index, plan)
    assert [list(batch.records) for batch in batches] == [list(records) for records in plan]
    for batch in batches:
        labels = [TOKENIZER.encode(label_of(n)) for n in batch.records]
        longest = max(map(len, labels))
        padded = [ids + [PAD_ID] * (longest - len(ids)) for ids in labels]
        np.testing.assert_array_equal(batch.targets, padded)
        assert (batch.targets == EOS_ID).sum() == len(labels)
        pixels, widths = preprocessing.preprocess_batch(
            tf.constant([images[n] for n in batch.records]), CONFIG)
        np.testing.assert_array_equal(batch.images, pixels)
        np.testing.assert_array_equal(batch.widths, widths)
        np.testing.assert_array_equal(batch.widths, index.width[batch.records])
        assert batch.targets.dtype == batch.widths.dtype == np.int32
        assert batch.records.dtype == np.int64


def test_all_batches_have_the_same_static_shapes(tmp_path: Path) -> None:
    index = index_of(tmp_path / "data", [encoded(word("a", (30, 24)))])
    spec = pipeline.make_pipeline(index, [np.array([0])], TOKENIZER, CONFIG).element_spec
    assert isinstance(spec, Batch)
    assert spec.images.shape.as_list() == [None, 32, None, 1]
    assert spec.targets.shape.as_list() == [None, None]


@pytest.mark.parametrize("undecodable", [{1}, {3, 4, 5, 7}, {0, 1, 2, 6, 7, 8}, set(range(12))],
                         ids=["one of three", "batch and one", "two batches", "all"])
def test_undecodable_images_are_left_out_and_the_others_stay_in_order(
        tmp_path: Path, undecodable: set[int]) -> None:
    decodable = encoded(word("a", (30, 24)))
    index = index_of(tmp_path / "data", [
        undecodable_png() if n in undecodable else decodable for n in range(12)])
    assert len(index) == 12
    plan = [np.arange(n, n + 3) for n in range(0, 12, 3)]
    data = pipeline.make_pipeline(index, plan, TOKENIZER, CONFIG)
    for planned, batch in zip(plan, data, strict=True):
        skipped = pipeline.undecodable(index, pipeline.undecoded(planned, batch))
        assert set(skipped) == undecodable & set(planned.tolist())
        assert all(skip.record == n + 1 for n, skip in skipped.items())
        assert batch.records.numpy().tolist() == [n for n in planned if n not in undecodable]
        assert len(batch.images) == len(batch.targets) == len(batch.records)
        for row, n in zip(batch.targets.numpy(), batch.records.numpy(), strict=True):
            ids = TOKENIZER.encode(label_of(n))
            assert list(row[:len(ids)]) == ids


@pytest.mark.parametrize(("decoded", "min_rows"), [([], 1), ([1], 4), ([0, 2], 2), ([0, 1, 2], 1)])
def test_blank_rows_replace_undecodable_images(decoded: list[int], min_rows: int) -> None:
    planned = np.array([40, 10, 30])
    batch = Batch(tf.ones([len(decoded), 32, 5, 1]), tf.fill([len(decoded)], 5),
                  tf.fill([len(decoded), 2], 3), tf.constant(planned[decoded], tf.int64),
                  tf.fill([len(decoded)], ""))
    filled = pipeline.fill_undecodable(batch, planned, min_rows)
    widths = [5 if n in decoded else 0 for n in range(max(3, min_rows))]
    assert filled.widths.numpy().tolist() == widths
    assert filled.targets.numpy().tolist() == [[3 * (width > 0)] * 2 for width in widths]
    assert (filled.images.numpy().sum((1, 2, 3)) == 32 * np.array(widths)).all()


@settings(max_examples=2, deadline=None)
@given(st.permutations(range(12)))
def test_batches_come_in_the_order_of_the_plan(
        tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    index = index_of(tmp_path_factory.mktemp("order") / "data",
                     [undecodable_png() if n % 3 == 0 else encoded(word("a", (9, 9)))
                      for n in range(12)])
    batches = batches_of(index, [np.array([n]) for n in order])
    assert [list(batch.records) for batch in batches] == [[n] if n % 3 else [] for n in order]


def test_an_empty_plan_gives_no_batches(tmp_path: Path) -> None:
    index = index_of(tmp_path / "data", [encoded(word("a", (30, 24)))])
    assert batches_of(index, []) == []
