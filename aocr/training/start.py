"""How a training run starts: resumed, warm or new, and with which settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from aocr.checkpoints import config_file, directory, loader, warm_start
from aocr.checkpoints.choice import DEFAULT_CHOICE, CheckpointChoice
from aocr.checkpoints.loader import LoadedModel
from aocr.config import DEFAULT_OPTIMIZER, OPTIMIZERS, ModelConfig, TrainConfig
from aocr.data import stats
from aocr.data.index import resolve_paths
from aocr.data.skipping import SkippedRecord
from aocr.errors import AocrError
from aocr.runtime.console import log
from aocr.tokenizer import UNKNOWN_CHARACTER
from aocr.training.state import saved_optimizer


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


DEFAULT_START = StartOptions()


class Start(NamedTuple):
    """Starting point of a run: settings, whether it resumes, and weights of a warm start."""

    config: ModelConfig
    resume: bool
    weights: LoadedModel | None = None


def choose_start(patterns: Sequence[str], model_dir: str, model_settings: dict[str, object],
                 settings: TrainConfig, options: StartOptions) -> Start:
    """Checks that the directory may be trained into, and chooses resume, warm start or new.

    Args:
        patterns: Names or globs of TFRecords files.
        model_dir: The model directory.
        model_settings: Fields of `ModelConfig` that the user named.
        settings: How to train.
        options: What the user asked for.

    Raises:
        AocrError: The directory must not be trained into, or a setting contradicts its model.
    """
    if options.init_from is None and options.checkpoint.which is not None:
        raise AocrError("--checkpoint selects a checkpoint of --init-from, which is not given; to "
                        f"continue from another checkpoint than the newest one of {model_dir}, "
                        f"give --init-from {model_dir} and another --model-dir")
    loader.check_trainable(model_dir, options.resume)
    resume = options.resume and directory.started(model_dir)
    if options.checkpoint.debias and (resume or options.init_from is None):
        log.info("--debias: there is nothing to remove without --init-from")
    if resume:
        if options.init_from is not None:
            log.info(f"--init-from: not used, as {model_dir} is resumed")
        config = config_file.load(model_dir)
        config_file.check_flags(model_dir, config, model_settings)
        return Start(config, resume=True)
    if options.dataset_alphabet:
        model_settings["alphabet"] = stats.dataset_alphabet(
            resolve_paths([*patterns, *settings.mix]), settings.max_pixels)
    if options.init_from is None:
        return Start(ModelConfig(**model_settings), resume=False)  # type: ignore[arg-type]
    weights, config = warm_start.load(options.init_from, model_settings, options.checkpoint)
    return Start(config, resume=False, weights=weights)


def complete_settings(settings: TrainConfig, start: Start, model_dir: str) -> TrainConfig:
    """Returns the settings with an optimizer, and with the learning rate of a warm start.

    Where the user names no optimizer, it is that of the checkpoint to resume from. A warm start has
    Adam. A new run has AdaDelta if the user gives a learning rate, as in the original, whose
    commands have no warm start; otherwise Adam.
    """
    optimizer = settings.optimizer
    if optimizer is None and start.resume:
        optimizer = _resumed_optimizer(model_dir)
    if optimizer is None and start.weights is not None:
        optimizer = DEFAULT_OPTIMIZER
    if optimizer is None and settings.initial_learning_rate is not None:
        log.info("--initial-learning-rate is given without --optimizer: training with AdaDelta, "
                 "as aocr 0.7 does; without the flag, Adam learns in fewer steps")
    settings = dataclasses.replace(settings, optimizer=optimizer or settings.new_optimizer)
    if start.weights is None or settings.initial_learning_rate is not None:
        return settings
    return dataclasses.replace(
        settings, initial_learning_rate=OPTIMIZERS[settings.new_optimizer].warm_start_rate)


def _resumed_optimizer(model_dir: str) -> str | None:
    """Returns the optimizer of the newest checkpoint that can be read; `None` if there is none."""
    for path in directory.candidates(model_dir, "latest"):
        try:
            return saved_optimizer(path)
        except (tf.errors.OpError, ValueError, RuntimeError):  # damaged; `restore` reports it
            continue
    return None


def advise_on_unknown_characters(skipped: Sequence[SkippedRecord], model_dir: str) -> None:
    """Logs how to use records that `--charset auto` does not include in a resumed run."""
    if any(skip.reason == UNKNOWN_CHARACTER for skip in skipped):
        log.warning(f"--charset auto: the alphabet of {model_dir} is fixed, and the images have "
                    "other characters; to read these, train another model from this one, with "
                    f"--init-from {model_dir} and another --model-dir")
