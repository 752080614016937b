"""Evaluation results as log lines, as a table and as JSON."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from aocr.errors import AocrError, reason
from aocr.evaluation import metrics
from aocr.inference.recognizer import Result
from aocr.runtime import filesystem, json_text
from aocr.runtime.console import printable

JSON_FLAG = "--json"
REPORT_FLAG = "--report"


@dataclass(frozen=True)
class EvaluationRow:
    """Label, prediction and metrics of one image.

    Attributes:
        dataset: Path of the TFRecords file.
        number: Number of the record in the file, from 1.
        comment: The comment of the record, which may be empty.
        width: Width of the image in the network's input, in pixels.
        result: The prediction.
        compared: Its text in NFC, compared with the label.
        loss: Teacher-forced loss.
        accuracy: The original's accuracy, from 0 to 1.
        seconds: Time that the image took, as a share of its batch.
    """

    dataset: str
    number: int
    comment: str
    width: int
    result: Result
    compared: metrics.Comparison
    loss: float
    accuracy: float
    seconds: float

    @property
    def label(self) -> str:
        """The label."""
        return self.compared.label

    @property
    def correct(self) -> bool:
        """Whether the prediction equals the label."""
        return self.compared.correct

    def to_json(self) -> dict[str, object]:
        """Returns the row as JSON-serializable values."""
        row = {"dataset": self.dataset, "record": self.number, "comment": self.comment,
               "label": self.label, "text": self.result.text, "correct": self.correct,
               "accuracy": self.accuracy, "probability": self.result.probability,
               "loss": self.loss,
               "characters": [list(character) for character in self.result.characters]}
        if self.result.candidates:
            row["candidates"] = [list(candidate) for candidate in self.result.candidates]
        return row


def line(number: int, row: EvaluationRow, accuracy: float) -> str:
    """Returns the log line of one image, in the form of the original aocr.

    Control characters are escaped.

    Args:
        number: Number of the image in the evaluation, from 1.
        row: Its results.
        accuracy: Mean accuracy of the images up to this one.
    """
    text, label, remark = (printable(part) for part in (row.result.text, row.label, row.comment))
    outcome = f"100% ({label})" if row.correct else f"{row.accuracy:4.0%} ({text} vs {label})"
    comment = f" {remark}" if remark and not row.correct else ""
    return (f"Step {number} ({row.seconds:.3f}s). Accuracy: {accuracy:6.2%}, "
            f"loss: {row.loss:f}, perplexity: {_six_digits(metrics.perplexity(row.loss))}, "
            f"probability: {row.result.probability:6.2%} {outcome}{comment}")


def _six_digits(number: float) -> str:
    """Returns six significant digits with trailing zeros, as 1.50000.

    Numbers in exponential notation, infinity and NaN are not padded.
    """
    text = f"{number:.6}"
    return text if "e" in text or "inf" in text or "nan" in text else f"{text:0<7}"


def table(summary: dict[str, Any]) -> list[str]:
    """Returns the lines of a table of the metrics."""
    rows = [
        ("images", f"{summary['images']}"), ("skipped", f"{summary['skipped']}"),
        ("word accuracy", f"{summary['word_accuracy']:.2%}"),
        ("  ignoring case", f"{summary['word_accuracy_ignoring_case']:.2%}"),
        ("CER", f"{summary['cer']:.2%}"), ("1-NED", f"{summary['one_minus_ned']:.2%}"),
        (f"accuracy ({'edit credit' if summary['edit_credit'] else 'exact'})",
         f"{summary['accuracy']:.2%}"),
        ("loss", f"{summary['loss']:.6f}"), ("perplexity", f"{summary['perplexity']:.6g}"),
        ("ECE", f"{summary['ece']:.2%}"), *_acceptance_rows(summary["acceptance"]),
        ("images/s", f"{summary['images_per_second']:.1f}")]
    return [f"{name:<24}{value:>12}" for name, value in rows]


def _acceptance_rows(acceptance: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for part in acceptance:
        yield f"accepted at {part['required_accuracy'] * 100:g} %", f"{part['share']:.2%}"
        if part["threshold"] is not None:
            yield "  from probability", f"{part['threshold']:.6f}"


def write_json(path: str, content: dict[str, Any]) -> None:
    """Writes results as JSON, with `null` for numbers that are not finite.

    Raises:
        AocrError: The file cannot be written.
    """
    write_text(path, json_text.dumps(content, indent=1) + "\n", JSON_FLAG)


def write_text(path: str, text: str, flag: str) -> None:
    """Writes a results file, which `flag` has named.

    Raises:
        AocrError: The file cannot be written.
    """
    try:
        filesystem.write(path, text)
    except tf.errors.OpError as error:
        raise _unwritable(path, reason(error).rsplit("; ", 1)[-1], flag) from error


def require_writable(datasets: Sequence[str], json_path: str | None, report_path: str | None
                     ) -> None:
    """Checks, before any image is read, that the results can be written.

    Args:
        datasets: Paths of the TFRecords files.
        json_path: The file of `--json`, if there is one.
        report_path: The file of `--report`, if there is one.

    Raises:
        AocrError: A path is a directory, its directory does not exist, or both flags or a dataset
            have the same path.
    """
    named = dict.fromkeys(map(_resolved, datasets), "a dataset")
    for path, flag in ((json_path, JSON_FLAG), (report_path, REPORT_FLAG)):
        if path is None:
            continue
        other = named.setdefault(_resolved(path), flag)
        if other != flag:
            raise AocrError(f"{other} and {flag} both name {path}; give each a file of its own")
        _require_place(path, flag)


def _require_place(path: str, flag: str) -> None:
    """Checks that a results file, which `flag` names, can be in its directory."""
    directory = os.path.dirname(path)
    if tf.io.gfile.isdir(path):
        raise _unwritable(path, "it is a directory", flag)
    if directory and not filesystem.is_remote(path) and not tf.io.gfile.isdir(directory):
        raise _unwritable(path, f"there is no directory {directory}", flag)


def _resolved(path: str) -> str:
    """Returns a path that is equal for all names of a local file, and a remote path as it is."""
    return path if filesystem.is_remote(path) else os.path.realpath(path)


def _unwritable(path: str, problem: str, flag: str) -> AocrError:
    return AocrError(f"cannot write the results to {path}: {problem}; {flag} chooses another file")
