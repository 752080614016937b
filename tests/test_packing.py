"""Images that share the rows of a batch."""

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
@pytest.mark.parametrize("devices", [1, 2])
def test_no_two_images_touch_and_none_goes_over_the_end_of_its_row(
        widths: np.ndarray, devices: int) -> None:
    places, (rows, length) = packing.plan(widths, devices)
    for device in range(devices):
        taken = np.zeros([rows, length + 1], int)
        for place, width in zip(places[device::devices], widths[device::devices], strict=True):
            row, begin = divmod(place, length)
            columns = -(-width // 4)
            assert begin + columns <= length
            taken[row, begin:begin + columns + (columns > 0)] += 1  # one is free after it
        assert taken.max() <= 1


def test_random_lines_take_little_more_than_their_own_columns() -> None:
    widths = WIDTHS[0]
    shape = packing.plan(widths).shape
    assert np.prod(shape) * 4 < 1.12 * widths.sum() < len(widths) * max(widths) / 1.8


def test_images_of_one_width_stay_in_rows_of_their_own() -> None:
    assert packing.plan(WIDTHS[1]).shape.tolist() == [9, 19]


@pytest.mark.parametrize(("batch", "widest"), [(8, 460), (65, 460), (65, 2000)])
def test_shapes_are_few(batch: int, widest: int) -> None:
    random = default_rng(2)
    shapes = {tuple(packing.plan(random.integers(60, widest + 1, batch)).shape)
              for _ in range(300)}
    assert len(shapes) < 50


def test_blank_images_take_no_row() -> None:
    assert packing.plan(np.array([13, 5, 1, 0])).shape.tolist() == [2, 4]
    assert packing.plan(np.array([13, 5, 1])).shape.tolist() == [2, 4]


@pytest.mark.parametrize("widths", WIDTHS, ids=lambda widths: f"{len(widths)}x{max(widths)}")
def test_what_is_packed_comes_back(widths: np.ndarray) -> None:
    random, widest = default_rng(3), max(int(max(widths)), 1)
    images = random.normal(size=[len(widths), 32, widest, 2])
    places = packing.plan(widths)
    packed, inside = packing.pack(images=tf.constant(images), widths=tf.constant(widths),
                                  packing=places)
    assert packed.shape == [places.shape[0], 32, 4 * places.shape[1], 2]
    assert int(tf.math.count_nonzero(inside)) == widths.sum()
    assert not np.any(packed.numpy().transpose(0, 2, 1, 3)[~inside.numpy()])
    columns = -(-widths // 4)
    features = packed[:, 0, ::4]  # the first pixel of every column
    time = -(-widest // 4)
    rows = packing.unpack(features, tf.constant(columns), tf.constant(time), places)
    assert rows.shape == [len(widths), time, 2]
    for row, image, number in zip(rows, images, columns, strict=True):
        assert np.array_equal(row[:number], image[0, ::4][:number])
