"""What a resumed run needs, besides weights and counters, to repeat an uninterrupted one."""

from __future__ import annotations

import tensorflow as tf

from aocr.data.sampler import Position


class ResumeState(tf.Module):
    """The records of a run, and what it had not finished at a checkpoint; all variables int64.

    Attributes:
        training: Checksum of the records to train on, and of their order; 0 before the run has
            started.
        validation: Checksum of the records to validate on; 0 for none.
        due: Step of a validation that has started and is not complete; 0 for none.
        recent_epoch: With `recent_records`, the position of the oldest batch that the next
            recalibration of batch norm may use.
        recent_records: See `recent_epoch`.
    """

    def __init__(self) -> None:
        super().__init__()
        (self.training, self.validation, self.due, self.recent_epoch,
         self.recent_records) = (
            tf.Variable(0, dtype=tf.int64, trainable=False) for _ in range(5))

    @property
    def recent(self) -> Position:
        """Position of the oldest batch that the next recalibration of batch norm may use."""
        return Position(int(self.recent_epoch.numpy()), int(self.recent_records.numpy()))

    @recent.setter
    def recent(self, position: Position) -> None:
        self.recent_epoch.assign(position.epoch)
        self.recent_records.assign(position.records)
