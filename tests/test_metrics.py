"""Metrics and the loss, against examples computed by hand."""

from __future__ import annotations

import math

import distance
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from aocr.evaluation import metrics
from aocr.model.loss import sequence_loss


def test_loss_is_the_mean_over_characters_and_eos() -> None:
    probabilities = np.array([[[.5, .25, .25], [.1, .1, .8], [.3, .3, .4]],
                        [[.2, .3, .5], [.9, .05, .05], [.6, .2, .2]]])
    targets = tf.constant([[1, 2, 0], [2, 0, 0]])
    loss = sequence_loss(tf.constant(np.log(probabilities)), targets)
    np.testing.assert_allclose(loss, [-(math.log(.25) + math.log(.8)) / 2, -math.log(.5)])


def test_loss_ignores_logits_at_pad() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 4, 5))
    targets = tf.constant([[3, 2, 0, 0], [2, 0, 0, 0]])
    other = logits.copy()
    other[np.asarray(targets) == 0] += [0., 9., -9., 1., 5.]
    np.testing.assert_array_equal(sequence_loss(tf.constant(logits), targets),
                                  sequence_loss(tf.constant(other), targets))


@pytest.mark.parametrize(("loss", "expected"), [
    (0.0, 1.0), (math.log(3), 3.0), (1.0, math.e), (1e4, math.inf), (math.inf, math.inf)])
def test_perplexity_is_exp_of_the_loss_or_infinity(loss: float, expected: float) -> None:
    assert metrics.perplexity(loss) == pytest.approx(expected)


def test_perplexity_of_nan_is_nan() -> None:
    assert math.isnan(metrics.perplexity(math.nan))


@pytest.mark.parametrize(("text", "label", "errors"), [
    ("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("abc", "abc", 0),
    ("ab", "ba", 2), ("é", "e", 1), ("😀", "", 1),
    ("e\u0301", "é", 0), ("e\u0301", "è", 1)])
def test_edit_distance(text: str, label: str, errors: int) -> None:
    assert metrics.compare(text, label).errors == errors


@pytest.mark.parametrize(("text", "label", "credit", "exact"), [
    ("ABCD", "ABCD", 1, 1), ("ABCX", "ABCD", .75, 0), ("", "ABCD", 0, 0), ("ABCDE", "ABCD", .75, 0),
    ("WXYZ12", "AB", 0, 0), ("", "", 1, 1), ("A", "", 0, 0), ("a", "A", 0, 0)])
def test_accuracy_is_defined_as_in_the_original(text: str, label: str, credit: float, exact: float
                                                ) -> None:
    compared = metrics.compare(text, label)
    assert compared.accuracy() == pytest.approx(credit)
    assert compared.accuracy(use_distance=False) == exact


@pytest.mark.parametrize(("errors", "characters", "rate"), [
    (0, 10, 0), (3, 12, .25), (20, 10, 2), (0, 0, 0), (4, 0, 1)])
def test_character_error_rate(errors: int, characters: int, rate: float) -> None:
    assert metrics.character_error_rate(errors, characters) == rate


@pytest.mark.parametrize(("text", "label", "expected"), [
    ("", "", 1), ("AB", "AB", 1), ("", "AB", 0), ("AB", "", 0), ("ABCD", "ABC", .75),
    ("ABX", "ABCD", .5)])
def test_one_minus_ned_divides_by_the_length_of_the_longer_text(
        text: str, label: str, expected: float) -> None:
    assert metrics.compare(text, label).one_minus_ned == pytest.approx(expected)


@given(st.text("ab", max_size=6), st.text("ab", max_size=6))
def test_metrics_are_between_0_and_1_and_are_1_for_equal_texts_only(text: str, label: str) -> None:
    compared = metrics.compare(text, label)
    for metric in (compared.accuracy(), compared.one_minus_ned):
        assert 0 <= metric <= 1
        assert (metric == 1) == (text == label)


def test_totals_compare_texts_in_nfc_and_compute_each_distance_once(
        monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, str]] = []

    def levenshtein(text: str, label: str) -> int:
        calls.append((text, label))
        return int(text != label)

    monkeypatch.setattr(distance, "levenshtein", levenshtein)
    totals = metrics.Totals()
    for text, label in (("E\u0301", "É"), ("É", "é"), ("ab", "ac")):
        totals.add(metrics.compare(text, label), loss=1.0)
    assert calls == [("É", "É"), ("É", "é"), ("ab", "ac")]
    summary = totals.summary()
    assert summary["word_accuracy"] == 1 / 3
    assert summary["word_accuracy_ignoring_case"] == 2 / 3
    assert summary["cer"] == 2 / 4
