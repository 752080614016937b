"""The training loop: batches, step, log line, validation, checkpoint."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from aocr import batches, checkpoint, configfile, lock, metrics, records, skips, store, transfer
from aocr.charmap import CharMap
from aocr.checkpoint import Loaded
from aocr.config import ModelConfig, TrainConfig
from aocr.console import bar, log, on_bar
from aocr.errors import AocrError, reason
from aocr.events import EventFile
from aocr.reader import Reader
from aocr.records import Index, Skipped
from aocr.stopping import Stop, stoppable
from aocr.store import Store
from aocr.trainer import Trainer
from aocr.validate import Scores, Validator


class Start(NamedTuple):
    """What a training begins with.

    Attributes:
        resume: Go on from the newest checkpoint of the folder, if there is one.
        strict: Refuse a damaged checkpoint instead of taking the one before it.
        weights: A model to take the first weights from, where the folder is not resumed.
    """

    resume: bool = True
    strict: bool = False
    weights: Loaded | None = None


def train(patterns: Sequence[str], model_dir: str, config: ModelConfig, settings: TrainConfig,
          start: Start) -> int:
    """Trains a model and leaves its checkpoints in a folder.

    Args:
        patterns: Names or globs of TFRecords files.
        model_dir: The folder; made when it is not there.
        config: Sizes of the network; those of the folder when it is resumed.
        settings: How to train.
        start: From what.

    Returns:
        The number of the signal that ended the run, or 0.

    Raises:
        AocrError: No image can be used, the folder does not fit or is taken, or the disk is full.
    """
    images = _images(patterns, config, settings)
    with ExitStack() as stack:
        with _writing(model_dir):
            tf.io.gfile.makedirs(model_dir)
            stack.enter_context(lock.held(model_dir))
        trainer = Trainer(config, settings)
        kept = _open_folder(trainer, model_dir, config, settings, start)
        reader = Reader(config, trainer.model, settings.max_pixels)
        validator = (Validator(images.validation, reader, settings.batch_size)
                     if images.validation is not None else None)
        with _writing(model_dir):
            events = stack.enter_context(EventFile(model_dir))
        stop = stack.enter_context(stoppable())
        folder = _Folder(model_dir, kept, events)
        _Run(trainer, images.training, config, settings, validator, folder, stop).to_the_end()
    return stop.signal or 0


class _Images(NamedTuple):
    """What is learned, and what is only read to see how well it goes."""

    training: Index
    validation: Index | None


def _images(patterns: Sequence[str], config: ModelConfig, settings: TrainConfig) -> _Images:
    """Finds the images.

    Raises:
        AocrError: Nothing is left to train or to validate on.
    """
    characters = CharMap(config.alphabet)
    index = records.index(records.find(patterns), config, characters, settings.max_pixels)
    skips.require_some(len(index), index.skipped)
    if settings.val:
        validation = records.index(records.find(settings.val), config, characters,
                                   settings.max_pixels)
        skips.report(validation.skipped, len(validation), None, "to validate on")
        skips.require_some(len(validation), validation.skipped)
        return _Images(index, validation)
    if not settings.val_split:
        return _Images(index, None)
    training, validation = records.split(index, settings.val_split)
    if not len(training) or not len(validation):
        raise AocrError(f"--val-split {settings.val_split} leaves {len(training)} images to train "
                        f"and {len(validation)} to validate on; choose another share, or give "
                        "--val DATASET")
    log.info(f"Validating on {len(validation)} of the {len(index)} images, which are not learned.")
    return _Images(training, validation)


class _Folder(NamedTuple):
    """Where everything goes."""

    path: str
    store: Store
    events: EventFile


@dataclass
class _Averages:
    """Means over the steps since the last checkpoint."""

    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def line(self, step: int) -> str:
        loss = float(np.mean(self.losses))
        return (f"Global step {step}. Time: {np.mean(self.seconds):.3f}s, loss: {loss:.6f}, "
                f"perplexity: {metrics.perplexity(loss):.2f}.")


@dataclass
class _Run:
    """One process's part of a training."""

    trainer: Trainer
    index: Index
    config: ModelConfig
    settings: TrainConfig
    validator: Validator | None
    folder: _Folder
    stop: Stop
    steps: int = 0
    averages: _Averages = field(default_factory=_Averages)
    undecodable: dict[int, Skipped] = field(default_factory=dict)
    reported: int = 0
    validated: str = ""
    begun: float = field(default_factory=time.perf_counter)

    def to_the_end(self) -> None:
        """All epochs that are left."""
        self._report_skipped()
        total = -(-len(self.index) // self.settings.batch_size) * self.settings.num_epoch
        total = min(total, self.settings.max_steps or total)
        with bar(total=total, initial=int(self.trainer.step), unit="step") as progress:
            if self._finished():
                log.info("There is nothing left to do: give a larger --num-epoch or --max-steps.")
            else:
                self._go_on(progress)
            if self.averages.losses:
                self._save(progress)
        self._report_skipped()
        log.info(self._farewell())

    def _finished(self) -> bool:
        most, patience = self.settings.max_steps, self.settings.early_stop
        return (bool(self.stop) or int(self.trainer.epoch) >= self.settings.num_epoch
                or (most is not None and int(self.trainer.step) >= most)
                or (patience is not None and int(self.trainer.best.waited) >= patience))

    def _go_on(self, progress: Any) -> None:  # noqa: ANN401
        """Takes batches until the run is finished."""
        # One pipeline for all epochs: the next one is being read while this one ends.
        data = batches.load(self.index, (planned.records for planned in self._plan()),
                            CharMap(self.config.alphabet), self.config)
        begun = time.perf_counter()
        for planned, batch in zip(self._plan(), batches.each(data), strict=False):
            progress.set_description(f"epoch {planned.epoch + 1}", refresh=False)
            self.undecodable.update(batches.undecodable(self.index, planned.records, batch))
            self._advance(planned)
            if len(batch["records"]):
                self._step(batch, progress, begun)
            begun = time.perf_counter()
            if int(self.trainer.position) == 0:
                self._report_skipped()
                skips.require_some(len(self.index) - len(self.undecodable), self._skipped())
            if self.stop.signal is not None:
                log.info(f"{signal.Signals(self.stop.signal).name}: ending after this step.")
            if self._finished():
                break

    def _plan(self) -> Iterator[batches.Planned]:
        return batches.endless(self.index, self.settings.batch_size, self.settings.seed,
                               int(self.trainer.epoch), int(self.trainer.position))

    def _advance(self, planned: batches.Planned) -> None:
        """Moves on before the step, so that its checkpoint says where the next one begins."""
        ended = planned.position == len(self.index)
        self.trainer.epoch.assign(planned.epoch + ended)
        self.trainer.position.assign(0 if ended else planned.position)

    def _skipped(self) -> list[Skipped]:
        return self.index.skipped + list(self.undecodable.values())

    def _report_skipped(self) -> None:
        """Tells what is skipped: at first, and when decoding has found more of it."""
        found = self._skipped()
        if len(found) > self.reported or not self.steps:
            with _writing(self.folder.path):
                skips.report(found, len(self.index) - len(self.undecodable), self.folder.path)
            self.reported = len(found)

    def _step(self, batch: batches.Batch, progress: Any, begun: float) -> None:  # noqa: ANN401
        loss, norm = self.trainer.take_step(batch)
        step, seconds = int(self.trainer.step), time.perf_counter() - begun
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise self._not_finite(loss, norm, batch)
        self.steps += 1
        on_bar(f"Step {self.steps}: {seconds:.3f}s, loss: {loss:.6f}, "
               f"perplexity: {metrics.perplexity(loss):.6f}.")
        progress.set_postfix_str(
            f"loss {loss:.4f}, {batch['widths'].shape[0] / seconds:.0f} images/s"
            + self.validated, refresh=False)
        progress.update()
        with _writing(self.folder.path):
            self.folder.events.scalars(step, {"loss": loss, "total_gradient_norm": norm})
        self.averages.seconds.append(seconds)
        self.averages.losses.append(loss)
        if step % self.settings.steps_per_checkpoint == 0:
            self._save(progress)

    def _not_finite(self, loss: float, norm: float, batch: batches.Batch) -> AocrError:
        where = ", ".join(
            f"{path} records {' '.join(map(str, sorted(numbers)))}" for path, numbers in
            records.grouped(self.index, batch["records"].numpy()).items())
        return AocrError(
            f"the loss is {loss} and the norm of the gradients {norm} at step "
            f"{int(self.trainer.step)}, in the batch of {where}; the last good checkpoint is "
            f"{self.folder.store.latest}; a lower --initial-learning-rate may help")

    def _save(self, progress: Any) -> None:  # noqa: ANN401
        step = int(self.trainer.step)
        log.info(self.averages.line(step))
        self.averages = _Averages()
        self.trainer.settle()
        if self.validator is not None:
            progress.set_postfix_str("validating")
            self._take_scores(self.validator.run(), step)
        log.info(f"Saving the model at step {step}.")
        self.folder.store.save()
        with _writing(self.folder.path):
            self.folder.events.flush()

    def _take_scores(self, scores: Scores, step: int) -> None:
        """Notes a validation before the checkpoint, which then knows of it."""
        log.info(scores.line(step))
        with _writing(self.folder.path):
            self.folder.events.scalars(step, scores.scalars())
        self.validated = f", validation {scores.word_accuracy:.2%} CER {scores.cer:.2%}"
        best = self.trainer.best
        if best.take(scores.word_accuracy, scores.cer, step):
            self.folder.store.save_best()
        elif int(best.waited) == self.settings.early_stop:
            log.info(f"No gain in {int(best.waited)} validations since step {int(best.step)}: "
                     "ending (--early-stop).")

    def _farewell(self) -> str:
        minutes, seconds = divmod(round(time.perf_counter() - self.begun), 60)
        used = len(self.index) - len(self.undecodable)
        words = [f"Ended at step {int(self.trainer.step)}, after {int(self.trainer.epoch)} whole "
                 f"epochs; {self.steps} steps in {minutes} min {seconds} s on {used} images, "
                 f"{len(self._skipped())} skipped; the model is in {self.folder.path}."]
        best = self.trainer.best
        if float(best.word_accuracy) >= 0:
            words.append(f"Best word accuracy {float(best.word_accuracy):.2%} at step "
                         f"{int(best.step)}, in {checkpoint.best_dir(self.folder.path)}.")
        words.append(f"Next: aocr test DATASET --model-dir {self.folder.path}")
        return " ".join(words)


def _open_folder(trainer: Trainer, model_dir: str, config: ModelConfig, settings: TrainConfig,
                 start: Start) -> Store:
    """Restores what is there, or starts the folder."""
    if start.resume and checkpoint.started(model_dir):
        paths = checkpoint.candidates(model_dir, "latest")
        path = checkpoint.restore(trainer.checkpoint, paths, start.strict)
        log.info(f"Reading model parameters from {path}")
        log.info(f"Going on at step {int(trainer.step)}, epoch {int(trainer.epoch) + 1}.")
    else:
        if checkpoint.started(model_dir):
            log.info(f"Starting anew in {model_dir}; its earlier checkpoints are no longer used.")
        if start.weights is not None:
            transfer.copy(start.weights, trainer.model, config)
        with _writing(model_dir):
            store.clear(model_dir)
            configfile.save(model_dir, config)
    with _writing(model_dir):
        store.clear_unfinished(model_dir)
    return Store(trainer, model_dir, config, settings.keep)


@contextmanager
def _writing(model_dir: str) -> Iterator[None]:
    """Makes one line of what the disk refuses."""
    try:
        yield
    except (tf.errors.OpError, OSError) as error:
        raise AocrError(f"cannot write to the model folder {model_dir}: {reason(error)}; what was "
                        "saved before is intact; mend the disk, or name another --model-dir"
                        ) from error
