"""Images of the original: their sizes, and the kernels that resize them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from aocr.config import ModelConfig
from aocr.images import preprocessing
from tests import originals
from tests.drawing import encoded, word
from tests.originals import SIZES


@given(st.integers(1, 300), st.integers(1, 3000), st.sampled_from([(160, 60), (40, 32), (7, 3)]))
@settings(max_examples=60, deadline=None)
def test_sizes_equal_those_of_the_original(
        height: int, width: int, limits: tuple[int, int]) -> None:
    config = ModelConfig(max_width=limits[0], max_height=limits[1], layout="padded")
    scaled = int(np.ceil(np.float64(width) / height * 32))
    widest = int(np.ceil(np.float64(limits[0]) / limits[1] * 32))
    expected = ((min(height, 32), width if height <= 32 else scaled) if scaled <= widest
                else (int(np.ceil(np.float64(widest) / scaled * 32)), widest))
    size = preprocessing.scaled_size(tf.constant(height), tf.constant(width), config)
    assert tuple(int(side) for side in size) == expected


@pytest.mark.parametrize(("half_pixel", "a"), [(False, -0.75), (True, -0.5)])
def test_tensorflow_1_and_2_resize_with_the_kernel_of_keys_and_different_parameters(
        half_pixel: bool, a: float) -> None:
    """Enlarging a single bright pixel gives the kernel."""
    dot = np.zeros([1, 1, 16, 1], np.float32)
    dot[0, 0, 8] = 1
    resized = tf.raw_ops.ResizeBicubic(images=dot, size=[1, 64], half_pixel_centers=half_pixel)
    shift = 0.5 * half_pixel
    positions = (np.arange(64) + shift) / 4 - shift
    np.testing.assert_allclose(
        resized[0, 0, :, 0], [originals.cubic(8 - position, a) for position in positions],
        atol=1e-6)


@pytest.mark.parametrize("tf1", [True, False])
@pytest.mark.parametrize("size", [*SIZES, (160, 60), (161, 60), (5, 200), (700, 40), (86, 33)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_preprocessed_images_equal_those_of_the_original(
        tf1: bool, size: tuple[int, int], mode: str) -> None:
    config = ModelConfig(layout="padded", color=mode == "RGB",
                         kernel="bicubic-tf1" if tf1 else "bicubic-tf2")
    file = encoded(word("Xg3", size, mode))
    expected = originals.load_image(originals.pixels(file), 86, tf1)
    np.testing.assert_allclose(preprocessing.preprocess(tf.constant(file), config), expected,
                               atol=1e-5)
