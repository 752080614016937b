"""Validation while training: how well the present weights read images that they do not learn."""

from __future__ import annotations

from typing import NamedTuple

from aocr import batches
from aocr.charmap import CharMap
from aocr.console import log
from aocr.errors import AocrError
from aocr.evaluate import Totals
from aocr.reader import Reader
from aocr.recognizer import Recognizer
from aocr.records import Index

_ENOUGH_TO_JUDGE = 10


class Scores(NamedTuple):
    """What a validation found.

    Attributes:
        loss: Mean teacher-forced loss.
        word_accuracy: 0…1.
        cer: Character error rate, from 0.
        texts: The different answers that were given.
    """

    loss: float
    word_accuracy: float
    cer: float
    texts: frozenset[str]

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
    """

    def __init__(self, index: Index, reader: Reader, batch_size: int) -> None:
        self._index = index
        self._config = reader.config
        self._recognizer = Recognizer.around("training", reader)
        self._plan = batches.in_order(index, batch_size)

    def run(self) -> Scores:
        """Reads all images.

        Raises:
            AocrError: None of them can be decoded.
        """
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
        if not totals.images:
            raise AocrError("no validation image can be decoded; --val names a dataset")
        rates = totals.summary()
        scores = Scores(rates["loss"], rates["word_accuracy"], rates["cer"], frozenset(texts))
        if len(texts) == 1 and totals.images >= _ENOUGH_TO_JUDGE:
            log.warning(f"The model reads {texts.pop()!r} in every one of {totals.images} "
                        "validation images: it has not learned to look at them yet")
        return scores
