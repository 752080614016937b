"""Validation during training, with the averaged weights."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from aocr.config import IMAGE_HEIGHT
from aocr.data import pipeline, sampler, skipping
from aocr.data.index import RecordIndex
from aocr.data.skipping import SkippedRecord
from aocr.errors import AocrError
from aocr.evaluation.calibration import TEMPERATURES, best_temperature, temperature_sums
from aocr.evaluation.metrics import Totals, compare
from aocr.inference.graph import RecognitionGraph
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
        temperature: The temperature whose probabilities fit best, see `ModelConfig`.
    """

    loss: float
    word_accuracy: float
    cer: float
    temperature: float = 1.0

    def line(self, step: int) -> str:
        """Returns the log line."""
        return (f"Validation at step {step}. Loss: {self.loss:.6f}, word accuracy: "
                f"{self.word_accuracy:.2%}, CER: {self.cer:.2%}.")

    def scalars(self) -> dict[str, float]:
        """Returns the scalars for TensorBoard."""
        return {"validation/loss": self.loss, "validation/word_accuracy": self.word_accuracy,
                "validation/cer": self.cer, "validation/temperature": self.temperature}


class Validator:
    """Scores a model, whose weights may change, on the same images every time.

    Args:
        index: The images.
        graph: Recognition graph of the model.
        batch_size: Maximum number of images in a batch.
        cluster: The processes that share the images.
        is_stopping: Returns whether the run has been asked to stop, which ends a validation by a
            single process; several processes, which agree on a stop only between steps, finish it.

    Attributes:
        undecodable: Undecodable images by position in the index; `None` before the first run.
    """

    def __init__(self, index: RecordIndex, graph: RecognitionGraph, batch_size: int,
                 cluster: Cluster, is_stopping: Callable[[], bool] = lambda: False) -> None:
        self._index = index
        self._is_stopping = is_stopping if cluster.workers == 1 else lambda: False
        self._config, self._tokenizer = graph.config, graph.tokenizer
        # The weights change, the graph does not.
        self._validate = tf.function(
            lambda images, widths, targets: graph.validate(images, widths, targets, TEMPERATURES),
            autograph=False, input_signature=[
                tf.TensorSpec([None, IMAGE_HEIGHT, None, graph.config.channels], tf.float32),
                tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, None], tf.int32)])
        self._plan = sampler.bucketed_batches(index, batch_size)[cluster.worker::cluster.workers]
        self._cluster = cluster
        self.undecodable: dict[int, SkippedRecord] | None = None

    def run(self) -> Scores | None:
        """Scores all images, each process its share; all processes must call it.

        Returns:
            The scores, or `None` after a request to stop.

        Raises:
            AocrError: No image can be decoded.
        """
        local, texts, undecoded, calibration = self._predict()
        if self._is_stopping():
            return None
        if self.undecodable is None:
            self._report_undecodable(undecoded)
        buckets = np.bincount([zlib.crc32(text.encode()) % _TEXT_BUCKETS for text in texts],
                              minlength=_TEXT_BUCKETS)
        sums = self._cluster.all_reduce_sum(
            np.concatenate([calibration.ravel(), dataclasses.astuple(local), buckets]))
        calibration, fields, buckets = np.split(sums, [calibration.size, -_TEXT_BUCKETS])
        totals = Totals(*fields.tolist())
        if not totals.images:
            raise AocrError("no validation image can be decoded; check the dataset of --val")
        if np.count_nonzero(buckets) == 1 and totals.images >= _MIN_IMAGES_TO_WARN:
            log.warning(f"The model predicts {next(iter(texts), '')!r} for all "
                        f"{totals.images:.0f} validation images: it does not distinguish them "
                        "yet")
        rates = totals.summary()
        temperature = best_temperature(
            calibration.reshape(2, 2, -1), totals.images, totals.words)
        return Scores(rates["loss"], rates["word_accuracy"], rates["cer"], temperature)

    def _report_undecodable(self, undecoded: np.ndarray) -> None:
        """Reports, once, the images that no process can decode."""
        positions = np.flatnonzero(self._cluster.all_reduce_sum(undecoded.astype(np.float64)))
        self.undecodable = pipeline.undecodable(self._index, positions)
        if self.undecodable:
            skipped = [*self._index.skipped, *self.undecodable.values()]
            skipping.report(skipped, len(self._index) - len(positions), "to validate on")

    def _predict(self) -> tuple[Totals, set[str], np.ndarray, np.ndarray]:
        """Reads the images of this process.

        Returns:
            Totals, the set of predictions, which images are undecodable, `[images]` bool, and
            the sums of `temperature_sums`.
        """
        totals, texts = Totals(), set()
        calibration = np.zeros([2, 2, len(TEMPERATURES)])
        undecoded = np.zeros(len(self._index), bool)
        data = pipeline.make_pipeline(self._index, self._plan, self._tokenizer, self._config)
        for planned, batch in zip(self._plan, pipeline.iterate(data), strict=False):
            if self._is_stopping():
                break
            undecoded[pipeline.undecoded(planned, batch)] = True
            if not len(batch.records):
                continue
            scored = self._validate(batch.images, batch.widths, batch.targets)
            decoded, labels = ([self._tokenizer.decode(row) for row in ids.numpy()]
                               for ids in (scored.ids, batch.targets))
            compared = list(map(compare, decoded, labels))
            for comparison, loss in zip(compared, scored.losses.numpy().tolist(), strict=True):
                totals.add(comparison, loss)
            texts.update(decoded)
            calibration += temperature_sums(scored.log_probabilities.numpy(),
                                            [comparison.correct for comparison in compared])
        return totals, texts, undecoded, calibration
