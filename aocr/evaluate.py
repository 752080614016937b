"""The `test` command: records → recognizer → metrics, lines, pictures."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from aocr import batches, files, metrics, records, skips, visualize
from aocr.charmap import CharMap
from aocr.console import bar, log
from aocr.errors import AocrError, SkipError, reason
from aocr.recognizer import Recognizer, Result
from aocr.records import Index, Record, Skipped

_VERDICTS = ("incorrect", "correct")
_NOTE = "word.txt"


@dataclass(frozen=True)
class Options:
    """How a model is tested.

    Attributes:
        batch_size: Images read at once.
        use_distance: Give edit-distance credit in the original's accuracy.
        json_path: Where the results go as JSON; `None` for nowhere.
        pictures_dir: Where the attention pictures go; `None` for nowhere.
    """

    batch_size: int = 65
    use_distance: bool = True
    json_path: str | None = None
    pictures_dir: str | None = None


@dataclass(frozen=True)
class Row:
    """One image: the truth, what was read, and how good that is."""

    dataset: str
    number: int
    record: Record
    width: int
    result: Result
    loss: float
    accuracy: float
    seconds: float

    @property
    def correct(self) -> bool:
        """Whether every character is right."""
        return self.result.text == self.record.label

    def to_json(self) -> dict[str, object]:
        """The row as plain values."""
        return {"dataset": self.dataset, "record": self.number, "comment": self.record.comment,
                "label": self.record.label, "text": self.result.text, "correct": self.correct,
                "accuracy": self.accuracy, "probability": self.result.probability,
                "loss": self.loss, "characters": [list(one) for one in self.result.characters]}


@dataclass
class Totals:
    """Sums over the rows, from which the rates follow."""

    images: int = 0
    words: int = 0
    words_ignoring_case: int = 0
    errors: int = 0
    characters: int = 0
    one_minus_ned: float = 0.0
    accuracy: float = 0.0
    loss: float = 0.0

    def add(self, text: str, label: str, loss: float, accuracy: float = 0.0) -> None:
        """Counts one more image: what was read, the truth, the original's accuracy."""
        self.images += 1
        self.words += text == label
        self.words_ignoring_case += text.casefold() == label.casefold()
        self.errors += metrics.edit_distance(text, label)
        self.characters += len(label)
        self.one_minus_ned += metrics.one_minus_ned(text, label)
        self.accuracy += accuracy
        self.loss += loss

    def summary(self) -> dict[str, Any]:
        """The rates, 0…1, except loss and perplexity."""
        loss = self.loss / self.images
        return {
            "images": self.images,
            "word_accuracy": self.words / self.images,
            "word_accuracy_ignoring_case": self.words_ignoring_case / self.images,
            "cer": metrics.character_error_rate(self.errors, self.characters),
            "one_minus_ned": self.one_minus_ned / self.images,
            "accuracy": self.accuracy / self.images,
            "loss": loss, "perplexity": metrics.perplexity(loss)}


def evaluate(patterns: Sequence[str], recognizer: Recognizer, options: Options) -> dict[str, Any]:
    """Tests a model, and logs a line an image in the original's words and a table at the end.

    Args:
        patterns: Names or globs of TFRecords files.
        recognizer: The model, restored from checkpoints.
        options: How.

    Returns:
        The summary: images, skipped, rates, loss, perplexity, images a second.

    Raises:
        AocrError: No image can be used, or a result cannot be written.
    """
    reader = recognizer.reader
    if reader is None:
        raise AocrError("an exported model cannot be tested; --model-dir names a folder of "
                        "checkpoints")
    characters = CharMap(reader.config.alphabet)
    index = records.index(records.find(patterns), reader.config, characters, reader.max_pixels)
    skips.require_some(len(index), index.skipped)
    if options.json_path is not None:
        _require_place(options.json_path)
    if options.pictures_dir is not None:
        with _writing_pictures(options.pictures_dir):
            _clear_pictures(options.pictures_dir)
    run = _Run(recognizer, index, options)
    plan = batches.in_order(index, options.batch_size)
    data = batches.load(index, plan, characters, reader.config)
    with bar(total=len(index), unit="image") as progress:
        for numbers, batch in zip(plan, batches.each(data), strict=False):
            run.take(numbers, batch)
            progress.update(len(numbers))
    skips.report(run.skipped, run.totals.images)
    skips.require_some(run.totals.images, run.skipped)
    summary = run.summary()
    for told in table(summary):
        log.info(told)
    if options.json_path is not None:
        _write_json(options.json_path, {"summary": summary, "images": run.rows, "skipped": [
            skip._asdict() for skip in run.skipped]})
    return summary


@dataclass
class _Run:
    """Brings the rows of batches of like widths back into the records' order."""

    recognizer: Recognizer
    index: Index
    options: Options
    totals: Totals = field(default_factory=Totals)
    rows: list[dict[str, object]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    waiting: dict[int, Row | None] = field(default_factory=dict)
    next: int = 0
    begun: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.skipped = list(self.index.skipped)

    def take(self, numbers: np.ndarray, batch: batches.Batch) -> None:
        """Reads one batch and tells what is ready to be told."""
        gone = batches.missing(numbers, batch)
        for n, skip in batches.undecodable(self.index, gone).items():
            self.skipped.append(skip)
            self.waiting[n] = None
        if len(batch["records"]):
            self._read(batch)
        self._tell()
        self.begun = time.perf_counter()

    def _read(self, batch: batches.Batch) -> None:
        results = list(self.recognizer.examine(batch, self.options.pictures_dir is not None))
        seconds = time.perf_counter() - self.begun  # since the last batch: loading counts
        self.seconds += seconds
        found = batch["records"].numpy()
        stored = records.read(self.index, found)
        for n, record, (result, loss) in zip(found, stored, results, strict=True):
            self.waiting[int(n)] = self._row(int(n), record, result, loss, seconds / len(found))

    def summary(self) -> dict[str, Any]:
        """Rates, counts and speed."""
        return {**self.totals.summary(), "skipped": len(self.skipped),
                "skipped_by_reason": skips.count(self.skipped),
                "images_per_second": self.totals.images / self.seconds}

    def _row(self, n: int, record: Record, result: Result, loss: float, seconds: float) -> Row:
        accuracy = metrics.accuracy(result.text, record.label, self.options.use_distance)
        return Row(self.index.paths[self.index.file[n]], int(self.index.number[n]), record,
                   int(self.index.width[n]), result, loss, accuracy, seconds)

    def _tell(self) -> None:
        while self.next in self.waiting:
            row = self.waiting.pop(self.next)
            self.next += 1
            if row is not None:
                self._tell_row(row)

    def _tell_row(self, row: Row) -> None:
        self.totals.add(row.result.text, row.record.label, row.loss, row.accuracy)
        log.info(line(self.totals.images, row, self.totals.accuracy / self.totals.images))
        if self.options.json_path is not None:
            self.rows.append(row.to_json())
        if self.options.pictures_dir is not None:
            with _writing_pictures(self.options.pictures_dir):
                _write_pictures(self.options.pictures_dir, self.totals.images, row)


def line(number: int, row: Row, accuracy: float) -> str:
    """One image in the original's words; `accuracy` is the running mean."""
    text, label = row.result.text, row.record.label
    outcome = f"100% ({label})" if row.correct else f"{row.accuracy:4.0%} ({text} vs {label})"
    comment = f" {row.record.comment}" if row.record.comment and not row.correct else ""
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


def _clear_pictures(folder: str) -> None:
    """Removes the pictures of an earlier test, and nothing else."""
    for verdict in _VERDICTS:
        within = tf.io.gfile.join(folder, verdict)
        for name in tf.io.gfile.listdir(within) if tf.io.gfile.isdir(within) else ():
            own = tf.io.gfile.join(within, name.rstrip("/"))
            if tf.io.gfile.exists(tf.io.gfile.join(own, _NOTE)):
                tf.io.gfile.rmtree(own)


def _write_pictures(folder: str, number: int, row: Row) -> None:
    """The pictures of one image, in a folder named by its number in the test."""
    own = tf.io.gfile.join(folder, _VERDICTS[row.correct], f"{number:06}")
    tf.io.gfile.makedirs(own)
    files = {_NOTE: f"{row.result.text}\n{row.record.label}\n".encode()}
    try:
        pictures = visualize.pictures(row.record.image, np.asarray(row.result.attention),
                                      row.width, row.result.text)
        files |= {f"image_{n}.jpg": still for n, still in enumerate(pictures.stills)}
        files["image.gif"] = pictures.animation
    except (SkipError, OSError) as error:  # TensorFlow reads some files that Pillow refuses
        log.warning(f"No picture of record {row.number} of {row.dataset}: {error}")
    for name, content in files.items():
        with tf.io.gfile.GFile(tf.io.gfile.join(own, name), "wb") as file:
            file.write(content)


def _write_json(path: str, content: dict[str, Any]) -> None:
    def finite(value: Any) -> Any:  # noqa: ANN401
        """JSON knows no infinity."""
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, dict):
            return {key: finite(each) for key, each in value.items()}
        return [finite(each) for each in value] if isinstance(value, list) else value

    text = json.dumps(finite(content), ensure_ascii=False, indent=1)
    try:
        files.write(path, text + "\n")
    except tf.errors.OpError as error:
        raise _unwritable(path, reason(error).rsplit("; ", 1)[-1]) from error


def _require_place(path: str) -> None:
    """Refuses, before any image is read, a file of results that cannot be written."""
    folder = os.path.dirname(path)
    if tf.io.gfile.isdir(path):
        raise _unwritable(path, "it is a folder")
    if folder and not files.is_remote(path) and not tf.io.gfile.isdir(folder):
        raise _unwritable(path, f"there is no folder {folder}")


def _unwritable(path: str, problem: str) -> AocrError:
    return AocrError(f"cannot write the results to {path}: {problem}; --json names another file")
