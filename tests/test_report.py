"""Log lines of an evaluation, and the files that it writes to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aocr.errors import AocrError
from aocr.evaluation import report
from aocr.evaluation.metrics import compare
from aocr.evaluation.report import EvaluationRow
from aocr.inference.recognizer import Result


def _line(text: str, label: str, comment: str = "") -> str:
    return report.line(3, _row(text, label, comment), 0.75)


def _row(text: str, label: str, comment: str = "") -> EvaluationRow:
    return EvaluationRow("a.tfrecords", 1, comment, 32, Result(text, 0.5, (), None, 32),
                         compare(text, label), 1.0, 0.5, 0.25)


def test_a_line_has_the_form_of_the_original() -> None:
    start = ("Step 3 (0.250s). Accuracy: 75.00%, loss: 1.000000, perplexity: 2.71828, "
             "probability: 50.00% ")
    assert _line("\\é n", "\\é n", "a.png") == start + "100% (\\é n)"
    assert _line("a\u200b", "ab", "a b.png") == start + " 50% (a\u200b vs ab) a b.png"


@pytest.mark.parametrize(("text", "label", "end"), [
    ("a\nb", "a\nb", r"100% (a\nb)"),
    ("a\x1b[2J", "a\r", r" 50% (a\x1b[2J vs a\r) c\t.png")])
def test_control_characters_in_a_line_are_escaped(text: str, label: str, end: str) -> None:
    assert _line(text, label, "c\t.png").endswith(f" {end}")


def test_a_row_keeps_the_text_of_the_model() -> None:
    row = _row("e\u0301", "é")
    assert row.correct
    assert (row.to_json()["text"], row.to_json()["correct"]) == ("e\u0301", True)


@pytest.mark.parametrize(("json_path", "report_path", "problem"), [
    ("words.tfrecords", None, "a dataset and --json both name words.tfrecords; give each a file"),
    (None, "d/../words.tfrecords", "a dataset and --report both name d/../words.tfrecords"),
    ("{}/link", None, "a dataset and --json both name"), ("a", "./a", "--json and --report both"),
    ("{}/a", "a", "--json and --report both name a"),
    ("ram://words.tfrecords", None, "a dataset and --json both name ram://words.tfrecords")])
def test_a_file_that_has_two_purposes_is_refused(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, json_path: str | None,
        report_path: str | None, problem: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("d").mkdir()
    Path("link").symlink_to("words.tfrecords")
    datasets = ["other.tfrecords", os.path.abspath("words.tfrecords"), "ram://words.tfrecords"]
    report.require_writable(datasets, "a", "b")
    with pytest.raises(AocrError, match=problem):
        report.require_writable(datasets, json_path and json_path.format(tmp_path), report_path)
