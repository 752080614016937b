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
        self._mixed_undecodable: dict[int, SkippedRecord] = {}
        self._reported: tuple[int, int, int] | None = None

    @property
    def used(self) -> int:
        """Number of records to train on that are used."""
        return self._splits.own_count - len(self._undecodable)

    def training(self) -> list[SkippedRecord]:
        """Returns the skipped records of the dataset to train on."""
        return [*self._splits.training.skipped, *self._undecodable.values()]

    def mixed(self) -> list[SkippedRecord]:
        """Returns the skipped records of the datasets that are mixed in."""
        return [*self._splits.mixed_skipped, *self._mixed_undecodable.values()]

    def add_undecodable(self, records: np.ndarray) -> None:
        """Adds records, given by their positions in the index, whose images are undecodable."""
        for n, skipped in pipeline.undecodable(self._splits.training, records).items():
            (self._undecodable if n < self._splits.own_count else self._mixed_undecodable)[n] = (
                skipped)

    def report(self) -> None:
        """Reports the records, if there are more than at the last report."""
        training, mixed, validation = self.training(), self.mixed(), self._validation()
        counts = len(training), len(mixed), len(validation)
        if counts == self._reported:
            return
        if self._reported is not None and len(mixed) > self._reported[1]:
            self._report_mixed(mixed)
        purpose = "to train on" if self._splits.split or self._splits.mixture else ""
        self._output.report_skipped(training, self.used, [*mixed, *validation], purpose)
        self._reported = counts

    def _report_mixed(self, mixed: list[SkippedRecord]) -> None:
        records = len(self._splits.training) - self._splits.own_count
        skipping.report(mixed, records - len(self._mixed_undecodable), "to mix in")

    def require_usable(self) -> None:
        """Raises an `AocrError` if no record can be used."""
        skipping.require_usable(self.used, self.training())

    def _validation(self) -> list[SkippedRecord]:
        if self._validator is None or self._splits.validation is None:
            return []
        return [*self._splits.validation.skipped, *(self._validator.undecodable or {}).values()]
