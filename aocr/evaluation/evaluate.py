"""Evaluates a model on records: a log line for each image, metrics, JSON and pictures."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aocr.data import pipeline, sampler, skipping
from aocr.data.index import RecordIndex, build_index, index_checksum, read_records, resolve_paths
from aocr.data.skipping import SkippedRecord
from aocr.evaluation import calibration, metrics, pictures, report, terminal
from aocr.evaluation.details import Details
from aocr.evaluation.metrics import Totals
from aocr.evaluation.report import EvaluationRow
from aocr.evaluation.scoring import ImageScore, RecordOrder, score_batch
from aocr.inference.graph import RecognitionGraph
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer
from aocr.runtime import console
from aocr.runtime.console import log, progress_bar
from aocr.runtime.distributed import Cluster

_RESTART = "start all workers again"


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of an evaluation.

    Attributes:
        batch_size: Number of images in a batch.
        use_distance: Whether the original's accuracy gives edit-distance credit.
        json_path: File to write the results to as JSON; `None` for no file.
        pictures_dir: Directory to write attention pictures to; `None` for no pictures.
        report_path: File to write the HTML report to; `None` for no report.
        report_images: Maximum number of images in the report.
    """

    batch_size: int = 65
    use_distance: bool = True
    json_path: str | None = None
    pictures_dir: str | None = None
    report_path: str | None = None
    report_images: int = 1000

    @property
    def attention(self) -> bool:
        """Whether the attention of the images is needed."""
        return self.pictures_dir is not None or self.report_path is not None


def evaluate(patterns: Sequence[str], recognizer: CheckpointRecognizer, options: EvaluationOptions,
             cluster: Cluster) -> dict[str, Any]:
    """Evaluates a model, logs a line for each image and a table of metrics.

    Args:
        patterns: Paths or globs of TFRecords files.
        recognizer: The model.
        options: How to evaluate it.
        cluster: The processes that share the images.

    Returns:
        The metrics, the numbers of images and of skipped records, and images per second; empty in
        processes other than the chief.

    Raises:
        AocrError: No image can be used, a result cannot be written, or the processes of the
            cluster do not agree.
    """
    graph = recognizer.graph
    paths = resolve_paths(patterns)
    if cluster.chief:
        report.require_writable(paths, options.json_path, options.report_path)
    index = build_index(paths, graph.config, graph.tokenizer, graph.max_pixels)
    skipping.require_usable(len(index), index.skipped)
    if cluster.workers > 1:
        with cluster.lost_worker_errors(_RESTART):
            _require_agreement(graph, index, options, cluster)
    if options.pictures_dir is not None and cluster.chief:
        pictures.clear(options.pictures_dir)
    results = EvaluationReport(index, options, graph.config.alpha)
    _evaluate_batches(recognizer, index, results, cluster)
    if not cluster.chief:
        return {}
    summary = results.finish()
    if options.report_path is not None:
        _write_report(options.report_path, recognizer, index, results, summary)
    return summary


def _evaluate_batches(recognizer: CheckpointRecognizer, index: RecordIndex,
                      results: EvaluationReport, cluster: Cluster) -> None:
    """Scores all batches; every process scores its rows, and the chief reports all of them."""
    graph, options = recognizer.graph, results.options
    global_batches = sampler.bucketed_batches(index, options.batch_size)
    local_batches = [numbers[cluster.local_rows(len(numbers))] for numbers in global_batches]
    data = pipeline.make_pipeline(index, local_batches, graph.tokenizer, graph.config)
    start = time.perf_counter()
    with progress_bar(total=len(index), unit="image") as progress:
        for numbers, local_numbers, batch in zip(global_batches, local_batches,
                                                 pipeline.iterate(data), strict=False):
            local = score_batch(recognizer, local_numbers, batch, options.attention)
            with cluster.lost_worker_errors(_RESTART):
                scores = [ImageScore(*values) for values in cluster.all_gather(local)]
            if cluster.chief:
                results.add_batch(scores, time.perf_counter() - start)
            start = time.perf_counter()
            progress.update(len(numbers))


def _write_report(path: str, recognizer: CheckpointRecognizer, index: RecordIndex,
                  results: EvaluationReport, summary: dict[str, Any]) -> None:
    from aocr.evaluation import gallery, html_report  # evaluations without a report start faster

    assert results.details is not None
    selection = gallery.select(results.details, results.options.report_images)
    images = gallery.load(recognizer.graph, index, selection)
    html_report.write(path, recognizer, index, html_report.Evaluation(
        summary, results.skipped, results.details), images)


def _require_agreement(graph: RecognitionGraph, index: RecordIndex, options: EvaluationOptions,
                       cluster: Cluster) -> None:
    """Checks that all processes evaluate the same model on the same records.

    Raises:
        AocrError: The processes differ in the weights, the records or the flags.
    """
    flags = (graph.config, graph.precision, options.batch_size, options.attention,
             graph.decoding.describe())
    cluster.require_agreement({"weights (as a checksum)": graph.model.checksum(),
                               "records (as a checksum)": index_checksum(index),
                               "flags (as a checksum)": zlib.crc32(repr(flags).encode())})


class EvaluationReport:
    """Collects and reports the results of an evaluation, in the order of the records.

    Args:
        index: The records.
        options: What to report, and where to.
        alpha: How the model sees transparent pixels, see `ModelConfig`.

    Attributes:
        options: What to report, and where to.
        skipped: Records that are not used.
        details: Details of the images; `None` if they are neither reported nor shown.
    """

    def __init__(self, index: RecordIndex, options: EvaluationOptions, alpha: str) -> None:
        self.options = options
        self._alpha = alpha
        self._index = index
        self._totals = Totals()
        self._probabilities: list[float] = []
        self._correct: list[bool] = []
        self._rows: list[dict[str, object]] = []
        self.skipped: list[SkippedRecord] = list(index.skipped)
        self._order: RecordOrder[tuple[ImageScore, float]] = RecordOrder()
        self._seconds = 0.0
        self.details: Details | None = None
        if options.report_path is not None:
            self.details = Details(options.report_images, options.report_images)
        elif console.on_terminal():
            self.details = Details(terminal.MOST_IMAGES)

    def add_batch(self, scores: Sequence[ImageScore], seconds: float) -> None:
        """Adds the results of a batch; reports those whose predecessors have all been added.

        Args:
            scores: The results of all processes, in any order.
            seconds: Time since the previous batch, including the time to load the images.
        """
        self._seconds += seconds
        decoded = sum(score.label is not None for score in scores)
        for score in scores:
            self._order.add(score.number, (score, seconds / max(decoded, 1)))
        for score, share in self._order.pop_ready():
            self._report(score, share)

    def finish(self) -> dict[str, Any]:
        """Logs the skipped records and the table of metrics, and writes the JSON file.

        Returns:
            The metrics, the numbers of images and of skipped records, and images per second.

        Raises:
            AocrError: No image could be decoded, or the results cannot be written.
        """
        skipping.report(self.skipped, self._totals.images)
        skipping.require_usable(self._totals.images, self.skipped)
        summary = {**self._totals.summary(), "edit_credit": self.options.use_distance,
                   **calibration.summary(self._probabilities, self._correct),
                   "skipped": len(self.skipped),
                   "skipped_by_reason": skipping.count_by_reason(self.skipped),
                   "images_per_second": self._totals.images / self._seconds}
        for line in report.table(summary):
            log.info(line)
        if self.details is not None and console.on_terminal():
            terminal.show(self.details)
        if self.options.json_path is not None:
            report.write_json(self.options.json_path, {
                "summary": summary, "images": self._rows,
                "skipped": [record._asdict() for record in self.skipped]})
        return summary

    def _report(self, score: ImageScore, seconds: float) -> None:
        if score.label is None:
            position = np.array([score.number])
            self.skipped += pipeline.undecodable(self._index, position).values()
            return
        row = self._row(score, score.label, seconds)
        self._totals.add(row.compared, row.loss, row.accuracy)
        self._probabilities.append(row.result.probability)
        self._correct.append(row.correct)
        images = self._totals.images
        log.info(report.line(images, row, self._totals.accuracy / images))
        if self.details is not None:
            self.details.add(score.number, row)
        if self.options.json_path is not None:
            self._rows.append(row.to_json())
        if self.options.pictures_dir is not None:
            (record,) = read_records(self._index, [score.number])
            pictures.write(self.options.pictures_dir, images, row, record.image, self._alpha)

    def _row(self, score: ImageScore, label: str, seconds: float) -> EvaluationRow:
        number, result = score.number, score.result()
        compared = metrics.compare(result.text, label)
        return EvaluationRow(
            self._index.path(number), int(self._index.number[number]), score.comment,
            int(self._index.width[number]), result, compared, score.loss,
            compared.accuracy(self.options.use_distance), seconds)
