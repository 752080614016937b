"""Calibration of probabilities: its measures, and temperature scaling.

Most functions take the probabilities of predictions, `[images]`, each from 0 to 1, and whether each
prediction is correct, `[images]`; there must be at least one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

BINS = 15
REQUIRED_ACCURACIES = (0.99, 0.999)  # of the predictions that are accepted unchecked
TEMPERATURES = 2.0 ** np.linspace(-2, 3, 61)  # 0.25 to 8; 1 is one of them
_THRESHOLD_STEPS = 1_000_000  # thresholds have six decimals, so that they are printed exactly
_LEAST_DOUBT = 1e-12  # 1 - probability, so that its logarithm is finite


class ReliabilityBin(NamedTuple):
    """The predictions whose probability is in one interval; a reliability diagram shows all.

    Attributes:
        lower: Lower bound, which belongs to the interval before, except for 0.
        upper: Upper bound, which belongs to the interval.
        images: Number of predictions.
        probability: Their mean probability; 0 if there is none.
        accuracy: Share of them that is correct; 0 if there is none.
    """

    lower: float
    upper: float
    images: int
    probability: float
    accuracy: float


class Acceptance(NamedTuple):
    """The predictions that can be accepted unchecked, for a required accuracy.

    Attributes:
        share: Share of all predictions that is accepted.
        threshold: Predictions with at least this probability are accepted; a number with six
            decimals, or `None` for none.
        accuracy: Share of the accepted that is correct; 1 if there is none.
    """

    share: float
    threshold: float | None
    accuracy: float


def reliability(probabilities: npt.ArrayLike, correct: npt.ArrayLike) -> list[ReliabilityBin]:
    """Returns `BINS` intervals of equal width from 0 to 1 with their predictions."""
    values, hits = _arrays(probabilities, correct)
    edges = np.linspace(0, 1, BINS + 1)
    numbers = np.clip(np.searchsorted(edges, values) - 1, 0, BINS - 1)
    images, sums, right = (np.bincount(numbers, weights, BINS) for weights in (None, values, hits))
    counts = np.maximum(images, 1)
    columns = edges[:-1], edges[1:], images, sums / counts, right / counts
    return [ReliabilityBin(*row) for row in zip(
        *(column.tolist() for column in columns), strict=True)]


def expected_calibration_error(probabilities: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Returns the expected calibration error (ECE), from 0 to 1.

    It is the mean, over all predictions, of the difference between the mean probability and the
    accuracy of the interval that a prediction is in.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks"
    (https://arxiv.org/abs/1706.04599).
    """
    gaps = [part.images * abs(part.probability - part.accuracy)
            for part in reliability(probabilities, correct)]
    return sum(gaps) / np.size(probabilities)


def acceptance(probabilities: npt.ArrayLike, correct: npt.ArrayLike, accuracy: float
               ) -> Acceptance:
    """Returns the most predictions that can be accepted by a threshold on their probability.

    Thresholds of more than six decimals are not considered: one that is rounded afterwards would
    accept other predictions.

    Args:
        probabilities: See the module.
        correct: See the module.
        accuracy: The share of the accepted predictions that must be correct, such as 0.99.
    """
    values, hits = _arrays(probabilities, correct)
    values = _rounded_down(values)
    order = np.argsort(-values, kind="stable")
    values, hits = values[order], hits[order]
    rates = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    # A threshold accepts all predictions of equal rounded probability, or none of them.
    last_of_equals = np.append(values[1:] < values[:-1], True)
    allowed = np.flatnonzero(last_of_equals & (rates >= accuracy))
    if not len(allowed):
        return Acceptance(0.0, None, 1.0)
    last = int(allowed[-1])
    return Acceptance((last + 1) / len(values), float(values[last]), float(rates[last]))


def summary(probabilities: npt.ArrayLike, correct: npt.ArrayLike) -> dict[str, Any]:
    """Returns the calibration error, and the acceptance for each of `REQUIRED_ACCURACIES`."""
    return {"ece": expected_calibration_error(probabilities, correct),
            "acceptance": [
                {"required_accuracy": required,
                 **acceptance(probabilities, correct, required)._asdict()}
                for required in REQUIRED_ACCURACIES]}


def temperature_sums(log_probabilities: np.ndarray, correct: npt.ArrayLike) -> np.ndarray:
    """Returns sums over predictions from which `best_temperature` computes its loss.

    The sums of several sets of predictions may be added.

    Args:
        log_probabilities: `[temperatures, images]`, logarithms of the probabilities of the
            predictions for each of `TEMPERATURES`.
        correct: See the module.

    Returns:
        `[2, 2, temperatures]`: for wrong and correct predictions, the sums of log(p) and of
        log(1 - p).
    """
    hits = np.asarray(correct, bool)
    doubts = np.log(np.maximum(-np.expm1(log_probabilities), _LEAST_DOUBT))
    return np.array([[values[:, chosen].sum(1) for values in (log_probabilities, doubts)]
                     for chosen in (~hits, hits)])


def best_temperature(sums: np.ndarray, images: float, correct: float) -> float:
    """Returns the temperature whose probabilities best predict which texts are correct.

    It minimizes the cross-entropy between the probability of a text and whether the text is
    correct. The targets are not exactly 0 and 1: otherwise a few predictions that are all correct
    would make every probability 1.

    Sources: Guo et al. 2017, "On Calibration of Modern Neural Networks", for the temperature;
    Platt 1999, "Probabilistic Outputs for Support Vector Machines", for the targets.

    Args:
        sums: See `temperature_sums`.
        images: Number of predictions.
        correct: Number of correct predictions.
    """
    targets = np.array([1 / (images - correct + 2), (correct + 1) / (correct + 2)])
    weights = np.stack([targets, 1 - targets], 1)
    losses = -np.tensordot(weights, sums, 2)
    return round(float(TEMPERATURES[np.argmin(losses)]), 4)


def _rounded_down(values: np.ndarray) -> np.ndarray:
    """Returns the largest numbers with six decimals that are not above the values."""
    steps = np.floor(values * _THRESHOLD_STEPS)
    steps -= steps / _THRESHOLD_STEPS > values  # where the product was rounded up to an integer
    return steps / _THRESHOLD_STEPS


def _arrays(probabilities: npt.ArrayLike, correct: npt.ArrayLike
            ) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(probabilities, np.float64), np.asarray(correct, np.float64)
