"""Calibration measures, against examples computed by hand and a search over all thresholds."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from aocr.checkpoints import config_file, loader, warm_start
from aocr.checkpoints.choice import DEFAULT_CHOICE, CheckpointChoice
from aocr.checkpoints.saver import CheckpointSaver, Saved
from aocr.cli.main import main
from aocr.config import ModelConfig
from aocr.data.index import build_index
from aocr.errors import AocrError
from aocr.evaluation import calibration
from aocr.inference.decoding import make_decoding
from aocr.inference.graph import RecognitionGraph
from aocr.inference.options import DecodingOptions
from aocr.inference.recognizer import Result
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer
from aocr.model import AttentionOCR
from aocr.runtime.distributed import Cluster
from aocr.tokenizer import EOS_ID, Tokenizer
from aocr.training.validation import Validator
from tests import reference, reference_decoding
from tests.conftest import WORDS, Command, World, messages

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


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1))
def test_a_threshold_as_it_is_printed_accepts_the_share_with_the_accuracy(
        predictions: list[tuple[float, bool]]) -> None:
    probabilities, correct = zip(*predictions, strict=True)
    result = calibration.acceptance(probabilities, correct, 0.75)
    if result.threshold is not None:
        accepted = [hit for value, hit in predictions if value >= float(f"{result.threshold:.6f}")]
        assert result.share == len(accepted) / len(predictions)
        assert result.accuracy == np.mean(accepted) >= 0.75


def test_a_threshold_is_not_between_two_numbers_of_six_decimals() -> None:
    probabilities = [1 - 2e-8] * 900 + [1 - 3e-7] * 50 + [0.5] * 50
    correct = [True] * 900 + [False] * 100
    assert calibration.acceptance(probabilities, correct, 0.999) == (0.0, None, 1.0)
    assert calibration.acceptance(probabilities, correct, 0.94) == (0.95, 0.999999, 900 / 950)


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


# Temperature


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Returns those of the most probable of several answers, `[temperatures, images]`."""
    scaled = logits / calibration.TEMPERATURES[:, None, None]
    return scaled.max(-1) - np.log(np.exp(scaled).sum(-1))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_temperature_of_simulated_predictions_is_found(temperature: float) -> None:
    rng = np.random.default_rng(0)
    values = log_probabilities(rng.normal(scale=3, size=[20_000, 4]))
    true = int(np.argmin(np.abs(calibration.TEMPERATURES - temperature)))
    correct = rng.random(20_000) < np.exp(values[true])
    sums = sum(calibration.temperature_sums(values[:, part], correct[part])
               for part in (slice(0, 7000), slice(7000, None)))
    best = calibration.best_temperature(np.asarray(sums), 20_000, correct.sum())
    assert best == pytest.approx(temperature, rel=0.13)
    chosen = np.exp(values[int(np.argmin(np.abs(calibration.TEMPERATURES - best)))])
    assert calibration.expected_calibration_error(chosen, correct) < 0.02


def test_a_few_correct_predictions_do_not_make_every_probability_1() -> None:
    values = log_probabilities(np.random.default_rng(0).normal(scale=3, size=[8, 4]))
    sums = calibration.temperature_sums(values, np.ones(8, bool))
    best = calibration.best_temperature(sums, 8, 8)
    assert best > calibration.TEMPERATURES[0]
    chosen = np.exp(values[int(np.argmin(np.abs(calibration.TEMPERATURES - best)))])
    assert chosen.mean() == pytest.approx(9 / 10, abs=0.06)


def test_certain_predictions_have_a_finite_loss() -> None:
    sums = calibration.temperature_sums(np.zeros([61, 2]), np.array([True, False]))
    assert np.isfinite(sums).all()
    assert calibration.best_temperature(sums, 2, 1) in calibration.TEMPERATURES


def test_probabilities_are_those_of_logits_divided_by_the_temperature() -> None:
    config = ModelConfig(alphabet="AB", max_prediction=3, attn_num_hidden=4, temperature=2.5)
    model = AttentionOCR(config)
    images, widths = tf.random.stateless_normal([3, 32, 40, 1], [1, 2]), tf.constant([40, 20, 9])
    decoded = model.greedy(model.encode(images, widths))
    expected = [reference_decoding.probability(logits / 2.5) for logits in decoded.logits.numpy()]
    graph = RecognitionGraph(config, model)
    np.testing.assert_allclose(graph.read_images(images, widths).probability, expected, rtol=1e-5)
    batch = graph.validate(images, widths, tf.constant([[3, 2]] * 3), np.array([1.0, 2.5]))
    np.testing.assert_allclose(np.exp(batch.log_probabilities[1]), expected, rtol=1e-5)
    plain = RecognitionGraph(dataclasses.replace(config, temperature=1.0), model)
    np.testing.assert_allclose(np.exp(batch.log_probabilities[0]),
                               plain.read_images(images, widths).probability, rtol=1e-5)
    searched = RecognitionGraph(config, model, decoding=make_decoding(
        DecodingOptions(pattern="[AB]{0,3}"), config, Tokenizer("AB"))).read_images(images, widths)
    for logits, ids, probability in zip(decoded.logits.numpy(), decoded.ids.numpy(),
                                        searched.probability.numpy(), strict=True):
        if ids[0] == EOS_ID:
            assert probability == pytest.approx(reference.softmax(logits[0] / 2.5)[EOS_ID])


@pytest.mark.parametrize("temperature", [0, -1.0, float("inf"), float("nan"), True, "1"])
def test_a_temperature_is_a_positive_number(temperature: Any) -> None:
    with pytest.raises(AocrError, match="temperature must be a number above 0"):
        ModelConfig(temperature=temperature)


def test_a_config_without_a_temperature_is_read_as_1(tmp_path: Path) -> None:
    content = json.loads(config_file.to_text(ModelConfig(temperature=3.0)))
    assert content["model"].pop("temperature") == 3.0
    (tmp_path / "config.json").write_text(json.dumps(content), encoding="utf-8")
    assert config_file.load(str(tmp_path)).temperature == 1.0


def test_validation_fits_the_temperature_on_several_batches(world: World) -> None:
    recognizer = CheckpointRecognizer.load(world.model_dir)
    graph = recognizer.graph
    index = build_index([str(world.records)], graph.config, graph.tokenizer, graph.max_pixels)
    scores = Validator(index, graph, 3, Cluster(tf.distribute.get_strategy())).run()
    results = recognizer.predict(world.images)
    assert isinstance(results, list)
    correct = np.array([result.text == word
                        for result, word in zip(results, WORDS, strict=True)])
    values = []
    for temperature in calibration.TEMPERATURES[::20]:
        config = dataclasses.replace(graph.config, temperature=float(temperature))
        other = CheckpointRecognizer("", RecognitionGraph(config, graph.model))
        values.append([np.log(result.probability) for result in other.predict_each(world.images)
                       if isinstance(result, Result)])
    sums = np.full([2, 2, 61], -1e9)
    sums[:, :, ::20] = calibration.temperature_sums(np.array(values), correct)
    best = calibration.best_temperature(sums, len(correct), correct.sum())
    assert scores is not None
    assert scores.word_accuracy == correct.mean()
    assert abs(np.log2(scores.temperature / best)) <= 20 / 12
    assert scores.scalars()["validation/temperature"] == scores.temperature


def test_a_request_to_stop_ends_a_validation(world: World) -> None:
    graph = CheckpointRecognizer.load(world.model_dir).graph
    index = build_index([str(world.records)], graph.config, graph.tokenizer, graph.max_pixels)
    cluster, requests = Cluster(tf.distribute.get_strategy()), iter([False, True, True])
    assert Validator(index, graph, 3, cluster, lambda: next(requests)).run() is None


def test_checkpoints_record_the_temperature(world: World, tmp_path: Path) -> None:
    loaded = loader.load(str(world.model_dir))
    config_file.save(str(tmp_path), loaded.config)
    weights = tf.train.Checkpoint(model=loaded.model)
    saved = Saved(weights, weights, tf.Variable(3, dtype=tf.int64), lambda: True, str)
    saver = CheckpointSaver(saved, str(tmp_path), loaded.config, 1)
    saver.save()
    assert config_file.load(str(tmp_path)) == loaded.config
    saver.calibrate(1.5)
    saver.save_best()
    saver.save()
    calibrated = dataclasses.replace(loaded.config, temperature=1.5)
    assert config_file.load(str(tmp_path)) == calibrated
    assert config_file.load(str(tmp_path / "best")) == calibrated
    _, config = warm_start.load(str(tmp_path), {}, DEFAULT_CHOICE)
    assert config == loaded.config


def test_each_checkpoint_has_its_own_temperature(world: World, tmp_path: Path) -> None:
    loaded = loader.load(str(world.model_dir))
    config_file.save(str(tmp_path), loaded.config)
    weights, step = tf.train.Checkpoint(model=loaded.model), tf.Variable(3, dtype=tf.int64)
    saver = CheckpointSaver(Saved(weights, weights, step, lambda: True, str), str(tmp_path),
                            loaded.config, 2)
    saver.calibrate(1.5)
    saver.save_best()
    step.assign(4)
    saver.calibrate(0.75)
    saver.save()
    for which, temperature in ((None, 1.5), ("best", 1.5), ("latest", 0.75)):
        choice = CheckpointChoice(which=which)
        assert loader.load(str(tmp_path), choice=choice).config.temperature == temperature


# Commands


def test_test_reports_calibration(world: World, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    code, logged = command("test", world.records, "--json", path)
    assert code == 0
    content = json.loads(path.read_text("utf-8"))
    probabilities, correct = zip(*((row["probability"], row["correct"])
                                   for row in content["images"]), strict=True)
    ece = calibration.expected_calibration_error(probabilities, correct)
    assert content["summary"]["ece"] == pytest.approx(ece)
    assert [part["required_accuracy"] for part in content["summary"]["acceptance"]] == [0.99, 0.999]
    table = [line.split() for line in messages(logged)]
    assert ["ECE", f"{ece:.2%}"] in table
    assert ["accepted", "at", "99", "%"] in [words[:4] for words in table]


def test_predict_marks_results_below_a_probability(
        world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [str(path) for path in world.images[:4]]
    rest = ["--model-dir", str(world.model_dir), "--log-path", str(tmp_path / "log")]
    assert main(["predict", *names, *rest, "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert not any("accepted" in row for row in rows)
    least = sorted(row["probability"] for row in rows)[2]
    expected = [row["probability"] >= least for row in rows]
    marks = ["OK" if accepted else "LOW" for accepted in expected]
    flags = ["--min-probability", repr(least)]
    assert main(["predict", *names, *rest, *flags, "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["accepted"] for row in rows] == expected
    assert main(["predict", *names, *rest, *flags, "--format", "tsv"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [(len(fields), fields[3]) for fields in lines] == [(4, mark) for mark in marks]
    assert main(["predict", *names, *rest, *flags]) == 0
    results = re.findall(r"Result: (\w+)\. \d\.\d\d ", capsys.readouterr().err)
    assert results == marks


@pytest.mark.parametrize("value", ["-0.1", "1.5", "nan", "x"])
def test_a_minimum_probability_is_from_0_to_1(
        value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["predict", "a.png", "--min-probability", value])
    assert "--min-probability" in capsys.readouterr().err
