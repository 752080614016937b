"""Validation while training: how well the present weights read images that they do not learn."""

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
from aocr.inference.recognizer import CheckpointRecognizer
from aocr.runtime.console import log
from aocr.runtime.distributed import Cluster

_ENOUGH_TO_JUDGE = 10
_BUCKETS = 4096  # of texts, to tell whether all processes read the same one


class Scores(NamedTuple):
    """What a validation found.

    Attributes:
        loss: Mean teacher-forced loss.
        word_accuracy: 0…1.
        cer: Character error rate, from 0.
    """

    loss: float
    word_accuracy: float
    cer: float

    def line(self, step: int) -> str:
        """For the log."""
        return (f"Validation at step {step}. Loss: {self.loss:.6f}, word accuracy: "
                f"{self.word_accuracy:.2%}, CER: {self.cer:.2%}.")

    def scalars(self) -> dict[str, float]:
        """For TensorBoard."""
        return {"validation/loss": self.loss, "validation/word_accuracy": self.word_accuracy,
                "validation/cer": self.cer}


class Validator:
    """Reads the same images again and again with weights that change.

    Args:
        index: The images.
        reader: The graph of the network that is being trained.
        batch_size: Images read at once.
        cluster: The processes that share them.

    Attributes:
        undecodable: Images that cannot be decoded, by number; `None` before the first run.
    """

    def __init__(self, index: RecordIndex, reader: RecognitionGraph, batch_size: int,
                 cluster: Cluster) -> None:
        self._index = index
        self._config, self._tokenizer = reader.config, reader.tokenizer
        self._recognizer = CheckpointRecognizer("training", reader)
        self._plan = sampler.bucketed_batches(index, batch_size)[cluster.worker::cluster.workers]
        self._cluster = cluster
        self.undecodable: dict[int, SkippedRecord] | None = None

    def run(self) -> Scores:
        """Reads all images, each process its share.

        Raises:
            AocrError: None of them can be decoded.
        """
        own, texts, gone = self._read()
        if self.undecodable is None:
            self._tell(gone)
        counts = np.bincount([zlib.crc32(text.encode()) % _BUCKETS for text in texts],
                             minlength=_BUCKETS)
        sums = self._cluster.all_reduce_sum(np.concatenate([dataclasses.astuple(own), counts]))
        fields, counts = np.split(sums, [-_BUCKETS])
        totals = Totals(*fields.tolist())
        if not totals.images:
            raise AocrError("no validation image can be decoded; --val names a dataset")
        if np.count_nonzero(counts) == 1 and totals.images >= _ENOUGH_TO_JUDGE:
            log.warning(f"The model reads {next(iter(texts), '')!r} in every one of "
                        f"{totals.images:.0f} validation images: it has not learned to look at "
                        "them yet")
        rates = totals.summary()
        return Scores(rates["loss"], rates["word_accuracy"], rates["cer"])

    def _tell(self, gone: np.ndarray) -> None:
        """Names, once, the images that one of the processes cannot decode."""
        everywhere = np.flatnonzero(self._cluster.all_reduce_sum(gone.astype(np.float64)))
        self.undecodable = pipeline.undecodable(self._index, everywhere)
        if self.undecodable:
            skipped = [*self._index.skipped, *self.undecodable.values()]
            skipping.report(skipped, len(self._index) - len(everywhere), "to validate on")

    def _read(self) -> tuple[Totals, set[str], np.ndarray]:
        """What this process finds in its images, the different texts that it reads, what is lost.

        The last as `[images]` bool.
        """
        totals, texts = Totals(), set()
        gone = np.zeros(len(self._index), bool)
        data = pipeline.make_pipeline(self._index, self._plan, self._tokenizer, self._config)
        for numbers, batch in zip(self._plan, pipeline.iterate(data), strict=False):
            gone[pipeline.undecoded(numbers, batch)] = True
            if not len(batch.records):
                continue
            read = self._recognizer.score(batch)
            for target, (result, loss) in zip(batch.targets.numpy(), read, strict=True):
                totals.add(result.text, self._tokenizer.decode(target), loss)
                texts.add(result.text)
        return totals, texts, gone
