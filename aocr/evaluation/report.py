"""What is told and written of a test: lines, a table, JSON, pictures."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from aocr.errors import AocrError, SkipError, reason
from aocr.evaluation import attention, metrics
from aocr.inference.recognizer import Result
from aocr.runtime import filesystem
from aocr.runtime.console import log

_VERDICTS = ("incorrect", "correct")
_NOTE = "word.txt"


@dataclass(frozen=True)
class EvaluationRow:
    """One image: the truth, what was read, and how good that is."""

    dataset: str
    number: int
    label: str
    comment: str
    width: int
    result: Result
    loss: float
    accuracy: float
    seconds: float

    @property
    def correct(self) -> bool:
        """Whether every character is right."""
        return self.result.text == self.label

    def to_json(self) -> dict[str, object]:
        """The row as plain values."""
        return {"dataset": self.dataset, "record": self.number, "comment": self.comment,
                "label": self.label, "text": self.result.text, "correct": self.correct,
                "accuracy": self.accuracy, "probability": self.result.probability,
                "loss": self.loss, "characters": [list(one) for one in self.result.characters]}


def line(number: int, row: EvaluationRow, accuracy: float) -> str:
    """One image in the original's words; `accuracy` is the running mean."""
    text, label = row.result.text, row.label
    outcome = f"100% ({label})" if row.correct else f"{row.accuracy:4.0%} ({text} vs {label})"
    comment = f" {row.comment}" if row.comment and not row.correct else ""
    return (f"Step {number} ({row.seconds:.3f}s). Accuracy: {accuracy:6.2%}, "
            f"loss: {row.loss:f}, perplexity: {_padded(metrics.perplexity(row.loss))}, "
            f"probability: {row.result.probability:6.2%} {outcome}{comment}")


def _padded(number: float) -> str:
    """Six digits, filled up with zeros: 1.5 → 1.50000; powers of ten and infinity as they are."""
    text = f"{number:.6}"
    return text if "e" in text or "inf" in text or "nan" in text else f"{text:0<7}"


def table(summary: dict[str, Any]) -> list[str]:
    """The summary for people to look at."""
    rows = [
        ("images", f"{summary['images']}"), ("skipped", f"{summary['skipped']}"),
        ("word accuracy", f"{summary['word_accuracy']:.2%}"),
        ("  ignoring case", f"{summary['word_accuracy_ignoring_case']:.2%}"),
        ("CER", f"{summary['cer']:.2%}"), ("1-NED", f"{summary['one_minus_ned']:.2%}"),
        ("accuracy (edit credit)", f"{summary['accuracy']:.2%}"),
        ("loss", f"{summary['loss']:.6f}"), ("perplexity", f"{summary['perplexity']:.6g}"),
        ("images/s", f"{summary['images_per_second']:.1f}")]
    return [f"{name:<24}{value:>12}" for name, value in rows]


@contextmanager
def _writing_pictures(folder: str) -> Iterator[None]:
    try:
        yield
    except tf.errors.OpError as error:
        raise AocrError(f"cannot write pictures to {folder}: {reason(error)}; --output-dir names "
                        "another folder") from error


def clear_pictures(folder: str) -> None:
    """Removes the pictures of an earlier test, and nothing else.

    Raises:
        AocrError: They cannot be removed.
    """
    with _writing_pictures(folder):
        _clear(folder)


def _clear(folder: str) -> None:
    for verdict in _VERDICTS:
        within = tf.io.gfile.join(folder, verdict)
        for name in tf.io.gfile.listdir(within) if tf.io.gfile.isdir(within) else ():
            own = tf.io.gfile.join(within, name.rstrip("/"))
            if tf.io.gfile.exists(tf.io.gfile.join(own, _NOTE)):
                tf.io.gfile.rmtree(own)


def write_pictures(folder: str, number: int, row: EvaluationRow, image: bytes) -> None:
    """The pictures of one image, in a folder named by its number in the test.

    Args:
        folder: Where the folders of all images are.
        number: The image's number in the test.
        row: What was read, with the attention.
        image: The encoded image.

    Raises:
        AocrError: They cannot be written.
    """
    with _writing_pictures(folder):
        _write(folder, number, row, image)


def _write(folder: str, number: int, row: EvaluationRow, image: bytes) -> None:
    own = tf.io.gfile.join(folder, _VERDICTS[row.correct], f"{number:06}")
    tf.io.gfile.makedirs(own)
    parts = {_NOTE: f"{row.result.text}\n{row.label}\n".encode()}
    try:
        pictures = attention.pictures(image, np.asarray(row.result.attention),
                                      row.width, row.result.text)
        parts |= {f"image_{n}.jpg": still for n, still in enumerate(pictures.stills)}
        parts["image.gif"] = pictures.animation
    except (SkipError, OSError) as error:  # TensorFlow reads some files that Pillow refuses
        log.warning(f"No picture of record {row.number} of {row.dataset}: {error}")
    for name, content in parts.items():
        with tf.io.gfile.GFile(tf.io.gfile.join(own, name), "wb") as file:
            file.write(content)


def write_json(path: str, content: dict[str, Any]) -> None:
    """All of the results; what is not finite becomes null.

    Raises:
        AocrError: They cannot be written.
    """
    def finite(value: Any) -> Any:  # noqa: ANN401
        """JSON knows no infinity."""
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, dict):
            return {key: finite(each) for key, each in value.items()}
        return [finite(each) for each in value] if isinstance(value, list) else value

    text = json.dumps(finite(content), ensure_ascii=False, indent=1)
    try:
        filesystem.write(path, text + "\n")
    except tf.errors.OpError as error:
        raise _unwritable(path, reason(error).rsplit("; ", 1)[-1]) from error


def require_place(path: str) -> None:
    """Refuses, before any image is read, a file of results that cannot be written.

    Raises:
        AocrError: It is a folder, or there is no folder for it.
    """
    folder = os.path.dirname(path)
    if tf.io.gfile.isdir(path):
        raise _unwritable(path, "it is a folder")
    if folder and not filesystem.is_remote(path) and not tf.io.gfile.isdir(folder):
        raise _unwritable(path, f"there is no folder {folder}")


def _unwritable(path: str, problem: str) -> AocrError:
    return AocrError(f"cannot write the results to {path}: {problem}; --json names another file")
