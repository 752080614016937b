"""Progress of a training run: log lines, the progress bar, running means, the closing line."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np

from aocr.checkpoints import directory
from aocr.evaluation import metrics
from aocr.runtime.console import log, log_beside_bar, on_terminal, progress_bar
from aocr.training import summary
from aocr.training.skipped import SkippedRecords
from aocr.training.state import TrainingState, int_value
from aocr.training.summary import RunHistory
from aocr.training.validation import Scores


@dataclass
class RunningMeans:
    """Means over the steps since the last checkpoint."""

    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def add(self, seconds: float, loss: float) -> None:
        """Adds a step."""
        self.seconds.append(seconds)
        self.losses.append(loss)

    def line(self, step: int) -> str:
        """Returns the log line of these steps."""
        loss = float(np.mean(self.losses))
        return (f"Global step {step}. Time: {np.mean(self.seconds):.3f}s, loss: {loss:.6f}, "
                f"perplexity: {metrics.perplexity(loss):.2f}.")


class Progress:
    """Log lines and progress bar of one run; a `with` statement closes the bar.

    Args:
        total: Number of steps at the end of the run.
        initial: Number of steps before the run.

    Attributes:
        history: What the run has done so far.
    """

    def __init__(self, total: int, initial: int) -> None:
        self._bar = progress_bar(total=total, initial=initial, unit="step")
        self.history = RunHistory()
        self._means = RunningMeans()
        self._validation = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._bar.close()

    def show_epoch(self, epoch: int) -> None:
        """Shows the number of the epoch, from 0, on the bar."""
        self._bar.set_description(f"epoch {epoch + 1}", refresh=False)

    def log_step(self, loss: float, seconds: float, images: int, waited: float) -> None:
        """Logs a step.

        Args:
            loss: Its loss.
            seconds: Its duration, including that of its input.
            images: Number of images in its batch.
            waited: How long it waited for its input, in seconds.
        """
        self.history.add_step(loss, images, seconds - waited)
        self._means.add(seconds, loss)
        log_beside_bar(f"Step {len(self.history.losses)}: {seconds:.3f}s, loss: {loss:.6f}, "
                       f"perplexity: {metrics.perplexity(loss):.6f}.")
        self._bar.set_postfix_str(
            f"loss {loss:.4f}, {images / seconds:.0f} images/s{self._validation}", refresh=False)
        self._bar.update()

    def log_means(self, step: int) -> None:
        """Logs means over the steps since the last call."""
        log.info(self._means.line(step))
        self._means = RunningMeans()

    def show_validating(self) -> None:
        """Shows on the bar that a validation is running."""
        self._bar.set_postfix_str("validating")

    def log_validation(self, scores: Scores, step: int) -> None:
        """Logs a validation."""
        log.info(scores.line(step))
        self.history.accuracies.append(scores.word_accuracy)
        shown = f"validation {scores.word_accuracy:.2%} CER {scores.cer:.2%}"
        self._bar.set_postfix_str(shown)
        self._validation = f", {shown}"

    def log_end(self, state: TrainingState, skipped: SkippedRecords, model_dir: str,
                stopped: bool) -> None:
        """Logs the closing line of the run, and shows its summary on a terminal.

        Args:
            state: The state at the end.
            skipped: The used and skipped records.
            model_dir: The model directory.
            stopped: Whether a signal ended the run.
        """
        if not int_value(state.step):
            log.info("Stopped before the first step; there is no checkpoint yet.")
            return
        elapsed = time.perf_counter() - self.history.start
        minutes, seconds = divmod(round(elapsed), 60)
        sentences = [
            f"{'Stopped' if stopped else 'Finished'} at step {int_value(state.step)}, after "
            f"{int_value(state.epoch)} complete epochs; {len(self.history.losses)} steps in "
            f"{minutes} min {seconds} s on {skipped.used} images, {len(skipped.training())} "
            f"skipped; the model is in {model_dir}."]
        best, best_dir = state.best, directory.best_dir(model_dir)
        if best.word_accuracy.numpy() >= 0:
            sentences.append(
                f"Best word accuracy {best.word_accuracy.numpy():.2%} at step "
                f"{int_value(best.step)}, in {best_dir}.")
        next_command = f"aocr test DATASET --model-dir {model_dir}"
        sentences.append(f"Next: {next_command}")
        log.info(" ".join(sentences))
        if self.history.losses and on_terminal():
            with contextlib.suppress(OSError):  # the terminal was closed, which is no failure
                summary.show(self.history, elapsed, best, best_dir, next_command)
