"""Where characters are expected while attention is guided, and what attention elsewhere costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from aocr.config import ModelConfig
from aocr.training.curriculum import (
    BIAS_DEVIATION,
    BIAS_STEPS,
    COST_DEVIATION,
    COST_STEPS,
    DROPOUT_STEPS,
    GUIDED_STEPS,
    SHORT_TEXT,
    Curriculum,
    Guide,
)

LATIN = [3, 4, 2, 0]
HEBREW = [5, 6, 2, 0]


def make_curriculum(strength: float = 1.0, **config: Any) -> Curriculum:
    return Curriculum(ModelConfig(alphabet="abאב", **config), strength)


def guide(targets: list[int], step: int = 0, time: int = 8, width: int = 32,
          curriculum: Curriculum | None = None) -> Guide:
    """Returns the guide of one image."""
    return (curriculum or make_curriculum()).guide(
        tf.constant([targets]), tf.constant([width]), tf.constant(time),
        tf.constant(step, tf.int64))


def test_characters_are_expected_in_the_middle_of_their_share_of_the_width() -> None:
    bias, cost = (part[0].numpy() for part in guide(LATIN))
    distances = (np.arange(8) + 0.5) / 8 - np.array([[0.25], [0.75]])
    np.testing.assert_allclose(bias[:2], -(distances / BIAS_DEVIATION) ** 2 / 2, rtol=1e-4)
    expected = 1 - np.exp(-(distances / COST_DEVIATION) ** 2 / 2)
    np.testing.assert_allclose(cost[:2], expected / 2, rtol=1e-4, atol=1e-6)


def test_long_texts_are_guided_within_a_smaller_part_of_the_width() -> None:
    count, width = 4 * SHORT_TEXT, 1024
    bias, cost = (part[0].numpy() for part in guide([3] * count + [2], time=256, width=width))
    columns = (np.arange(256) + 0.5) / 256
    distances = 2 * (columns - (np.arange(count)[:, None] + 0.5) / count)  # 2 = sqrt(4)
    np.testing.assert_allclose(bias[:-1], -(distances / BIAS_DEVIATION) ** 2 / 2, rtol=1e-3,
                               atol=1e-5)
    expected = 1 - np.exp(-(distances / COST_DEVIATION) ** 2 / 2)
    np.testing.assert_allclose(cost[:-1], expected / count, rtol=1e-3, atol=1e-6)


def test_right_to_left_scripts_start_on_the_right() -> None:
    for left, right in zip(guide(LATIN), guide(HEBREW), strict=True):
        np.testing.assert_allclose(left[0, 0], right[0, 0, ::-1], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(left[0, 1], right[0, 1, ::-1], rtol=1e-4, atol=1e-6)


def test_neither_the_end_of_the_text_nor_padding_is_guided() -> None:
    for part in guide(LATIN):
        assert not np.any(part[0, 2:])
    for part in (*guide([2, 0, 0, 0]), *guide([0, 0, 0, 0], width=0)):
        assert not np.any(part)
    for alone, wider in zip(guide(LATIN), guide(LATIN, time=20), strict=True):
        np.testing.assert_allclose(alone, wider[:, :, :8], rtol=1e-5)


def test_guidance_fades_linearly() -> None:
    first, half = guide(LATIN), guide(LATIN, BIAS_STEPS // 2)
    np.testing.assert_allclose(half.bias, first.bias / 2, rtol=1e-5)
    np.testing.assert_allclose(guide(LATIN, COST_STEPS // 2).cost, first.cost / 2, rtol=1e-5)
    for step in (GUIDED_STEPS, GUIDED_STEPS + 1, 10 * GUIDED_STEPS):
        for part in guide(LATIN, step):
            assert not np.any(part)
    assert make_curriculum().guides(GUIDED_STEPS - 1)
    assert not make_curriculum().guides(GUIDED_STEPS)


@pytest.mark.parametrize("curriculum", [
    make_curriculum(layout="padded"), make_curriculum(strength=0.0)], ids=["padded", "off"])
def test_no_guidance_for_padded_layouts_and_trained_models(curriculum: Curriculum) -> None:
    assert not curriculum.guides(0)
    for part in guide(LATIN, curriculum=curriculum):
        assert not np.any(part)
    assert curriculum.dropout_rate(tf.constant(0, tf.int64), 0.5).numpy() == 0.5


def test_dropout_rises_linearly() -> None:
    rates = [float(make_curriculum().dropout_rate(tf.constant(step, tf.int64), 0.5))
             for step in (0, DROPOUT_STEPS // 2, DROPOUT_STEPS, 10 * DROPOUT_STEPS)]
    assert rates == [0.0, 0.25, 0.5, 0.5]
