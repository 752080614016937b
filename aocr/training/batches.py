"""The batches of a training run, of which every process reads its share."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aocr.config import ModelConfig, TrainConfig
from aocr.data import pipeline, sampler
from aocr.data.index import RecordIndex
from aocr.data.pipeline import Augmentation, Batch, BatchRecords
from aocr.data.sampler import BatchPlan, Mixture, Position
from aocr.runtime.distributed import Cluster
from aocr.tokenizer import Tokenizer


class LocalBatch(NamedTuple):
    """The part of a global batch that this process reads.

    Attributes:
        plan: The global batch.
        records: Positions in the index of the records of this process.
        batch: Those of them whose images can be decoded.
    """

    plan: BatchPlan
    records: np.ndarray
    batch: Batch

    def is_undecodable(self) -> np.ndarray:
        """Returns which records of the global batch this process cannot decode, `[rows]` bool."""
        return np.isin(self.plan.records, pipeline.undecoded(self.records, self.batch))


@dataclass(frozen=True)
class TrainingBatches:
    """Reads the batches of one epoch after the other, without end.

    Attributes:
        index: The records to train on; those of the mixture are the last ones.
        tokenizer: Encodes the labels.
        config: Size and channels of the images.
        settings: Batch size, augmentation and seed.
        cluster: The processes that share every batch.
        mixture: Which records are mixed into every batch; `None` for none.
    """

    index: RecordIndex
    tokenizer: Tokenizer
    config: ModelConfig
    settings: TrainConfig
    cluster: Cluster
    mixture: Mixture | None = None

    @property
    def per_epoch(self) -> int:
        """Number of batches in an epoch."""
        if self.mixture is not None:
            return self.mixture.batches_per_epoch
        return -(-len(self.index) // self.settings.batch_size)

    def read_from(self, position: Position, recent: Position) -> Iterator[LocalBatch]:
        """Yields the batches from a position on, after those that a resumed run reads again.

        Args:
            position: The position.
            recent: Position of the first batch to read again.
        """
        # One pipeline serves all epochs, so that the next one is read while the current one ends.
        local_plans = map(self._batch_records, self._plans(position, recent))
        data = pipeline.make_training_pipeline(
            self.index, local_plans, self.tokenizer, self.config,
            Augmentation(self.settings.augment, self.settings.seed))
        plans = self._plans(position, recent)
        for plan, batch in zip(plans, pipeline.iterate(data), strict=False):
            yield LocalBatch(plan, self._local_records(plan), batch)

    def _plans(self, position: Position, recent: Position) -> Iterator[BatchPlan]:
        again = itertools.takewhile(lambda plan: plan.end <= position, self._plans_from(recent))
        return itertools.chain(again, self._plans_from(position))

    def _plans_from(self, position: Position) -> Iterator[BatchPlan]:
        seed, mixture = self.settings.seed, self.mixture
        if mixture is None:
            return sampler.training_batches(self.index, self.settings.batch_size, seed, position)
        plans = sampler.training_batches(
            self._unmixed_records, mixture.own_per_batch, seed, position)
        return sampler.mixed_batches(self.index, mixture, plans)

    @functools.cached_property
    def _unmixed_records(self) -> RecordIndex:
        """The records without those of the mixture."""
        count = len(self.index) if self.mixture is None else self.mixture.start
        return self.index.first(count)

    def _batch_records(self, plan: BatchPlan) -> BatchRecords:
        """Returns the records of this process; those of a mixture may be used in every batch."""
        batch = BatchRecords.of_epoch(self._local_records(plan), plan.epoch)
        if self.mixture is not None:
            batch.uses[batch.records >= self.mixture.start] = (
                plan.epoch * self.mixture.batches_per_epoch + plan.number)
        return batch

    def _local_records(self, plan: BatchPlan) -> np.ndarray:
        return plan.records[self.cluster.local_rows(len(plan.records))]
