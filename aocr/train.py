"""The training loop: batches, step, log line, checkpoint."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np
import tensorflow as tf

from aocr import batches, checkpoint, metrics, records, skips
from aocr.adadelta import Adadelta
from aocr.charmap import CharMap
from aocr.config import COLUMN_PIXELS, CONV_FEATURES, IMAGE_HEIGHT, ModelConfig, TrainConfig
from aocr.console import bar, log, on_bar
from aocr.errors import AocrError
from aocr.events import EventFile
from aocr.model import AttentionOCR
from aocr.records import Index, Skipped

KEEP_PROBABILITY = 0.5


class Trainer:
    """The network with everything that a step changes, all of it in the checkpoint.

    Args:
        config: Sizes of the network.
        settings: Learning rate, clipping, seed.

    Attributes:
        model: The network.
        step: Steps taken so far, int64.
        epoch: The running epoch, from 0, int64.
        position: Records of the running epoch that have been used, int64.
        checkpoint: All of the above, and the optimizer.
    """

    def __init__(self, config: ModelConfig, settings: TrainConfig) -> None:
        self._settings = settings
        self.model = AttentionOCR(config, settings.seed)
        self._variables = list(self.model.trainable_variables)
        self._optimizer = Adadelta(self._variables, settings.initial_learning_rate)
        self.step, self.epoch, self.position = (tf.Variable(0, dtype=tf.int64) for _ in range(3))
        self.checkpoint = tf.train.Checkpoint(
            model=self.model, optimizer=self._optimizer, step=self.step, epoch=self.epoch,
            position=self.position)
        self._take_step = tf.function(self._graph, autograph=False, input_signature=[
            tf.TensorSpec([None, IMAGE_HEIGHT, None, config.channels], tf.float32),
            tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, None], tf.int32)])

    def take_step(self, batch: batches.Batch) -> tuple[float, float]:
        """Changes the weights by one batch.

        Returns:
            Its loss before the change, and the gradients' global norm after clipping.
        """
        loss, norm = self._take_step(batch["images"], batch["widths"], batch["targets"])
        return float(loss), float(norm)

    def _graph(self, images: tf.Tensor, widths: tf.Tensor, targets: tf.Tensor
               ) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            memory = self.model.encode_batch(images, widths, self._keep(tf.shape(images)))
            logits = self.model.teacher_forced(memory, targets)
            loss = tf.reduce_mean(metrics.sequence_loss(logits, targets))
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, self._variables)]
        norm = total = tf.linalg.global_norm(gradients)
        limit = self._settings.max_gradient_norm
        if limit is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, limit, total)
            norm = tf.where(tf.math.is_finite(total), tf.minimum(total, limit), total)
        self._optimizer.apply(gradients)
        self.step.assign_add(1)
        return loss, norm

    def _keep(self, shape: tf.Tensor) -> tf.Tensor:
        """Dropout's factors for the features; they depend on seed and step alone."""
        columns = -(-shape[2] // COLUMN_PIXELS)
        seed = tf.stack([tf.constant(self._settings.seed, tf.int64), self.step])
        chance = tf.random.stateless_uniform([shape[0], columns, CONV_FEATURES], seed)
        return tf.cast(chance < KEEP_PROBABILITY, tf.float32) / KEEP_PROBABILITY


@dataclass
class _Averages:
    """Means over the steps since the last checkpoint."""

    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def line(self, step: int) -> str:
        loss = float(np.mean(self.losses))
        return (f"Global step {step}. Time: {np.mean(self.seconds):.3f}s, loss: {loss:.6f}, "
                f"perplexity: {metrics.perplexity(loss):.2f}.")


def train(patterns: Sequence[str], model_dir: str, config: ModelConfig, settings: TrainConfig,
          resume: bool = True) -> int:
    """Trains a model and leaves its checkpoints in a folder.

    Args:
        patterns: Names or globs of TFRecords files.
        model_dir: The folder; made when it is not there.
        config: Sizes of the network; those of the folder when it is resumed.
        settings: How to train.
        resume: Go on from the newest checkpoint of the folder, if there is one.

    Returns:
        The number of the signal that ended the run, or 0.

    Raises:
        AocrError: No image can be used, or the folder does not fit.
    """
    characters = CharMap(config.alphabet)
    index = records.index(records.find(patterns), config, characters)
    skips.require_some(len(index), index.skipped)
    trainer = Trainer(config, settings)
    try:
        manager = _open_folder(trainer, model_dir, config, resume)
        events = EventFile(model_dir)
    except tf.errors.OpError as error:
        raise AocrError(f"cannot write to the model folder {model_dir}: {error.message}; "
                        "--model-dir names another") from error
    with events, _stoppable() as stop:
        run = _Run(trainer, index, config, settings, manager, events, stop, model_dir)
        run.to_the_end()
    log.info(f"Ended at step {int(trainer.step)}, after {int(trainer.epoch)} whole epochs; "
             f"the model is in {model_dir}.")
    return int(stop[0]) if stop else 0


@dataclass
class _Run:
    """One process's part of a training."""

    trainer: Trainer
    index: Index
    config: ModelConfig
    settings: TrainConfig
    manager: tf.train.CheckpointManager
    events: EventFile
    stop: list[int]
    model_dir: str
    steps: int = 0
    averages: _Averages = field(default_factory=_Averages)
    undecodable: dict[int, Skipped] = field(default_factory=dict)
    reported: int = 0

    def __post_init__(self) -> None:
        skips.report(self.index.skipped, len(self.index), self.model_dir)
        self.reported = len(self.index.skipped)

    def to_the_end(self) -> None:
        """All epochs that are left."""
        total = -(-len(self.index) // self.settings.batch_size) * self.settings.num_epoch
        total = min(total, self.settings.max_steps or total)
        with bar(total=total, initial=int(self.trainer.step), unit="step") as progress:
            if self._finished():
                log.info("There is nothing left to do: give a larger --num-epoch or --max-steps.")
            else:
                self._go_on(progress)
        if self.averages.losses:
            self._save()
        self._report_undecodable()

    def _finished(self) -> bool:
        limit = self.settings.max_steps
        return (bool(self.stop) or int(self.trainer.epoch) >= self.settings.num_epoch
                or (limit is not None and int(self.trainer.step) >= limit))

    def _go_on(self, progress: Any) -> None:  # noqa: ANN401
        """Takes batches until the run is finished."""
        # One pipeline for all epochs: the next one is being read while this one ends.
        data = batches.load(self.index, (planned.records for planned in self._plan()),
                            CharMap(self.config.alphabet), self.config)
        begun = time.perf_counter()
        for planned, batch in zip(self._plan(), data, strict=False):
            progress.set_description(f"epoch {planned.epoch + 1}", refresh=False)
            self.undecodable.update(batches.undecodable(self.index, planned.records, batch))
            self._advance(planned)
            if len(batch["records"]):
                self._step(batch, progress, begun)
            begun = time.perf_counter()
            if int(self.trainer.position) == 0:
                self._report_undecodable()
                skips.require_some(len(self.index) - len(self.undecodable), self._skipped())
            if self.stop:
                log.info(f"{signal.Signals(self.stop[0]).name}: ending after this step.")
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

    def _report_undecodable(self) -> None:
        """Tells again what is skipped, when decoding has found more of it."""
        found = self._skipped()
        if len(found) > self.reported:
            skips.report(found, len(self.index) - len(self.undecodable), self.model_dir)
            self.reported = len(found)

    def _step(self, batch: batches.Batch, progress: Any, begun: float) -> None:  # noqa: ANN401
        loss, norm = self.trainer.take_step(batch)
        step, seconds = int(self.trainer.step), time.perf_counter() - begun
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise AocrError(f"the loss is {loss} and the norm of the gradients {norm} at step "
                            f"{step}; the last good checkpoint is "
                            f"{self.manager.latest_checkpoint}; a lower "
                            "--initial-learning-rate may help")
        self.steps += 1
        on_bar(f"Step {self.steps}: {seconds:.3f}s, loss: {loss:.6f}, "
               f"perplexity: {metrics.perplexity(loss):.6f}.")
        progress.set_postfix_str(
            f"loss {loss:.4f}, {batch['widths'].shape[0] / seconds:.0f} images/s", refresh=False)
        progress.update()
        self.events.scalars(step, {"loss": loss, "total_gradient_norm": norm})
        self.averages.seconds.append(seconds)
        self.averages.losses.append(loss)
        if step % self.settings.steps_per_checkpoint == 0:
            self._save()

    def _save(self) -> None:
        step = int(self.trainer.step)
        log.info(self.averages.line(step))
        log.info(f"Saving the model at step {step}.")
        self.manager.save(checkpoint_number=step)
        self.events.flush()
        self.averages = _Averages()


def _open_folder(trainer: Trainer, model_dir: str, config: ModelConfig, resume: bool
                 ) -> tf.train.CheckpointManager:
    """Restores what is there, or starts the folder."""
    if resume and checkpoint.started(model_dir):
        path = checkpoint.newest(model_dir)
        log.info(f"Reading model parameters from {path}")
        checkpoint.restore(trainer.checkpoint, path)
        log.info(f"Going on at step {int(trainer.step)}, epoch {int(trainer.epoch) + 1}.")
    else:
        tf.io.gfile.makedirs(model_dir)
        state = tf.io.gfile.join(model_dir, "checkpoint")
        if tf.io.gfile.exists(state):
            log.info(f"Starting anew in {model_dir}; its earlier checkpoints are no longer used.")
            tf.io.gfile.remove(state)
        checkpoint.save_config(model_dir, config)
    return checkpoint.manager(trainer.checkpoint, model_dir)


@contextmanager
def _stoppable() -> Iterator[list[int]]:
    """Collects the first SIGINT or SIGTERM; a second one ends the process at once."""
    stop: list[int] = []
    earlier: dict[signal.Signals, Any] = {}

    def note(number: int, _frame: FrameType | None) -> None:
        stop.append(number)
        for each in earlier:
            signal.signal(each, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        earlier[number] = signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
