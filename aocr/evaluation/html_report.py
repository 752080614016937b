"""The report of `aocr test --report`: one HTML file that needs no network."""

from __future__ import annotations

import base64
import hashlib
import os
import time
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jinja2
import numpy as np

from aocr import __version__
from aocr.config import COLUMN_PIXELS
from aocr.data.index import RecordIndex
from aocr.data.skipping import SkippedRecord
from aocr.evaluation import alignment, calibration, charts, report, training_curves
from aocr.evaluation.alignment import Segment
from aocr.evaluation.characters import code_point, visible
from aocr.evaluation.details import Details
from aocr.evaluation.gallery import GalleryImage
from aocr.evaluation.groups import accuracy_by_value, proportion_interval
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer

_TARGETS = (0.95, 0.99, 0.995, 0.999)  # accuracies of accepted images
_MARKED_TARGET = 0.99
_MOST_GROUPS = 7
_MOST_ROWS = 200  # of a table of confusions, characters or skipped records
_CONFIDENT = 0.9  # probability from which an error may be one of the label
_CERTAIN = 0.995  # probability from which a character is not marked as doubtful
_CARD_QUANTILE = 0.9  # share of the images that are shown at twice their size
_CARD_PADDING = 28
_CARD_WIDTHS = (250, 560)  # smallest and largest, in pixels
_BEST_DIRECTORY = "best"


class Glyph(NamedTuple):
    """A character of a prediction or a label in a card of the gallery.

    Attributes:
        text: The character; empty for a gap, where the other text has more characters.
        wrong: Whether it is part of a confusion.
        code: Its code point, if it would not be seen.
        probability: Its probability if that is low; otherwise `None`.
    """

    text: str
    wrong: bool = False
    code: str = ""
    probability: float | None = None


class Card(NamedTuple):
    """An image of the gallery with its texts aligned.

    Attributes:
        image: The image.
        read: The prediction.
        label: The label; as many glyphs as in `read`.
        errors: Edit distance.
        confusions: Numbers of the confusions in the table of the report.
    """

    image: GalleryImage
    read: list[Glyph]
    label: list[Glyph]
    errors: int
    confusions: list[int]


class CharacterRow(NamedTuple):
    """A character of the labels: how often it occurs and is misread, and as what mostly."""

    character: str
    occurrences: int
    misread: int
    mostly: Segment | None


class Evaluation(NamedTuple):
    """The results that a report shows.

    Attributes:
        summary: The metrics, see `metrics.Totals.summary`.
        skipped: Records that were not used.
        details: The results of the images.
    """

    summary: dict[str, Any]
    skipped: Sequence[SkippedRecord]
    details: Details


def write(path: str, recognizer: CheckpointRecognizer, index: RecordIndex, evaluation: Evaluation,
          images: Sequence[GalleryImage]) -> None:
    """Writes the report.

    Args:
        path: The HTML file.
        recognizer: The model.
        index: The records.
        evaluation: The results.
        images: The images to show.

    Raises:
        AocrError: The file cannot be written.
    """
    page = _environment().get_template("report.html").render(
        **_overview(recognizer, index, evaluation), **_charts(index, evaluation.details),
        **_training(recognizer.source), **_gallery(evaluation.details, images))
    # File names may hold bytes that are not UTF-8.
    encodable = page.encode(errors="backslashreplace").decode()
    report.write_text(path, encodable, report.REPORT_FLAG)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("aocr.evaluation", "html"), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": _percent, "visible": visible}

    assert environment.loader is not None
    style, script = (environment.loader.get_source(environment, name)[0]
                     for name in ("report.css", "report.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals |= {
        "style": style, "script": script, "script_digest": digest, "charts": charts,
        "column_pixels": COLUMN_PIXELS}
    return environment


def _percent(share: float, digits: int = 1) -> str:
    """Returns a share as text; only 0 itself is 0 %, and only 1 itself is 100 %."""
    percent, smallest = share * 100, 10.0 ** -digits
    sign = "<" if 0 < percent < smallest else ">" if 100 - smallest < percent < 100 else ""
    bounded = min(max(percent, smallest), 100 - smallest) if sign else percent
    return f"{sign}{bounded:.{digits}f}\N{NARROW NO-BREAK SPACE}%"


def _overview(recognizer: CheckpointRecognizer, index: RecordIndex, evaluation: Evaluation
              ) -> dict[str, Any]:
    summary, details = evaluation.summary, evaluation.details
    correct = details.errors.count(0)
    return {
        "version": __version__, "date": time.strftime("%Y-%m-%d %H:%M"),
        "source_path": recognizer.source, "config": recognizer.config,
        "paths": [file.path for file in index.files], "summary": summary,
        "correct": correct, "interval": proportion_interval(correct, summary["images"]),
        "errors": sum(details.errors), "label_characters": sum(details.lengths),
        "skipped": evaluation.skipped[:_MOST_ROWS]}


def _charts(index: RecordIndex, details: Details) -> dict[str, Any]:
    positions, lengths, errors, probabilities = map(np.array, (
        details.positions, details.lengths, details.errors, details.probabilities))
    correct = errors == 0
    acceptances = {target: calibration.acceptance(probabilities, correct, target)
                   for target in _TARGETS}
    groups = {"length": accuracy_by_value(lengths, correct, _MOST_GROUPS),
              "width": accuracy_by_value(index.width[positions], correct, _MOST_GROUPS)}
    bars = {name: charts.accuracy_bars(rows) for name, rows in groups.items()}
    marked = acceptances[_MARKED_TARGET]
    return {
        "bars": bars, "acceptances": acceptances, "accepted": marked, "target": _MARKED_TARGET,
        "reliability": charts.reliability_points(calibration.reliability(probabilities, correct)),
        "acceptance_chart": charts.acceptance_chart(
            probabilities, correct, marked.share, _MARKED_TARGET)}


def _training(source: str) -> dict[str, Any]:
    """Returns the charts of the training, where its event files are beside the model."""
    model_dir = os.path.dirname(source)
    scalars = training_curves.read_scalars(model_dir)
    if not scalars and os.path.basename(model_dir) == _BEST_DIRECTORY:
        scalars = training_curves.read_scalars(os.path.dirname(model_dir))
    losses = {name: [(step, value) for step, value in scalars.get(tag, ()) if value > 0]
              for name, tag in (("training", "loss"), ("validation", "validation/loss"))}
    shares = {"word accuracy": scalars.get("validation/word_accuracy", []),
              "CER": [(step, min(value, 1.0)) for step, value in scalars.get("validation/cer", ())]}
    return {name: charts.line_chart(lines, percent) if lines else None
            for name, lines, percent in (
                ("losses", {name: line for name, line in losses.items() if line}, False),
                ("shares", {name: line for name, line in shares.items() if line}, True))}


def _gallery(details: Details, images: Sequence[GalleryImage]) -> dict[str, Any]:
    table = details.confusions.most_common(_MOST_ROWS)
    numbers = {segment: n for n, (segment, _) in enumerate(table)}
    cards = [_card(image, numbers) for image in images]
    width = np.quantile([image.row.result.width for image in images], _CARD_QUANTILE)
    return {"confusions": table, "characters": _characters(details), "cards": cards,
            "shown_wrong": sum(card.errors > 0 for card in cards),
            "confident": _CONFIDENT,
            "confident_errors": sum(
                card.errors > 0 and card.image.row.result.probability >= _CONFIDENT
                for card in cards),
            "longest": max(details.lengths),
            "card_width": int(np.clip(2 * width + _CARD_PADDING, *_CARD_WIDTHS))}


def _characters(details: Details) -> list[CharacterRow]:
    mostly: dict[str, Segment] = {}
    for segment, _ in details.confusions.most_common():
        for character in segment.label:
            mostly.setdefault(character, segment)
    return [CharacterRow(character, details.characters[character], misread, mostly.get(character))
            for character, misread in details.misread.most_common(_MOST_ROWS)]


def _card(image: GalleryImage, numbers: dict[Segment, int]) -> Card:
    segments = alignment.align(image.result.text, image.row.label)
    probabilities = iter(image.result.characters)
    read: list[Glyph] = []
    label: list[Glyph] = []
    for segment in segments:
        length = max(map(len, segment))
        read += _padded((Glyph(character, not segment.correct, _code(character, segment),
                               _doubt(next(probabilities)[1]))
                         for character in segment.text), length)
        label += _padded((Glyph(character, not segment.correct, _code(character, segment))
                          for character in segment.label), length)
    confusions = [segment for segment in segments if not segment.correct]
    listed = sorted({numbers[segment] for segment in confusions if segment in numbers})
    return Card(image, read, label, image.row.compared.errors, listed)


def _padded(glyphs: Iterator[Glyph], length: int) -> list[Glyph]:
    """Returns glyphs with gaps up to a length."""
    shown = list(glyphs)
    return shown + [Glyph("")] * (length - len(shown))


def _code(character: str, segment: Segment) -> str:
    """Returns the code point to show; invisible characters that are right may shape their text."""
    control = unicodedata.category(character) == "Cc"
    return code_point(character) if control or not segment.correct else ""


def _doubt(probability: float) -> float | None:
    return probability if probability < _CERTAIN else None
