"""The `test` command: records → recognizer → metrics, lines, pictures."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from aocr.data import pipeline, sampler, skipping
from aocr.data.index import RecordIndex, build_index, index_checksum, read_records, resolve_paths
from aocr.data.skipping import SkippedRecord
from aocr.evaluation import metrics, report
from aocr.evaluation.metrics import Totals
from aocr.evaluation.report import EvaluationRow
from aocr.inference.graph import RecognitionGraph
from aocr.inference.recognizer import CheckpointRecognizer, Result
from aocr.runtime.console import bar, log
from aocr.runtime.distributed import Cluster
from aocr.tokenizer import Tokenizer


@dataclass(frozen=True)
class EvaluationOptions:
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


def evaluate(patterns: Sequence[str], recognizer: CheckpointRecognizer, options: EvaluationOptions,
             cluster: Cluster
             ) -> dict[str, Any]:
    """Tests a model, and logs a line an image in the original's words and a table at the end.

    Args:
        patterns: Names or globs of TFRecords files.
        recognizer: The model, restored from checkpoints.
        options: How.
        cluster: The processes that share the images.

    Returns:
        The summary: images, skipped, rates, loss, perplexity, images a second; only the chief
        knows it.

    Raises:
        AocrError: No image can be used, or a result cannot be written.
    """
    reader = recognizer.graph
    tokenizer = reader.tokenizer
    index = build_index(resolve_paths(patterns), reader.config, tokenizer, reader.max_pixels)
    skipping.require_usable(len(index), index.skipped)
    if options.json_path is not None and cluster.chief:
        report.require_place(options.json_path)
    run = Evaluator(recognizer, index, options, cluster, tokenizer)
    if cluster.workers > 1:
        with run.watched():
            _agree_on_start(reader, index, options, cluster)
    if options.pictures_dir is not None and cluster.chief:
        report.clear_pictures(options.pictures_dir)
    plan = sampler.bucketed_batches(index, options.batch_size)
    own = [numbers[cluster.local_rows(len(numbers))] for numbers in plan]
    data = pipeline.make_pipeline(index, own, tokenizer, reader.config)
    with bar(total=len(index), unit="image") as progress:
        for whole, numbers, batch in zip(plan, own, pipeline.iterate(data), strict=False):
            run.take(numbers, batch)
            progress.update(len(whole))
    return run.told() if cluster.chief else {}


def _agree_on_start(reader: RecognitionGraph, index: RecordIndex, options: EvaluationOptions,
                    cluster: Cluster) -> None:
    """Makes sure that all processes read the same images with the same model.

    Raises:
        AocrError: They do not.
    """
    flags = reader.config, reader.precision, options.batch_size, options.pictures_dir is None
    cluster.require_agreement({"weights (as a checksum)": reader.model.checksum(),
                   "records (as a checksum)": index_checksum(index),
                   "flags (as a checksum)": zlib.crc32(repr(flags).encode())})


class ImageResult(NamedTuple):
    """What was read in a record, in values that JSON knows: another process may have read it.

    The label is `None` where its image cannot be decoded.
    """

    number: int
    label: str | None = None
    comment: str = ""
    loss: float = 0.0
    text: str = ""
    probability: float = 0.0
    characters: Sequence[tuple[str, float]] = ()
    attention: list[list[float]] | None = None
    width: int = 0

    def result(self) -> Result:
        """As the Python API gives it."""
        attention = None if self.attention is None else np.array(self.attention, np.float32)
        return Result(self.text, self.probability, tuple((c, p) for c, p in self.characters),
                      attention, self.width)


def _found(number: int, label: str, comment: str, result: Result, loss: float) -> ImageResult:
    attention = None if result.attention is None else result.attention.tolist()
    return ImageResult(number, label, comment, loss, result.text, result.probability,
                  result.characters, attention, result.width)


@dataclass
class Evaluator:
    """Brings the rows of batches of like widths back into the records' order."""

    recognizer: CheckpointRecognizer
    index: RecordIndex
    options: EvaluationOptions
    cluster: Cluster
    tokenizer: Tokenizer
    totals: Totals = field(default_factory=Totals)
    rows: list[dict[str, object]] = field(default_factory=list)
    skipped: list[SkippedRecord] = field(default_factory=list)
    waiting: dict[int, EvaluationRow | None] = field(default_factory=dict)
    next: int = 0
    begun: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.skipped = list(self.index.skipped)

    def watched(self) -> AbstractContextManager[None]:
        """Around what needs the other processes."""
        return self.cluster.lost_worker_errors("start all of them again")

    def take(self, numbers: np.ndarray, batch: pipeline.Batch) -> None:
        """Reads this process's share of a batch; the chief tells what is ready to be told."""
        found = [ImageResult(int(n)) for n in pipeline.undecoded(numbers, batch)]
        if len(batch.records):
            read = self.recognizer.score(batch, self.options.pictures_dir is not None)
            about = (part.numpy() for part in (batch.records, batch.targets, batch.comments))
            found += [_found(int(n), self.tokenizer.decode(target), comment.decode(), *each)
                      for n, target, comment, each in zip(*about, read, strict=True)]
        with self.watched():
            everywhere = self.cluster.all_gather(found)
        if self.cluster.chief:
            self._note([ImageResult(*each) for each in everywhere])
        self.begun = time.perf_counter()

    def _note(self, found: list[ImageResult]) -> None:
        read = [(each, each.label) for each in found if each.label is not None]
        gone = np.array([each.number for each in found if each.label is None], np.int64)
        for n, skip in pipeline.undecodable(self.index, gone).items():
            self.skipped.append(skip)
            self.waiting[n] = None
        seconds = time.perf_counter() - self.begun  # since the last batch: loading counts
        self.seconds += seconds
        for each, label in read:
            self.waiting[each.number] = self._row(each, label, seconds / len(read))
        self._tell()

    def told(self) -> dict[str, Any]:
        """The end: tells and writes what was found, and returns the summary.

        Raises:
            AocrError: No image could be used, or the results cannot be written.
        """
        skipping.report(self.skipped, self.totals.images)
        skipping.require_usable(self.totals.images, self.skipped)
        summary = self.summary()
        for row in report.table(summary):
            log.info(row)
        if self.options.json_path is not None:
            report.write_json(self.options.json_path, {
                "summary": summary, "images": self.rows,
                "skipped": [skip._asdict() for skip in self.skipped]})
        return summary

    def summary(self) -> dict[str, Any]:
        """Rates, counts and speed."""
        return {**self.totals.summary(), "skipped": len(self.skipped),
                "skipped_by_reason": skipping.count_by_reason(self.skipped),
                "images_per_second": self.totals.images / self.seconds}

    def _row(self, found: ImageResult, label: str, seconds: float) -> EvaluationRow:
        n, result = found.number, found.result()
        accuracy = metrics.accuracy(result.text, label, self.options.use_distance)
        return EvaluationRow(self.index.path(n), int(self.index.number[n]), label,
                   found.comment, int(self.index.width[n]), result, found.loss, accuracy, seconds)

    def _tell(self) -> None:
        while self.next in self.waiting:
            row = self.waiting.pop(self.next)
            if row is not None:
                self._tell_row(row)
                if self.options.pictures_dir is not None:
                    (record,) = read_records(self.index, [self.next])
                    report.write_pictures(
                        self.options.pictures_dir, self.totals.images, row, record.image)
            self.next += 1

    def _tell_row(self, row: EvaluationRow) -> None:
        self.totals.add(row.result.text, row.label, row.loss, row.accuracy)
        log.info(report.line(self.totals.images, row, self.totals.accuracy / self.totals.images))
        if self.options.json_path is not None:
            self.rows.append(row.to_json())
