"""Trains a model: checks the model directory, resumes or starts, and runs the training loop."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

from aocr.checkpoints import directory, loader, warm_start
from aocr.config import AUGMENTATIONS, ModelConfig, TrainConfig
from aocr.data import splits
from aocr.data.index import index_checksum
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
from aocr.training.start import (
    DEFAULT_START,
    Start,
    StartOptions,
    advise_on_unknown_characters,
    choose_start,
    complete_settings,
)
from aocr.training.state import TrainingState, int_value, saved_optimizer
from aocr.training.step import TrainStep
from aocr.training.validation import Validator


def train(patterns: Sequence[str], model_dir: str, model_settings: Mapping[str, object],
          settings: TrainConfig, cluster: Cluster, options: StartOptions = DEFAULT_START) -> int:
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
    start = choose_start(patterns, model_dir, dict(model_settings), settings, options)
    settings = complete_settings(settings, start, model_dir)
    tokenizer = Tokenizer(start.config.alphabet)
    data = splits.load_splits(patterns, start.config, settings, tokenizer)
    if start.resume and options.dataset_alphabet:
        advise_on_unknown_characters([*data.training.skipped, *data.mixed_skipped], model_dir)
    with (output.lock_model_directory(model_dir, cluster.chief) as check_lock,
          stop_on_signal() as stop,
          cluster.lost_worker_errors("start all workers again (without --no-resume) to resume from "
                                     "the last checkpoint")):
        if check_lock is not None and options.resume and not start.resume:
            _refuse_started(model_dir)
        state = TrainingState(start.config, settings, cluster)
        resumed = _initialize(state, model_dir, start, options.checkpoint.strict, settings)
        if cluster.workers > 1:
            _require_same_start(state, data, (start.config, settings), cluster)
        validation = None if data.validation is None else index_checksum(data.validation)
        state.start_with(data.training_checksum(settings.seed), validation)
        with output.open_output(model_dir, state.saved(), start.config, settings.keep, resumed,
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
                   options: StartOptions = DEFAULT_START) -> None:
    """Writes a picture of images as a training run with the same arguments would augment them.

    The images of a mixture are not shown.

    Args:
        path: The PNG file to write.
        patterns: See `train`, like the other arguments.
        model_dir: Nothing is written there.
        model_settings: See `train`.
        settings: See `train`.
        options: See `train`.

    Raises:
        AocrError: As `train`, or there is no augmentation, or the file cannot be written.
    """
    if settings.augment == AUGMENTATIONS[0]:
        raise AocrError("--show-augmented needs --augment light or strong")
    config = choose_start(patterns, model_dir, dict(model_settings), settings, options).config
    tokenizer = Tokenizer(config.alphabet)
    loaded = splits.load_splits(patterns, config, settings, tokenizer)
    own = loaded.training.first(loaded.own_count)
    rows = contact_sheet.write(path, own, tokenizer, config,
                               Augmentation(settings.augment, settings.seed))
    log.info(f"Wrote {path}: {rows} images, each unchanged and then as --augment "
             f"{settings.augment} distorts it in the first {contact_sheet.EPOCHS} epochs.")


def _initialize(state: TrainingState, model_dir: str, start: Start, strict: bool,
                settings: TrainConfig) -> str | None:
    """Restores the newest checkpoint and returns its path, or copies weights of a warm start."""
    new_optimizer, path = not start.resume, None
    if start.resume:
        paths = directory.candidates(model_dir, "latest", strict)
        path = loader.restore(state.checkpoint_for, paths, strict)
        log.info(f"Reading model parameters from {path}")
        log.info(f"Resuming at step {int_value(state.step)}, epoch {int_value(state.epoch) + 1}.")
        new_optimizer = saved_optimizer(path) != settings.new_optimizer
    elif directory.listed_paths(model_dir):
        log.info(f"Starting a new run in {model_dir}: its first checkpoint replaces those of the "
                 "earlier run.")
    if start.weights is not None:
        warm_start.copy(start.weights, state.model, start.config)
    if start.weights is not None or (start.resume and new_optimizer):
        state.curriculum.strength.assign(0.0)
    state.rate.update(state.step, settings, new_optimizer)
    log.info(f"Optimizer: {settings.new_optimizer}, learning rate "
             f"{state.rate.describe(state.step)}.")
    return path


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
        "records to train on (as a checksum)": data.training_checksum(flags[1].seed),
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
