"""The batches of a training run, of which every process reads its share."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aocr.config import ModelConfig, TrainConfig
from aocr.data import pipeline, sampler
from aocr.data.index import RecordIndex
from aocr.data.pipeline import Augmentation, Batch, BatchRecords
from aocr.data.sampler import BatchPlan, Mixture
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
        return -(-len(self._epoch_records) // self._batch_size)

    def read_from(self, epoch: int, position: int) -> Iterator[LocalBatch]:
        """Yields the batches from a position in an epoch on.

        Args:
            epoch: Number of the epoch, from 0.
            position: Number of records of that epoch that were used.
        """
        # One pipeline serves all epochs, so that the next one is read while the current one ends.
        local_plans = (BatchRecords(plan.epoch, self._local_records(plan))
                       for plan in self._plans(epoch, position))
        data = pipeline.make_training_pipeline(
            self.index, local_plans, self.tokenizer, self.config,
            Augmentation(self.settings.augment, self.settings.seed))
        plans = self._plans(epoch, position)
        for plan, batch in zip(plans, pipeline.iterate(data), strict=False):
            yield LocalBatch(plan, self._local_records(plan), batch)

    def _plans(self, epoch: int, position: int) -> Iterator[BatchPlan]:
        plans = sampler.training_batches(self._epoch_records, self._batch_size,
                                         self.settings.seed, epoch, position)
        return plans if self.mixture is None else (
            sampler.mixed_batches(self.index, self.mixture, plans))

    @property
    def _batch_size(self) -> int:
        """Maximum number of records in a batch, besides those of the mixture."""
        return self.settings.batch_size - (self.mixture.per_batch if self.mixture else 0)

    @functools.cached_property
    def _epoch_records(self) -> RecordIndex:
        """The records that make up an epoch."""
        if self.mixture is None:
            return self.index
        return self.index.subset(np.arange(len(self.index)) < self.mixture.start)

    def _local_records(self, plan: BatchPlan) -> np.ndarray:
        return plan.records[self.cluster.local_rows(len(plan.records))]
