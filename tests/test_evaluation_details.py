"""Details of an evaluation: confusions, the worst images, their tables and training curves."""

from __future__ import annotations

import io
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aocr.evaluation import gallery, html_report, terminal, training_curves
from aocr.evaluation.details import Details
from aocr.evaluation.metrics import compare
from aocr.evaluation.report import EvaluationRow
from aocr.inference.recognizer import Result
from aocr.tokenizer import normalize
from aocr.training.tensorboard import EventFile


def _details(*images: tuple[str, str, float], worst: int = 10) -> Details:
    """Returns the details of images, each as prediction, label and probability."""
    details = Details(worst, worst)
    for n, (text, label, probability) in enumerate(images):
        result = Result(text, probability, (), None, 32)
        details.add(n, EvaluationRow("a.tfrecords", n + 1, "", 32, result, compare(text, label),
                                     0.5, 0.0, 0.0))
    return details


def test_confusions_and_characters_are_counted() -> None:
    details = _details(("100", "188", .9), ("18", "18", .8), ("m", "rn", .7), ("0", "8", .6))
    assert details.confusions == {("0", "8"): 3, ("m", "rn"): 1}
    assert details.characters == {"1": 2, "8": 4, "r": 1, "n": 1}
    assert details.misread == {"8": 3, "r": 1, "n": 1}
    np.testing.assert_array_equal(details.errors, [2, 0, 2, 1])
    np.testing.assert_array_equal(details.lengths, [3, 2, 2, 1])
    np.testing.assert_array_equal(details.probabilities, [.9, .8, .7, .6])


def test_the_worst_images_have_most_errors_and_then_the_highest_probability() -> None:
    details = _details(("a", "b", .9), ("", "abc", .1), ("ok", "ok", 1), ("xy", "ab", .2),
                       ("x", "ab", .5), ("c", "d", .8), worst=4)
    assert [image.position for image in details.worst()] == [1, 4, 3, 0]
    assert [image.row.label for image in details.worst()] == ["abc", "ab", "ab", "b"]
    assert [image.row.result.text for image in details.worst()][1:3] == ["x", "xy"]


def test_texts_are_compared_with_labels_in_nfc() -> None:
    details = _details(("e\u0301", "é", .9), ("ae\u0301", "aè", .8))
    assert details.confusions == {("é", "è"): 1}
    np.testing.assert_array_equal(details.errors, [0, 1])


def test_a_result_in_nfc_has_a_probability_and_attention_for_each_character() -> None:
    text = "xe\u0301y\u0958"  # é is composed, and U+0958 has two characters in NFC
    probabilities = (.5, .8, .4, .9, .7)
    result = Result(text, .1, tuple(zip(text, probabilities, strict=True)),
                    np.eye(5, dtype=np.float32), 20)
    composed = gallery.in_nfc(result)
    assert composed.text == "xéy\u0915\u093c"
    assert [character for character, _ in composed.characters] == list(composed.text)
    assert [value for _, value in composed.characters] == pytest.approx([.5, .32, .9, .7, .7])
    np.testing.assert_array_equal(composed.attention, [
        [1, 0, 0, 0, 0], [0, .5, .5, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1]])
    assert composed.probability == result.probability


@given(st.text(st.sampled_from("ae\u0301\u0323\u0302\u1100\u1161\u11a8\u0958\u212b"), max_size=8))
def test_parts_of_a_result_make_up_its_text_in_nfc(text: str) -> None:
    result = Result(text, 1.0, tuple((character, 1.0) for character in text), None, 8)
    composed = gallery.in_nfc(result)
    assert "".join(character for character, _ in composed.characters) == composed.text
    assert composed.text == normalize(text)
    assert gallery.in_nfc(composed) == composed


@pytest.mark.parametrize(("most", "expected"), [
    (20, [0, 2, 1]), (2, [0, 2]), (1, [0])])
def test_the_selection_begins_with_the_worst_images(most: int, expected: list[int]) -> None:
    details = _details(("abc", "xyz", .2), ("x", "a", .3), ("xb", "ay", .9),
                       *[(str(n), str(n), .9) for n in range(10)], worst=20)
    chosen = [image.position for image in gallery.select(details, most)]
    assert chosen[:len(expected)] == expected
    assert len(chosen) == len(set(chosen)) == min(most, 13)


def test_a_tenth_of_the_selection_is_for_correct_images() -> None:
    details = _details(*[("x", "a", .3)] * 50, *[("b", "b", .9)] * 50, worst=30)
    assert sum(image.row.correct for image in gallery.select(details, 30)) == 3


def test_the_sample_of_correct_images_is_from_all_of_them() -> None:
    details = _details(*[("b", "b", .9)] * 1000, worst=200)
    positions = [image.position for image in details.correct]
    assert len(positions) == len(set(positions)) == 200
    # 500 +- 4 standard deviations of the mean of 200 out of 1000
    assert abs(np.mean(positions) - 499.5) < 4 * 289 / math.sqrt(200)
    chosen = [image.position for image in gallery.select(details, 50)]
    assert abs(np.mean(chosen) - 499.5) < 4 * 289 / math.sqrt(50)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_tables_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "100")
    terminal.show(_details(("1\x1b[2J0", "1[2J8", .25), ("[red]", "[bold]", .5), ("ok", "ok", .9)))
    printed = re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue())  # without colors
    assert "\x1b" not in printed
    lines = [line.split() for line in printed.splitlines()]
    assert ["3", "50.0%", "[red]", "[bold]", "record", "2"] in lines
    assert ["2", "25.0%", "1U+001B[2J0", "1[2J8", "record", "1"] in lines
    assert ["1", "0", "8"] in lines
    assert ["1", "U+001B", "∅"] in lines


def test_nothing_is_printed_where_every_image_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    terminal.show(_details(("ok", "ok", .9)))
    assert stream.getvalue() == ""


def test_scalars_of_several_trainings_are_joined(
        tmp_path: Path, logged: list[str]) -> None:
    for start, loss in ((1, 2.0), (3, 1.0)):
        with EventFile(str(tmp_path)) as events:
            for step in range(start, start + 4):
                events.scalars(step, {"loss": loss, "validation/cer": float("nan")})
    assert training_curves.read_scalars(str(tmp_path)) == {
        "loss": [(1, 2), (2, 2), (3, 1), (4, 1), (5, 1), (6, 1)]}
    last = sorted(tmp_path.iterdir())[-1]
    last.write_bytes(last.read_bytes()[:-5])
    assert training_curves.read_scalars(str(tmp_path))["loss"][-1] == (5, 1)
    assert logged == [f"The training curves lack the end of {last}, which is damaged."]
    with EventFile(str(tmp_path)) as events:  # of a new run
        events.scalars(1, {"loss": 3})
    assert training_curves.read_scalars(str(tmp_path)) == {"loss": [(1, 3)]}
    unreadable = tmp_path / "events.out.tfevents.9"
    unreadable.mkdir()
    assert training_curves.read_scalars(str(tmp_path)) == {"loss": [(1, 3)]}
    assert logged[-1] == f"The training curves lack {unreadable}: {unreadable}; Is a directory"


@pytest.mark.parametrize("directory", [".", ".."])
def test_curves_are_found_beside_a_model_and_above_a_directory_of_best_weights(
        tmp_path: Path, directory: str) -> None:
    best = tmp_path / "best"
    best.mkdir()
    with EventFile(str(best / directory)) as events:
        events.scalars(1, {"loss": 2})
    assert html_report._training(f"{best}/model.ckpt-1")["losses"] is not None


def test_a_model_without_event_files_has_no_curves(tmp_path: Path) -> None:
    assert training_curves.read_scalars(str(tmp_path)) == {}
