"""Trains a model: checks the model directory, resumes or starts, and runs the training loop."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from aocr.checkpoints import config_file, directory, loader, warm_start
from aocr.checkpoints.choice import DEFAULT_CHOICE, CheckpointChoice
from aocr.checkpoints.loader import LoadedModel
from aocr.config import OPTIMIZERS, ModelConfig, TrainConfig
from aocr.data import splits, stats
from aocr.data.index import index_checksum, resolve_paths
from aocr.data.pipeline import Augmentation
from aocr.data.splits import Splits
from aocr.errors import AocrError
from aocr.inference.graph import RecognitionGraph
from aocr.runtime.console import log
from aocr.runtime.distributed import Cluster
from aocr.tokenizer import Tokenizer
from aocr.training import contact_sheet, output
from aocr.training.batches import TrainingBatches
from aocr.training.checkpointing import Checkpointer
from aocr.training.loop import TrainingLoop
from aocr.training.output import Output
from aocr.training.progress import Progress
from aocr.training.signals import StopRequest, stop_on_signal
from aocr.training.skipped import SkippedRecords
from aocr.training.state import TrainingState, int_value, saved_optimizer
from aocr.training.step import TrainStep
from aocr.training.validation import Validator


class StartOptions(NamedTuple):
    """How a training run starts.

    Attributes:
        resume: Resume from the newest checkpoint of the model directory, if there is one.
        init_from: Directory of a model whose weights a new run starts from (warm start).
        checkpoint: Which checkpoint of `init_from` to read, and how; `strict` holds for the
            checkpoint to resume from as well.
        dataset_alphabet: A new model has the alphabet of the dataset.
    """

    resume: bool = True
    init_from: str | None = None
    checkpoint: CheckpointChoice = DEFAULT_CHOICE
    dataset_alphabet: bool = False


_DEFAULT_START = StartOptions()


class _Start(NamedTuple):
    """Starting point of a run: settings, whether it resumes, and weights of a warm start."""

    config: ModelConfig
    resume: bool
    weights: LoadedModel | None = None


def train(patterns: Sequence[str], model_dir: str, model_settings: Mapping[str, object],
          settings: TrainConfig, cluster: Cluster, options: StartOptions = _DEFAULT_START) -> int:
    """Trains a model, and writes checkpoints to the model directory.

    Args:
        patterns: Names or globs of TFRecords files.
        model_dir: The model directory; created if it does not exist.
        model_settings: Fields of `ModelConfig`. Others have the values of the model directory, if
            the run resumes, of the model of a warm start, or the defaults.
        settings: How to train.
        cluster: The devices; all processes call this with the same arguments.
        options: Whether to resume, and which weights to start from otherwise.

    Returns:
        The number of the signal that ended the run, or 0.

    Raises:
        AocrError: The model directory must not be trained into or is in use, a setting contradicts
            the model, no record can be used, the disk is full, or another process is lost.
    """
    start = _choose_start(patterns, model_dir, dict(model_settings), settings, options)
    settings = _choose_optimizer(settings, model_dir if start.resume else None)
    if start.weights is not None:
        settings = _choose_warm_start_rate(settings)
    tokenizer = Tokenizer(start.config.alphabet)
    data = splits.load_splits(patterns, start.config, settings, tokenizer)
    with (output.lock_model_directory(model_dir, cluster.chief) as check_lock,
          stop_on_signal() as stop,
          cluster.lost_worker_errors("start all workers again to resume from the last checkpoint")):
        if check_lock is not None and options.resume and not start.resume:
            _refuse_started(model_dir)
        state = TrainingState(start.config, settings, cluster)
        _initialize(state, model_dir, start, options.checkpoint.strict, settings)
        if cluster.workers > 1:
            _require_same_start(state, data, (start.config, settings), cluster)
        with output.open_output(model_dir, state.saved(), start.config, settings.keep, start.resume,
                                check_lock) as opened:
            batches = TrainingBatches(data.training, tokenizer, start.config, settings, cluster,
                                      data.mixture)
            stopped_by = _make_loop(state, data, batches, opened, stop).run()
    return stopped_by or stop.signal or 0


def _refuse_started(model_dir: str) -> None:
    """Refuses to replace the checkpoints that another run has written since this one started."""
    if directory.started(model_dir):
        raise AocrError(f"another run has written checkpoints to {model_dir} since this one "
                        "started; give the same command again to resume from them")


def show_augmented(path: str, patterns: Sequence[str], model_dir: str,
                   model_settings: Mapping[str, object], settings: TrainConfig,
                   options: StartOptions = _DEFAULT_START) -> None:
    """Writes a picture of images as a training run with the same arguments would augment them.

    Args:
        path: The PNG file to write.
        patterns: See `train`, like the other arguments.
        model_dir: Nothing is written there.
        model_settings: See `train`.
        settings: See `train`.
        options: See `train`.

    Raises:
        AocrError: As `train`, or the file cannot be written.
    """
    config = _choose_start(patterns, model_dir, dict(model_settings), settings, options).config
    tokenizer = Tokenizer(config.alphabet)
    index = splits.load_splits(patterns, config, settings, tokenizer).training
    rows = contact_sheet.write(path, index, tokenizer, config,
                               Augmentation(settings.augment, settings.seed))
    log.info(f"Wrote {path}: {rows} images, each unchanged and then as --augment "
             f"{settings.augment} distorts it in the first {contact_sheet.EPOCHS} epochs.")


def _choose_start(patterns: Sequence[str], model_dir: str, model_settings: dict[str, object],
                  settings: TrainConfig, options: StartOptions) -> _Start:
    """Checks that the directory may be trained into, and chooses resume, warm start or new."""
    loader.check_trainable(model_dir, options.resume)
    resume = options.resume and directory.started(model_dir)
    if options.checkpoint.debias and (resume or options.init_from is None):
        log.info("--debias: there is nothing to remove without --init-from")
    if resume:
        if options.init_from is not None:
            log.info(f"--init-from: not used, as {model_dir} is resumed")
        config = config_file.load(model_dir)
        config_file.check_flags(model_dir, config, model_settings)
        return _Start(config, resume=True)
    if options.dataset_alphabet:
        model_settings["alphabet"] = stats.dataset_alphabet(
            resolve_paths([*patterns, *settings.mix]), settings.max_pixels)
    if options.init_from is None:
        return _Start(ModelConfig(**model_settings), resume=False)  # type: ignore[arg-type]
    weights, config = warm_start.load(options.init_from, model_settings, options.checkpoint)
    return _Start(config, resume=False, weights=weights)


def _choose_optimizer(settings: TrainConfig, model_dir: str | None) -> TrainConfig:
    """Returns the settings with the optimizer of the checkpoint to resume from, or of a new run."""
    if settings.optimizer is not None:
        return settings
    if model_dir is not None:
        for path in directory.candidates(model_dir, "latest"):
            try:
                return dataclasses.replace(settings, optimizer=saved_optimizer(path))
            except (tf.errors.OpError, ValueError, RuntimeError):  # damaged; `restore` reports it
                continue
    elif settings.initial_learning_rate is not None:
        log.info("--initial-learning-rate is given without --optimizer: training with AdaDelta, "
                 "as aocr 0.7 does; --optimizer adam learns in fewer steps")
    return dataclasses.replace(settings, optimizer=settings.new_optimizer)


def _choose_warm_start_rate(settings: TrainConfig) -> TrainConfig:
    """Returns the settings with the learning rate of a warm start, unless the user named one."""
    if settings.initial_learning_rate is not None:
        return settings
    return dataclasses.replace(
        settings, initial_learning_rate=OPTIMIZERS[settings.new_optimizer].warm_start_rate)


def _initialize(state: TrainingState, model_dir: str, start: _Start, strict: bool,
                settings: TrainConfig) -> None:
    """Restores the newest checkpoint, or copies the weights of a warm start."""
    new_optimizer = not start.resume
    if start.resume:
        paths = directory.candidates(model_dir, "latest", strict)
        path = loader.restore(state.checkpoint_for, paths, strict)
        log.info(f"Reading model parameters from {path}")
        log.info(f"Resuming at step {int_value(state.step)}, epoch {int_value(state.epoch) + 1}.")
        new_optimizer = saved_optimizer(path) != settings.new_optimizer
    elif directory.started(model_dir):
        log.info(f"Starting a new run in {model_dir}: its earlier checkpoints are no longer used, "
                 "and the best one is removed.")
    if start.weights is not None:
        warm_start.copy(start.weights, state.model, start.config)
    if start.weights is not None or (start.resume and new_optimizer):
        state.curriculum.strength.assign(0.0)
    state.rate.update(state.step, settings, new_optimizer)


def _require_same_start(state: TrainingState, data: Splits,
                        flags: tuple[ModelConfig, TrainConfig], cluster: Cluster) -> None:
    """Checks that all processes start from the same state, before the chief writes anything.

    Raises:
        AocrError: They differ in the step, the weights, the records or the flags.
    """
    validation = 0 if data.validation is None else index_checksum(data.validation)
    cluster.require_agreement({
        "step that they start at": int_value(state.step),
        "weights (as a checksum)": state.model.checksum(),
        "records to train on (as a checksum)": index_checksum(data.training),
        "records to validate on (as a checksum)": validation,
        "flags (as a checksum)": zlib.crc32(repr(flags).encode())})


def _make_loop(state: TrainingState, data: Splits, batches: TrainingBatches, opened: Output,
               stop: StopRequest) -> TrainingLoop:
    config, settings, cluster = batches.config, batches.settings, batches.cluster
    train_step = TrainStep(state, config, settings, cluster)
    validator = None
    if data.validation is not None:
        graph = RecognitionGraph(config, state.average.model, settings.max_pixels,
                                 tokenizer=batches.tokenizer)
        validator = Validator(data.validation, graph, settings.batch_size, cluster,
                              lambda: stop.signal is not None)
    skipped = SkippedRecords(data, validator, opened)
    total = batches.per_epoch * settings.num_epoch
    progress = Progress(min(total, settings.max_steps or total), int_value(state.step))
    checkpointer = Checkpointer(state, train_step, validator, opened, progress, settings)
    return TrainingLoop(state, train_step, batches, skipped, checkpointer, opened, progress,
                        settings, stop, cluster)
