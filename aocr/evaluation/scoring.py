"""Predictions and losses of records, as values that the processes of a cluster exchange."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from aocr.config import COLUMN_PIXELS
from aocr.data import pipeline
from aocr.inference.recognizer import Result
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer

_T = TypeVar("_T")


class ImageScore(NamedTuple):
    """Prediction and loss of one record, JSON-serializable so that processes can exchange it.

    Attributes:
        number: Position of the record in the index.
        label: Its label; `None` if its image cannot be decoded, so that later fields are empty.
        comment: Its comment.
        loss: Teacher-forced loss.
        text: See `Result`, also for the fields that follow.
        probability: See `Result`.
        characters: See `Result`.
        attention: See `Result`; in base64, because lists of numbers take five times the memory.
        width: See `Result`.
        candidates: See `Result`.
    """

    number: int
    label: str | None = None
    comment: str = ""
    loss: float = 0.0
    text: str = ""
    probability: float = 0.0
    characters: Sequence[tuple[str, float]] = ()
    attention: str | None = None
    width: int = 0
    candidates: Sequence[tuple[str, float]] = ()

    def result(self) -> Result:
        """Returns the prediction as the Python API does."""
        attention = None if self.attention is None else np.frombuffer(
            base64.b64decode(self.attention), np.float32).reshape(
                len(self.characters), -(-self.width // COLUMN_PIXELS))
        characters, candidates = (tuple((text, probability) for text, probability in pairs)
                                  for pairs in (self.characters, self.candidates))
        return Result(self.text, self.probability, characters, attention, self.width, candidates)


def score_batch(recognizer: CheckpointRecognizer, numbers: np.ndarray, batch: pipeline.Batch,
                attention: bool) -> list[ImageScore]:
    """Scores the images of a batch.

    Args:
        recognizer: The model.
        numbers: Positions in the index of the records that the batch was to hold, `[rows]` int64.
        batch: Those of them whose images can be decoded.
        attention: Whether results include the attention.

    Returns:
        A score for each of `numbers`, undecodable images first.
    """
    scores = [ImageScore(int(number)) for number in pipeline.undecoded(numbers, batch)]
    if len(batch.records):
        decode = recognizer.graph.tokenizer.decode
        columns = (tensor.numpy() for tensor in (batch.records, batch.targets, batch.comments))
        scores += [_image_score(int(number), decode(target), comment.decode(), result, loss)
                   for number, target, comment, (result, loss) in zip(
                       *columns, recognizer.score(batch, attention), strict=True)]
    return scores


def _image_score(number: int, label: str, comment: str, result: Result, loss: float
                 ) -> ImageScore:
    attention = None if result.attention is None else (
        base64.b64encode(result.attention.tobytes()).decode())
    return ImageScore(number, label, comment, loss, result.text, result.probability,
                      result.characters, attention, result.width, result.candidates)


class RecordOrder(Generic[_T]):
    """Restores the order of records, which bucketed batches change."""

    def __init__(self) -> None:
        self._pending: dict[int, _T] = {}
        self._next = 0

    def add(self, number: int, item: _T) -> None:
        """Adds the item of the record at position `number`."""
        self._pending[number] = item

    def pop_ready(self) -> Iterator[_T]:
        """Yields and removes the items whose predecessors have all been added, in order."""
        while self._next in self._pending:
            yield self._pending.pop(self._next)
            self._next += 1
