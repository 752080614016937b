"""The training loop."""

from __future__ import annotations

import math
import signal
import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from aocr.config import FLOAT32, TrainConfig
from aocr.data import pipeline
from aocr.data.index import numbers_by_path
from aocr.data.sampler import BatchPlan, Position
from aocr.errors import AocrError
from aocr.runtime.console import log
from aocr.runtime.distributed import Cluster
from aocr.training.averaging import PRECISE_BN_BATCHES
from aocr.training.batches import LocalBatch, TrainingBatches
from aocr.training.checkpointing import Checkpointer
from aocr.training.output import Output
from aocr.training.progress import Progress
from aocr.training.signals import SIGNALS, StopRequest
from aocr.training.skipped import SkippedRecords
from aocr.training.state import TrainingState, int_value
from aocr.training.step import StepResult, TrainStep


@dataclass
class TrainingLoop:
    """Takes steps until a run is finished, or until a signal asks it to stop.

    Attributes:
        state: What a step changes.
        train_step: Takes a step.
        batches: The data.
        skipped: The records that are not used.
        checkpointer: Saves the state.
        output: Where scalars are written.
        progress: Where the log lines go.
        settings: Limits of the run, and steps between two checkpoints.
        stop: Whether a signal has asked for the end.
        cluster: The processes, all of which run this loop.
        stopped_by: Number of the signal that ended the run, or 0.
        unsaved: Whether there was a step since the last checkpoint.
        recent: Positions of the batches that the next recalibration of batch norm may use.
    """

    state: TrainingState
    train_step: TrainStep
    batches: TrainingBatches
    skipped: SkippedRecords
    checkpointer: Checkpointer
    output: Output
    progress: Progress
    settings: TrainConfig
    stop: StopRequest
    cluster: Cluster
    stopped_by: int = 0
    unsaved: bool = False
    recent: deque[Position] = field(default_factory=lambda: deque(maxlen=PRECISE_BN_BATCHES))

    def run(self) -> int:
        """Runs the remaining steps; returns the number of the signal that ended them, or 0."""
        self.skipped.report()
        with self.progress:
            self._validate_missed()
            if self._is_finished():
                log.info("Nothing is left to do: give a larger --num-epoch, --max-steps or "
                         "--early-stop.")
            else:
                self._train()
            if self.unsaved:
                self._save()
        self.skipped.report()
        self.progress.log_end(self.state, self.skipped, self.output.path, bool(self.stopped_by))
        return self.stopped_by

    def _is_finished(self) -> bool:
        max_steps, patience = self.settings.max_steps, self.settings.patience
        return (int_value(self.state.epoch) >= self.settings.num_epoch
                or (max_steps is not None and int_value(self.state.step) >= max_steps)
                or (patience is not None and int_value(self.state.best.waited) >= patience))

    def _train(self) -> None:
        position = self.state.data_position
        start = time.perf_counter()
        for local in self.batches.read_from(position, self.state.resume.recent):
            waited = time.perf_counter() - start
            self.progress.history.seconds["input"] += waited
            undecodable = self._agree(local)
            if self.stopped_by:
                log.info(f"{signal.Signals(self.stopped_by).name}: stopping after this step.")
                break
            decodable = undecodable < len(local.plan.records)
            if local.plan.end > position:
                self.progress.show_epoch(local.plan.epoch)
                self.state.data_position = local.plan.end
                if decodable:
                    self._step(local, start, waited)
            elif decodable:
                self._remember(local)
            start = time.perf_counter()
            if int_value(self.state.position) == 0:
                self.skipped.report()
                self.skipped.require_usable()
            if self._is_finished():
                break

    def _agree(self, local: LocalBatch) -> int:
        """Combines the signals and the undecodable images of all processes.

        Returns:
            The number of undecodable images in the global batch.
        """
        signals = [float(self.stop.signal == number) for number in SIGNALS]
        votes = self.cluster.all_reduce_sum(np.concatenate([signals, local.is_undecodable()]))
        self.stopped_by = next((int(number) for number, vote in zip(SIGNALS, votes, strict=False)
                                if vote), 0)
        undecodable = local.plan.records[votes[len(SIGNALS):] > 0]
        self.skipped.add_undecodable(undecodable)
        return len(undecodable)

    def _remember(self, local: LocalBatch) -> None:
        """Keeps a batch that was used before the run was resumed."""
        batch = pipeline.fill_undecodable(local.batch, local.records, self.cluster.local_replicas)
        self.train_step.remember(batch)
        self.recent.append(local.plan.start)

    def _step(self, local: LocalBatch, start: float, waited: float) -> None:
        batch = pipeline.fill_undecodable(local.batch, local.records, self.cluster.local_replicas)
        result = self.train_step.run(batch, self.batches.index.width[local.plan.records])
        self.recent.append(local.plan.start)
        seconds = time.perf_counter() - start
        if not (math.isfinite(result.loss) and math.isfinite(result.gradient_norm)):
            raise self._not_finite_error(result, local.plan)
        self.progress.log_step(result.loss, seconds, len(local.plan.records), waited)
        step = int_value(self.state.step)
        self.output.scalars(step, {
            "loss": result.loss, "total_gradient_norm": result.gradient_norm,
            "learning_rate": float(self.state.rate.at(self.state.step - 1).numpy())})
        self.unsaved = True
        if step % self.settings.steps_per_checkpoint == 0:
            self._save()

    def _save(self) -> None:
        if int_value(self.state.step) % self.settings.steps_per_checkpoint == 0:
            self.recent.clear()  # later recalibrations of batch norm use later batches only
        self.state.resume.recent = self.recent[0] if self.recent else self.state.data_position
        with self.stop.defer_sigterm():
            if self.stopped_by:  # a stopped run must end within seconds: no validation
                self.checkpointer.save()
            else:
                self.checkpointer.validate_and_save()
        self.unsaved = False

    def _validate_missed(self) -> None:
        with self.stop.defer_sigterm():
            self.checkpointer.validate_missed()

    def _not_finite_error(self, result: StepResult, plan: BatchPlan) -> AocrError:
        records = ", ".join(
            f"{path} records {' '.join(map(str, sorted(numbers)))}" for path, numbers in
            numbers_by_path(self.batches.index, plan.records).items())
        hint = (f", or --precision {FLOAT32}"
                if self.settings.precision != FLOAT32 else "")
        return AocrError(
            f"the loss is {result.loss} and the norm of the gradients {result.gradient_norm} at "
            f"step {int_value(self.state.step)}, in the batch of {records}; {self.output.kept}; "
            f"{self.state.lower_rate_advice()}{hint}")
