"""The training loop: batches, step, log line, validation, checkpoint."""

from __future__ import annotations

import math
import signal
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from aocr import batches, checkpoint, folder, metrics, records, sets, skips, transfer
from aocr.charmap import CharMap
from aocr.checkpoint import Loaded
from aocr.cluster import Cluster
from aocr.config import PRECISIONS, ModelConfig, TrainConfig
from aocr.console import bar, log, on_bar
from aocr.errors import AocrError
from aocr.folder import Elsewhere
from aocr.reader import Reader
from aocr.records import Index, Skipped
from aocr.sets import Sets
from aocr.stopping import SIGNALS, Stop, stoppable
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
          start: Start, cluster: Cluster) -> int:
    """Trains a model and leaves its checkpoints in a folder.

    Args:
        patterns: Names or globs of TFRecords files.
        model_dir: The folder; made when it is not there.
        config: Sizes of the network; those of the folder when it is resumed.
        settings: How to train.
        start: From what.
        cluster: On which devices; every process of it calls this with the same arguments.

    Returns:
        The number of the signal that ended the run, or 0.

    Raises:
        AocrError: No image can be used, the folder does not fit or is taken, the disk is full, or
            another process of the cluster has gone.
    """
    images = sets.find(patterns, config, settings)
    with folder.opened(model_dir, cluster.chief) as place, stoppable() as stop, cluster.watched(
            "start all of them again, and they go on from the last checkpoint"):
        trainer = Trainer(config, settings, cluster)
        _begin(trainer, place, config, start)
        if cluster.workers > 1:
            _agree_on_start(trainer, images, (config, settings), cluster)
        place.begin(trainer, config, settings.keep, start.resume)
        reader = Reader(config, trainer.average, settings.max_pixels)
        validator = (Validator(images.validation, reader, settings.batch_size, cluster)
                     if images.validation is not None else None)
        ended_by = _Run(trainer, images, config, settings, validator, place, stop,
                        cluster).to_the_end()
    return ended_by or stop.signal or 0


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
    images: Sets
    config: ModelConfig
    settings: TrainConfig
    validator: Validator | None
    folder: Elsewhere
    stop: Stop
    cluster: Cluster
    ended_by: int = 0
    steps: int = 0
    averages: _Averages = field(default_factory=_Averages)
    undecodable: dict[int, Skipped] = field(default_factory=dict)
    reported: int = -1
    validated: str = ""
    begun: float = field(default_factory=time.perf_counter)

    @property
    def index(self) -> Index:
        """What is learned."""
        return self.images.training

    def to_the_end(self) -> int:
        """All epochs that are left; returns the signal that ended them, or 0."""
        self._report_skipped()
        total = -(-len(self.index) // self.settings.batch_size) * self.settings.num_epoch
        total = min(total, self.settings.max_steps or total)
        with bar(total=total, initial=_number(self.trainer.step), unit="step") as progress:
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
        return (_number(self.trainer.epoch) >= self.settings.num_epoch
                or (most is not None and _number(self.trainer.step) >= most)
                or (patience is not None and _number(self.trainer.best.waited) >= patience))

    def _go_on(self, progress: Any) -> None:  # noqa: ANN401
        """Takes batches until the run is finished, or somebody asks for its end."""
        # One pipeline for all epochs: the next one is being read while this one ends.
        data = batches.load(self.index, (self._own(planned) for planned in self._plan()),
                            CharMap(self.config.alphabet), self.config)
        begun = time.perf_counter()
        for planned, batch in zip(self._plan(), batches.each(data), strict=False):
            lost = self._agree(planned, batch)
            if self.ended_by:
                log.info(f"{signal.Signals(self.ended_by).name}: ending after this step.")
                break
            progress.set_description(f"epoch {planned.epoch + 1}", refresh=False)
            self._advance(planned)
            if lost < len(planned.records):
                self._step(planned, batch, progress, begun)
            begun = time.perf_counter()
            if _number(self.trainer.position) == 0:
                self._report_skipped()
                skips.require_some(len(self.index) - len(self.undecodable), self._skipped())
            if self._finished():
                break

    def _own(self, planned: batches.Planned) -> np.ndarray:
        """The records of a batch that this process reads."""
        return planned.records[self.cluster.own(len(planned.records))]

    def _agree(self, planned: batches.Planned, batch: batches.Batch) -> int:
        """Tells all processes what this one has met: a signal, or images that it cannot decode.

        Returns:
            How many images of the whole batch cannot be decoded.
        """
        lost = np.isin(planned.records, batches.missing(self._own(planned), batch))
        asked = [float(self.stop.signal == each) for each in SIGNALS]
        votes = self.cluster.total(np.concatenate([asked, lost]))
        self.ended_by = next((int(each) for each, vote in zip(SIGNALS, votes, strict=False)
                              if vote), 0)
        gone = planned.records[votes[len(SIGNALS):] > 0]
        self.undecodable.update(batches.undecodable(self.index, gone))
        return len(gone)

    def _plan(self) -> Iterator[batches.Planned]:
        return batches.endless(self.index, self.settings.batch_size, self.settings.seed,
                               _number(self.trainer.epoch), _number(self.trainer.position))

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
        if len(found) > self.reported:
            used = len(self.index) - len(self.undecodable)
            self.folder.report(found, used, self._not_validated(),
                               "to train on" if self.images.split else "")
            self.reported = len(found)

    def _not_validated(self) -> list[Skipped]:
        """What cannot be validated on, for the list."""
        if self.validator is None or self.images.validation is None:
            return []
        return [*self.images.validation.skipped, *(self.validator.undecodable or {}).values()]

    def _step(self, planned: batches.Planned, batch: batches.Batch, progress: Any,  # noqa: ANN401
              begun: float) -> None:
        whole = batches.filled(batch, self._own(planned), self.cluster.local_replicas)
        loss, norm = self.trainer.take_step(whole, self.index.width[planned.records])
        step, seconds = _number(self.trainer.step), time.perf_counter() - begun
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

    def _not_finite(self, loss: float, norm: float, planned: batches.Planned) -> AocrError:
        where = ", ".join(
            f"{path} records {' '.join(map(str, sorted(numbers)))}" for path, numbers in
            records.grouped(self.index, planned.records).items())
        return AocrError(
            f"the loss is {loss} and the norm of the gradients {norm} at step "
            f"{_number(self.trainer.step)}, in the batch of {where}; {self.folder.kept}; a "
            f"lower --initial-learning-rate may help{_precision_hint(self.settings)}")

    def _save(self, progress: Any) -> None:  # noqa: ANN401
        step = _number(self.trainer.step)
        log.info(self.averages.line(step))
        self.averages = _Averages()
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
            log.info(f"No gain in {waited} validations since step {_number(best.step)}: "
                     "ending (--early-stop).")

    def _farewell(self) -> str:
        minutes, seconds = divmod(round(time.perf_counter() - self.begun), 60)
        used = len(self.index) - len(self.undecodable)
        words = [f"Ended at step {_number(self.trainer.step)}, after "
                 f"{_number(self.trainer.epoch)} whole epochs; {self.steps} steps in {minutes} min "
                 f"{seconds} s on {used} images, {len(self._skipped())} skipped; the model is in "
                 f"{self.folder.path}."]
        best = self.trainer.best
        if best.word_accuracy.numpy() >= 0:
            words.append(f"Best word accuracy {best.word_accuracy.numpy():.2%} at step "
                         f"{_number(best.step)}, in {checkpoint.best_dir(self.folder.path)}.")
        words.append(f"Next: aocr test DATASET --model-dir {self.folder.path}")
        return " ".join(words)


def _precision_hint(settings: TrainConfig) -> str:
    return f", or --precision {PRECISIONS[0]}" if settings.precision != PRECISIONS[0] else ""


def _number(variable: tf.Variable) -> int:
    return int(variable.numpy())


def _begin(trainer: Trainer, place: Elsewhere, config: ModelConfig, start: Start) -> None:
    """Restores what is there, or takes the first weights from elsewhere."""
    if start.resume:
        paths = checkpoint.candidates(place.path, "latest", start.strict)
        path = checkpoint.restore(trainer.checkpoint, paths, start.strict)
        log.info(f"Reading model parameters from {path}")
        log.info(f"Going on at step {_number(trainer.step)}, epoch {_number(trainer.epoch) + 1}.")
        return
    if checkpoint.started(place.path):
        log.info(f"Starting anew in {place.path}; its earlier checkpoints are no longer used, "
                 f"and the best of them is removed.")
    if start.weights is not None:
        transfer.copy(start.weights, trainer.model, config)


def _agree_on_start(trainer: Trainer, images: Sets, flags: tuple[ModelConfig, TrainConfig],
                    cluster: Cluster) -> None:
    """Makes sure that all processes stand where the chief stands, before it writes anything.

    Raises:
        AocrError: They begin at other steps or with other weights, have found other records, or
            were given other flags.
    """
    validation = 0 if images.validation is None else records.checksum(images.validation)
    cluster.agree({
        "step that they start at": _number(trainer.step),
        "weights (as a checksum)": trainer.model.checksum(),
        "records to train on (as a checksum)": records.checksum(images.training),
        "records to validate on (as a checksum)": validation,
        "flags (as a checksum)": zlib.crc32(repr(flags).encode())})
