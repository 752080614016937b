"""The records that a training run does not use."""

from __future__ import annotations

import numpy as np

from aocr.data import pipeline, skipping
from aocr.data.skipping import SkippedRecord
from aocr.data.splits import Splits
from aocr.training.output import Output
from aocr.training.validation import Validator


class SkippedRecords:
    """Collects the skipped records, and reports them when there are more of them.

    Some are known from the index, others only once their images turn out to be undecodable.

    Args:
        splits: The records to train and to validate on.
        validator: The validation, which finds undecodable images as well.
        output: Where they are reported.
    """

    def __init__(self, splits: Splits, validator: Validator | None, output: Output) -> None:
        self._splits = splits
        self._validator = validator
        self._output = output
        self._undecodable: dict[int, SkippedRecord] = {}
        self._reported: tuple[int, int] | None = None

    @property
    def used(self) -> int:
        """Number of records to train on that are used."""
        return len(self._splits.training) - len(self._undecodable)

    def training(self) -> list[SkippedRecord]:
        """Returns the skipped records of the dataset to train on."""
        return [*self._splits.training.skipped, *self._undecodable.values()]

    def add_undecodable(self, records: np.ndarray) -> None:
        """Adds records, given by their positions in the index, whose images are undecodable."""
        self._undecodable.update(pipeline.undecodable(self._splits.training, records))

    def report(self) -> None:
        """Reports the records, if there are more than at the last report."""
        training, validation = self.training(), self._validation()
        counts = len(training), len(validation)
        if counts != self._reported:
            self._output.report_skipped(training, self.used, validation,
                                        "to train on" if self._splits.split else "")
            self._reported = counts

    def require_usable(self) -> None:
        """Raises an `AocrError` if no record can be used."""
        skipping.require_usable(self.used, self.training())

    def _validation(self) -> list[SkippedRecord]:
        if self._validator is None or self._splits.validation is None:
            return []
        return [*self._splits.validation.skipped, *(self._validator.undecodable or {}).values()]
