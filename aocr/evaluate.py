"""The `test` command: records → recognizer → metrics, lines, pictures."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from aocr import batches, metrics, records, results, skips
from aocr.charmap import CharMap
from aocr.cluster import Cluster
from aocr.console import bar, log
from aocr.errors import AocrError
from aocr.reader import Reader
from aocr.recognizer import Recognizer, Result
from aocr.records import Index, Skipped
from aocr.results import Row


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


def evaluate(patterns: Sequence[str], recognizer: Recognizer, options: Options, cluster: Cluster
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
    reader = recognizer.reader
    if reader is None:
        raise AocrError("an exported model cannot be tested; --model-dir names a folder of "
                        "checkpoints")
    characters = CharMap(reader.config.alphabet)
    index = records.index(records.find(patterns), reader.config, characters, reader.max_pixels)
    skips.require_some(len(index), index.skipped)
    if options.json_path is not None and cluster.chief:
        results.require_place(options.json_path)
    run = _Run(recognizer, index, options, cluster, characters)
    if cluster.workers > 1:
        with run.watched():
            _agree_on_start(reader, index, options, cluster)
    if options.pictures_dir is not None and cluster.chief:
        results.clear_pictures(options.pictures_dir)
    plan = batches.in_order(index, options.batch_size)
    own = [numbers[cluster.own(len(numbers))] for numbers in plan]
    data = batches.load(index, own, characters, reader.config)
    with bar(total=len(index), unit="image") as progress:
        for whole, numbers, batch in zip(plan, own, batches.each(data), strict=False):
            run.take(numbers, batch)
            progress.update(len(whole))
    return run.told() if cluster.chief else {}


def _agree_on_start(reader: Reader, index: Index, options: Options, cluster: Cluster) -> None:
    """Makes sure that all processes read the same images with the same model.

    Raises:
        AocrError: They do not.
    """
    flags = reader.config, reader.precision, options.batch_size, options.pictures_dir is None
    cluster.agree({"weights (as a checksum)": reader.model.checksum(),
                   "records (as a checksum)": records.checksum(index),
                   "flags (as a checksum)": zlib.crc32(repr(flags).encode())})


class _Found(NamedTuple):
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
        attention = None if self.attention is None else np.array(self.attention, np.float32)
        return Result(self.text, self.probability, tuple((c, p) for c, p in self.characters),
                      attention, self.width)


def _found(number: int, label: str, comment: str, result: Result, loss: float) -> _Found:
    attention = None if result.attention is None else result.attention.tolist()
    return _Found(number, label, comment, loss, result.text, result.probability,
                  result.characters, attention, result.width)


@dataclass
class _Run:
    """Brings the rows of batches of like widths back into the records' order."""

    recognizer: Recognizer
    index: Index
    options: Options
    cluster: Cluster
    characters: CharMap
    totals: Totals = field(default_factory=Totals)
    rows: list[dict[str, object]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    waiting: dict[int, Row | None] = field(default_factory=dict)
    next: int = 0
    begun: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.skipped = list(self.index.skipped)

    def watched(self) -> AbstractContextManager[None]:
        """Around what needs the other processes."""
        return self.cluster.watched("start all of them again")

    def take(self, numbers: np.ndarray, batch: batches.Batch) -> None:
        """Reads this process's share of a batch; the chief tells what is ready to be told."""
        found = [_Found(int(n)) for n in batches.missing(numbers, batch)]
        if len(batch["records"]):
            read = self.recognizer.examine(batch, self.options.pictures_dir is not None)
            about = (batch[name].numpy() for name in ("records", "targets", "comments"))
            found += [_found(int(n), self.characters.decode(target), comment.decode(), *each)
                      for n, target, comment, each in zip(*about, read, strict=True)]
        with self.watched():
            everywhere = self.cluster.gather(found)
        if self.cluster.chief:
            self._note([_Found(*each) for each in everywhere])
        self.begun = time.perf_counter()

    def _note(self, found: list[_Found]) -> None:
        read = [(each, each.label) for each in found if each.label is not None]
        gone = np.array([each.number for each in found if each.label is None], np.int64)
        for n, skip in batches.undecodable(self.index, gone).items():
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
        skips.report(self.skipped, self.totals.images)
        skips.require_some(self.totals.images, self.skipped)
        summary = self.summary()
        for row in results.table(summary):
            log.info(row)
        if self.options.json_path is not None:
            results.write_json(self.options.json_path, {
                "summary": summary, "images": self.rows,
                "skipped": [skip._asdict() for skip in self.skipped]})
        return summary

    def summary(self) -> dict[str, Any]:
        """Rates, counts and speed."""
        return {**self.totals.summary(), "skipped": len(self.skipped),
                "skipped_by_reason": skips.count(self.skipped),
                "images_per_second": self.totals.images / self.seconds}

    def _row(self, found: _Found, label: str, seconds: float) -> Row:
        n, result = found.number, found.result()
        accuracy = metrics.accuracy(result.text, label, self.options.use_distance)
        return Row(self.index.paths[self.index.file[n]], int(self.index.number[n]), label,
                   found.comment, int(self.index.width[n]), result, found.loss, accuracy, seconds)

    def _tell(self) -> None:
        while self.next in self.waiting:
            row = self.waiting.pop(self.next)
            if row is not None:
                self._tell_row(row)
                if self.options.pictures_dir is not None:
                    (record,) = records.read(self.index, [self.next])
                    results.write_pictures(
                        self.options.pictures_dir, self.totals.images, row, record.image)
            self.next += 1

    def _tell_row(self, row: Row) -> None:
        self.totals.add(row.result.text, row.label, row.loss, row.accuracy)
        log.info(results.line(self.totals.images, row, self.totals.accuracy / self.totals.images))
        if self.options.json_path is not None:
            self.rows.append(row.to_json())
