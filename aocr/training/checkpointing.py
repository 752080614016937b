"""Saves a training run: precise batch norm, validation, the best weights, the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from aocr.config import TrainConfig
from aocr.runtime.console import log
from aocr.training.output import Output
from aocr.training.progress import Progress
from aocr.training.state import TrainingState, int_value
from aocr.training.step import TrainStep
from aocr.training.validation import Validator


@dataclass(frozen=True)
class Checkpointer:
    """Saves the state of a run; all processes must call it.

    Attributes:
        state: What is saved.
        train_step: Recalibrates batch norm.
        validator: Scores the averaged weights; `None` for no validation.
        output: Where the checkpoints are written.
        progress: Where the log lines go.
        settings: After how many validations without improvement the run stops.
    """

    state: TrainingState
    train_step: TrainStep
    validator: Validator | None
    output: Output
    progress: Progress
    settings: TrainConfig

    def save(self) -> None:
        """Saves a checkpoint."""
        self._prepare()
        self._write()

    def validate_and_save(self) -> None:
        """Validates the averaged weights, if there is a validation, and saves a checkpoint."""
        self._prepare()
        if self.validator is not None:
            self._validate(self.validator)
        self._write()

    def validate_missed(self) -> None:
        """Runs the validation that a signal prevented at the checkpoint that a run resumes from.

        The checkpoint is not written again: until the next one, a resumed run repeats the
        validation, with the same result.
        """
        due = int_value(self.state.resume.due)
        if self.validator is not None and due and due == int_value(self.state.step):
            self._validate(self.validator)

    def _prepare(self) -> None:
        self.progress.log_means(int_value(self.state.step))
        with self.progress.history.measure("saving"):
            self.train_step.recalibrate_batch_norm()

    def _write(self) -> None:
        log.info(f"Saving the model at step {int_value(self.state.step)}.")
        with self.progress.history.measure("saving"):
            self.output.save()

    def _validate(self, validator: Validator) -> None:
        """Validates before the checkpoint is written, because it holds the best validation."""
        step, best = int_value(self.state.step), self.state.best
        self.state.resume.due.assign(step)
        self.progress.show_validating()
        with self.progress.history.measure("validation"):
            scores = validator.run()
        if scores is None:
            log.info("The validation is not finished, because the run has been asked to stop.")
            return
        self.progress.log_validation(scores, step)
        self.output.scalars(step, scores.scalars())
        self.output.calibrate(scores.temperature)
        self.state.resume.due.assign(0)
        if best.update(scores.word_accuracy, scores.cer, step):
            with self.progress.history.measure("saving"):
                self.output.save_best()
        elif not self.state.curriculum.is_active(step):
            self._log_plateau(best.wait())

    def _log_plateau(self, waited: int) -> None:
        """Logs the end of the run, which the loop then stops, if it has waited long enough."""
        if waited == self.settings.patience:
            log.info(f"No improvement in {waited} validations; the best one is that of step "
                     f"{int_value(self.state.best.step)}: stopping (--early-stop).")
