"""Validation during training, with the averaged weights."""

from __future__ import annotations

import dataclasses
import zlib
from typing import NamedTuple

import numpy as np

from aocr.data import pipeline, sampler, skipping
from aocr.data.index import RecordIndex
from aocr.data.skipping import SkippedRecord
from aocr.errors import AocrError
from aocr.evaluation.metrics import Totals
from aocr.inference.graph import RecognitionGraph
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer
from aocr.runtime.console import log
from aocr.runtime.distributed import Cluster

_MIN_IMAGES_TO_WARN = 10
_TEXT_BUCKETS = 4096  # hashes by which processes detect that all predictions are equal


class Scores(NamedTuple):
    """Scores of one validation.

    Attributes:
        loss: Mean teacher-forced loss.
        word_accuracy: 0…1.
        cer: Character error rate, from 0.
    """

    loss: float
    word_accuracy: float
    cer: float

    def line(self, step: int) -> str:
        """Returns the log line."""
        return (f"Validation at step {step}. Loss: {self.loss:.6f}, word accuracy: "
                f"{self.word_accuracy:.2%}, CER: {self.cer:.2%}.")

    def scalars(self) -> dict[str, float]:
        """Returns the scalars for TensorBoard."""
        return {"validation/loss": self.loss, "validation/word_accuracy": self.word_accuracy,
                "validation/cer": self.cer}


class Validator:
    """Scores a model, whose weights may change, on the same images every time.

    Args:
        index: The images.
        graph: Recognition graph of the model.
        batch_size: Maximum number of images in a batch.
        cluster: The processes that share the images.

    Attributes:
        undecodable: Undecodable images by position in the index; `None` before the first run.
    """

    def __init__(self, index: RecordIndex, graph: RecognitionGraph, batch_size: int,
                 cluster: Cluster) -> None:
        self._index = index
        self._config, self._tokenizer = graph.config, graph.tokenizer
        self._recognizer = CheckpointRecognizer("training", graph)
        self._plan = sampler.bucketed_batches(index, batch_size)[cluster.worker::cluster.workers]
        self._cluster = cluster
        self.undecodable: dict[int, SkippedRecord] | None = None

    def run(self) -> Scores:
        """Scores all images, each process its share; all processes must call it.

        Raises:
            AocrError: No image can be decoded.
        """
        local, texts, undecoded = self._predict()
        if self.undecodable is None:
            self._report_undecodable(undecoded)
        buckets = np.bincount([zlib.crc32(text.encode()) % _TEXT_BUCKETS for text in texts],
                              minlength=_TEXT_BUCKETS)
        sums = self._cluster.all_reduce_sum(
            np.concatenate([dataclasses.astuple(local), buckets]))
        fields, buckets = np.split(sums, [-_TEXT_BUCKETS])
        totals = Totals(*fields.tolist())
        if not totals.images:
            raise AocrError("no validation image can be decoded; check the dataset of --val")
        if np.count_nonzero(buckets) == 1 and totals.images >= _MIN_IMAGES_TO_WARN:
            log.warning(f"The model predicts {next(iter(texts), '')!r} for all "
                        f"{totals.images:.0f} validation images: it does not distinguish them "
                        "yet")
        rates = totals.summary()
        return Scores(rates["loss"], rates["word_accuracy"], rates["cer"])

    def _report_undecodable(self, undecoded: np.ndarray) -> None:
        """Reports, once, the images that no process can decode."""
        positions = np.flatnonzero(self._cluster.all_reduce_sum(undecoded.astype(np.float64)))
        self.undecodable = pipeline.undecodable(self._index, positions)
        if self.undecodable:
            skipped = [*self._index.skipped, *self.undecodable.values()]
            skipping.report(skipped, len(self._index) - len(positions), "to validate on")

    def _predict(self) -> tuple[Totals, set[str], np.ndarray]:
        """Reads the images of this process.

        Returns:
            Totals, the set of predictions, and which images are undecodable, `[images]` bool.
        """
        totals, texts = Totals(), set()
        undecoded = np.zeros(len(self._index), bool)
        data = pipeline.make_pipeline(self._index, self._plan, self._tokenizer, self._config)
        for planned, batch in zip(self._plan, pipeline.iterate(data), strict=False):
            undecoded[pipeline.undecoded(planned, batch)] = True
            if not len(batch.records):
                continue
            results = self._recognizer.score(batch)
            for target, (result, loss) in zip(batch.targets.numpy(), results, strict=True):
                totals.add(result.text, self._tokenizer.decode(target), loss)
                texts.add(result.text)
        return totals, texts, undecoded
