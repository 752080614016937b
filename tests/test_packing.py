"""Packing of several images into a row of a batch."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from numpy.random import default_rng

from aocr.model import packing

WIDTHS = [np.array(widths, np.int32) for widths in (
    [461, *default_rng(1).integers(60, 400, 64)], [75] * 9, [1, 4, 5, 0, 3, 8], [0, 0], [7],
    [2000, 30, 30, 30])]


@pytest.mark.parametrize("widths", WIDTHS, ids=lambda widths: f"{len(widths)}x{max(widths)}")
@pytest.mark.parametrize("replicas", [1, 2])
def test_images_of_a_row_are_separated_and_end_within_it(
        widths: np.ndarray, replicas: int) -> None:
    offsets, (rows, length) = packing.first_fit(widths, replicas)
    for replica in range(replicas):
        used = np.zeros([rows, length + 1], int)
        for offset, width in zip(offsets[replica::replicas], widths[replica::replicas],
                                 strict=True):
            row, start = divmod(offset, length)
            columns = -(-width // 4)
            assert start + columns <= length
            used[row, start:start + columns + (columns > 0)] += 1  # with a free column behind it
        assert used.max() <= 1


def test_packed_lines_take_little_more_than_their_own_columns() -> None:
    widths = WIDTHS[0]
    shape = packing.first_fit(widths).shape
    assert np.prod(shape) * 4 < 1.12 * widths.sum() < len(widths) * max(widths) / 1.8


def test_images_of_equal_width_have_a_row_each() -> None:
    assert packing.first_fit(WIDTHS[1]).shape.tolist() == [9, 19]


@pytest.mark.parametrize(("batch", "widest"), [(8, 460), (65, 460), (65, 2000)])
def test_packed_batches_have_few_different_shapes(batch: int, widest: int) -> None:
    random = default_rng(2)
    shapes = {tuple(packing.first_fit(random.integers(60, widest + 1, batch)).shape)
              for _ in range(300)}
    assert len(shapes) < 50


def test_images_of_width_0_take_no_row() -> None:
    assert packing.first_fit(np.array([13, 5, 1, 0])).shape.tolist() == [2, 4]
    assert packing.first_fit(np.array([13, 5, 1])).shape.tolist() == [2, 4]


@pytest.mark.parametrize("widths", WIDTHS, ids=lambda widths: f"{len(widths)}x{max(widths)}")
def test_unpack_reverses_pack(widths: np.ndarray) -> None:
    random, widest = default_rng(3), max(int(max(widths)), 1)
    images = random.normal(size=[len(widths), 32, widest, 2])
    plan = packing.first_fit(widths)
    packed, mask = packing.pack(tf.constant(images), tf.constant(widths), plan)
    assert packed.shape == [plan.shape[0], 32, 4 * plan.shape[1], 2]
    assert int(tf.math.count_nonzero(mask)) == widths.sum()
    assert not np.any(packed.numpy().transpose(0, 2, 1, 3)[~mask.numpy()])
    columns = -(-widths // 4)
    features = packed[:, 0, ::4]  # the first pixel of every column
    time = -(-widest // 4)
    rows = packing.unpack(features, tf.constant(columns), tf.constant(time), plan)
    assert rows.shape == [len(widths), time, 2]
    for row, image, count in zip(rows, images, columns, strict=True):
        assert np.array_equal(row[:count], image[0, ::4][:count])
