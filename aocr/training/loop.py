"""The training loop: batches, step, log line, validation, checkpoint."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aocr.checkpoints import directory
from aocr.config import ModelConfig, TrainConfig
from aocr.data import pipeline, sampler, skipping
from aocr.data.index import RecordIndex, numbers_by_path
from aocr.data.skipping import SkippedRecord
from aocr.data.splits import Splits
from aocr.errors import AocrError
from aocr.evaluation import metrics
from aocr.runtime.console import bar, log, on_bar
from aocr.runtime.distributed import Cluster
from aocr.tokenizer import Tokenizer
from aocr.training.output import NullOutput
from aocr.training.progress import RunningMeans, precision_hint
from aocr.training.signals import SIGNALS, StopRequest
from aocr.training.state import int_value
from aocr.training.step import Trainer
from aocr.training.validation import Scores, Validator


@dataclass
class TrainingLoop:
    """One process's part of a training."""

    trainer: Trainer
    images: Splits
    config: ModelConfig
    settings: TrainConfig
    tokenizer: Tokenizer
    validator: Validator | None
    folder: NullOutput
    stop: StopRequest
    cluster: Cluster
    ended_by: int = 0
    steps: int = 0
    averages: RunningMeans = field(default_factory=RunningMeans)
    undecodable: dict[int, SkippedRecord] = field(default_factory=dict)
    reported: int = -1
    validated: str = ""
    begun: float = field(default_factory=time.perf_counter)

    @property
    def index(self) -> RecordIndex:
        """What is learned."""
        return self.images.training

    def to_the_end(self) -> int:
        """All epochs that are left; returns the signal that ended them, or 0."""
        self._report_skipped()
        total = -(-len(self.index) // self.settings.batch_size) * self.settings.num_epoch
        total = min(total, self.settings.max_steps or total)
        with bar(total=total, initial=int_value(self.trainer.step), unit="step") as progress:
            if self._finished():
                log.info("There is nothing left to do: give a larger --num-epoch or --max-steps, "
                         "or a larger --early-stop or none.")
            else:
                self._go_on(progress)
            if self.averages.losses:
                self._save(progress)
        self._report_skipped()
        log.info(self._farewell())
        return self.ended_by

    def _finished(self) -> bool:
        most, patience = self.settings.max_steps, self.settings.early_stop
        return (int_value(self.trainer.epoch) >= self.settings.num_epoch
                or (most is not None and int_value(self.trainer.step) >= most)
                or (patience is not None and int_value(self.trainer.best.waited) >= patience))

    def _go_on(self, progress: Any) -> None:  # noqa: ANN401
        """Takes batches until the run is finished, or somebody asks for its end."""
        # One pipeline for all epochs: the next one is being read while this one ends.
        data = pipeline.make_pipeline(self.index, (self._own(planned) for planned in self._plan()),
                            self.tokenizer, self.config)
        begun = time.perf_counter()
        for planned, batch in zip(self._plan(), pipeline.iterate(data), strict=False):
            lost = self._agree(planned, batch)
            if self.ended_by:
                log.info(f"{signal.Signals(self.ended_by).name}: ending after this step.")
                break
            progress.set_description(f"epoch {planned.epoch + 1}", refresh=False)
            self._advance(planned)
            if lost < len(planned.records):
                self._step(planned, batch, progress, begun)
            begun = time.perf_counter()
            if int_value(self.trainer.position) == 0:
                self._report_skipped()
                skipping.require_usable(len(self.index) - len(self.undecodable), self._skipped())
            if self._finished():
                break

    def _own(self, planned: sampler.BatchPlan) -> np.ndarray:
        """The records of a batch that this process reads."""
        return planned.records[self.cluster.local_rows(len(planned.records))]

    def _agree(self, planned: sampler.BatchPlan, batch: pipeline.Batch) -> int:
        """Tells all processes what this one has met: a signal, or images that it cannot decode.

        Returns:
            How many images of the whole batch cannot be decoded.
        """
        lost = np.isin(planned.records, pipeline.undecoded(self._own(planned), batch))
        asked = [float(self.stop.signal == each) for each in SIGNALS]
        votes = self.cluster.all_reduce_sum(np.concatenate([asked, lost]))
        self.ended_by = next((int(each) for each, vote in zip(SIGNALS, votes, strict=False)
                              if vote), 0)
        gone = planned.records[votes[len(SIGNALS):] > 0]
        self.undecodable.update(pipeline.undecodable(self.index, gone))
        return len(gone)

    def _plan(self) -> Iterator[sampler.BatchPlan]:
        return sampler.training_batches(self.index, self.settings.batch_size, self.settings.seed,
                               int_value(self.trainer.epoch), int_value(self.trainer.position))

    def _advance(self, planned: sampler.BatchPlan) -> None:
        """Moves on before the step, so that its checkpoint says where the next one begins."""
        ended = planned.position == len(self.index)
        self.trainer.epoch.assign(planned.epoch + ended)
        self.trainer.position.assign(0 if ended else planned.position)

    def _skipped(self) -> list[SkippedRecord]:
        return self.index.skipped + list(self.undecodable.values())

    def _report_skipped(self) -> None:
        """Tells what is skipped: at first, and when decoding has found more of it."""
        found = self._skipped()
        if len(found) > self.reported:
            used = len(self.index) - len(self.undecodable)
            self.folder.report(found, used, self._not_validated(),
                               "to train on" if self.images.split else "")
            self.reported = len(found)

    def _not_validated(self) -> list[SkippedRecord]:
        """What cannot be validated on, for the list."""
        if self.validator is None or self.images.validation is None:
            return []
        return [*self.images.validation.skipped, *(self.validator.undecodable or {}).values()]

    def _step(self, planned: sampler.BatchPlan, batch: pipeline.Batch, progress: Any,  # noqa: ANN401
              begun: float) -> None:
        whole = pipeline.fill_undecodable(batch, self._own(planned), self.cluster.local_replicas)
        loss, norm = self.trainer.take_step(whole, self.index.width[planned.records])
        step, seconds = int_value(self.trainer.step), time.perf_counter() - begun
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise self._not_finite(loss, norm, planned)
        self.steps += 1
        on_bar(f"Step {self.steps}: {seconds:.3f}s, loss: {loss:.6f}, "
               f"perplexity: {metrics.perplexity(loss):.6f}.")
        progress.set_postfix_str(
            f"loss {loss:.4f}, {len(planned.records) / seconds:.0f} images/s"
            + self.validated, refresh=False)
        progress.update()
        self.folder.scalars(step, {"loss": loss, "total_gradient_norm": norm})
        self.averages.seconds.append(seconds)
        self.averages.losses.append(loss)
        if step % self.settings.steps_per_checkpoint == 0:
            self._save(progress)

    def _not_finite(self, loss: float, norm: float, planned: sampler.BatchPlan) -> AocrError:
        where = ", ".join(
            f"{path} records {' '.join(map(str, sorted(numbers)))}" for path, numbers in
            numbers_by_path(self.index, planned.records).items())
        return AocrError(
            f"the loss is {loss} and the norm of the gradients {norm} at step "
            f"{int_value(self.trainer.step)}, in the batch of {where}; {self.folder.kept}; a "
            f"lower --initial-learning-rate may help{precision_hint(self.settings)}")

    def _save(self, progress: Any) -> None:  # noqa: ANN401
        step = int_value(self.trainer.step)
        log.info(self.averages.line(step))
        self.averages = RunningMeans()
        self.trainer.settle()
        # Who ends a training may wait for seconds only, and asks for no judgement.
        if self.validator is not None and not self.ended_by:
            progress.set_postfix_str("validating")
            first = self.validator.undecodable is None
            self._take_scores(self.validator.run(), step)
            progress.set_postfix_str(self.validated.removeprefix(", "))
            if first and self.validator.undecodable:
                self.reported = -1
        log.info(f"Saving the model at step {step}.")
        self.folder.save()

    def _take_scores(self, scores: Scores, step: int) -> None:
        """Notes a validation before the checkpoint, which then knows of it."""
        log.info(scores.line(step))
        self.folder.scalars(step, scores.scalars())
        self.validated = f", validation {scores.word_accuracy:.2%} CER {scores.cer:.2%}"
        best = self.trainer.best
        waited = best.take(scores.word_accuracy, scores.cer, step)
        if not waited:
            self.folder.save_best()
        elif waited == self.settings.early_stop:
            log.info(f"No gain in {waited} validations since step {int_value(best.step)}: "
                     "ending (--early-stop).")

    def _farewell(self) -> str:
        minutes, seconds = divmod(round(time.perf_counter() - self.begun), 60)
        used = len(self.index) - len(self.undecodable)
        words = [f"Ended at step {int_value(self.trainer.step)}, after "
                 f"{int_value(self.trainer.epoch)} whole epochs; {self.steps} steps in "
                 f"{minutes} min "
                 f"{seconds} s on {used} images, {len(self._skipped())} skipped; the model is in "
                 f"{self.folder.path}."]
        best = self.trainer.best
        if best.word_accuracy.numpy() >= 0:
            words.append(f"Best word accuracy {best.word_accuracy.numpy():.2%} at step "
                         f"{int_value(best.step)}, in {directory.best_dir(self.folder.path)}.")
        words.append(f"Next: aocr test DATASET --model-dir {self.folder.path}")
        return " ".join(words)
