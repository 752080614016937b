"""Calibration measures, against examples computed by hand and a search over all thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aocr.evaluation import calibration

PREDICTIONS = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 0.99, 1.0]),
                                 st.booleans()), min_size=1, max_size=12)


def test_ece_is_the_weighted_gap_between_probability_and_accuracy() -> None:
    probabilities = [0.95, 0.98, 0.98, 0.45, 0.5, 0.1]
    correct = [True, True, False, True, False, False]
    # Bins of width 1/15: {.95, .98, .98} is (14/15, 1], {.45} (6/15, 7/15], {.5} (7/15, 8/15],
    # {.1} (1/15, 2/15].
    gaps = [3 * abs(2.91 / 3 - 2 / 3), abs(0.45 - 1), abs(0.5 - 0), abs(0.1 - 0)]
    assert calibration.expected_calibration_error(probabilities, correct) == pytest.approx(
        sum(gaps) / 6)


def test_ece_of_certain_and_correct_predictions_is_zero() -> None:
    assert calibration.expected_calibration_error([1.0, 1.0, 0.0], [True, True, False]) == 0


@given(PREDICTIONS)
def test_bins_contain_every_prediction_once(predictions: list[tuple[float, bool]]) -> None:
    probabilities, correct = zip(*predictions, strict=True)
    bins = calibration.reliability(probabilities, correct)
    assert len(bins) == calibration.BINS
    for part in bins:
        members = [hit for value, hit in predictions
                   if part.lower < value <= part.upper or value == part.lower == 0]
        assert part.images == len(members)
        assert part.accuracy == pytest.approx(np.mean(members) if members else 0)
    assert sum(part.images * part.probability for part in bins) == pytest.approx(
        sum(probabilities))


def test_acceptance_of_known_predictions() -> None:
    probabilities = [0.9, 0.8, 0.7, 0.6, 0.5]
    correct = [True, True, False, True, True]
    assert calibration.acceptance(probabilities, correct, 0.99) == (0.4, 0.8, 1.0)
    assert calibration.acceptance(probabilities, correct, 0.8) == (1.0, 0.5, 0.8)


def test_nothing_is_accepted_if_the_most_probable_prediction_is_wrong() -> None:
    assert calibration.acceptance([0.9, 0.1], [False, True], 0.99) == (0.0, None, 1.0)


@given(PREDICTIONS, st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_no_other_threshold_accepts_more(predictions: list[tuple[float, bool]], accuracy: float
                                         ) -> None:
    probabilities, correct = zip(*predictions, strict=True)
    result = calibration.acceptance(probabilities, correct, accuracy)
    most = 0
    for threshold in probabilities:
        accepted = [hit for value, hit in predictions if value >= threshold]
        if np.mean(accepted) >= accuracy:
            most = max(most, len(accepted))
    assert result.share == most / len(predictions)
    accepted = [hit for value, hit in predictions
                if result.threshold is not None and value >= result.threshold]
    assert len(accepted) == most
    assert result.accuracy == (np.mean(accepted) if accepted else 1.0)
