"""Validation while training: how well the present weights read images that they do not learn."""

from __future__ import annotations

import dataclasses
import zlib
from typing import NamedTuple

import numpy as np

from aocr import batches
from aocr.charmap import CharMap
from aocr.cluster import Cluster
from aocr.console import log
from aocr.errors import AocrError
from aocr.evaluate import Totals
from aocr.reader import Reader
from aocr.recognizer import Recognizer
from aocr.records import Index

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
    """

    def __init__(self, index: Index, reader: Reader, batch_size: int, cluster: Cluster) -> None:
        self._index = index
        self._config = reader.config
        self._recognizer = Recognizer.around("training", reader)
        self._plan = batches.in_order(index, batch_size)[cluster.worker::cluster.workers]
        self._cluster = cluster

    def run(self) -> Scores:
        """Reads all images, each process its share.

        Raises:
            AocrError: None of them can be decoded.
        """
        own, texts = self._read()
        counts = np.bincount([zlib.crc32(text.encode()) % _BUCKETS for text in texts],
                             minlength=_BUCKETS)
        sums = self._cluster.total(np.concatenate([dataclasses.astuple(own), counts]))
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

    def _read(self) -> tuple[Totals, set[str]]:
        """What this process finds in its images, and the different texts that it reads."""
        totals, texts = Totals(), set()
        characters = CharMap(self._config.alphabet)
        data = batches.load(self._index, self._plan, characters, self._config)
        for batch in batches.each(data):
            if not len(batch["records"]):
                continue
            read = self._recognizer.examine(batch)
            for target, (result, loss) in zip(batch["targets"].numpy(), read, strict=True):
                totals.add(result.text, characters.decode(target), loss)
                texts.add(result.text)
        return totals, texts
