"""Restores models from model directories of this aocr and of the original aocr."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import tensorflow as tf

from aocr.checkpoints import built_in, compact, config_file
from aocr.checkpoints.choice import DEFAULT_CHOICE, CheckpointChoice
from aocr.checkpoints.directory import (
    best_dir,
    candidates,
    checkpoint_paths,
    exists,
    refuse_exported,
    started,
    state_is_lost,
)
from aocr.checkpoints.legacy import LegacyCheckpoint
from aocr.checkpoints.model_files import CONFIG_FILE, STATE_FILE
from aocr.config import ModelConfig
from aocr.errors import AocrError, DamagedError, reason
from aocr.model import AttentionOCR
from aocr.model.layers import ZeroInitializer
from aocr.runtime import filesystem
from aocr.runtime.console import log

_T = TypeVar("_T")


class LoadedModel(NamedTuple):
    """A restored model.

    Attributes:
        config: Its settings.
        model: The network.
        path: Path of the checkpoint.
    """

    config: ModelConfig
    model: AttentionOCR
    path: str


def load(model_dir: str, given: Mapping[str, object] = MappingProxyType({}),
         choice: CheckpointChoice = DEFAULT_CHOICE) -> LoadedModel:
    """Restores a model of this aocr or of the original aocr.

    Args:
        model_dir: The model directory, or the name of a built-in model.
        given: The settings that the user named; a model of the original aocr stores only some.
        choice: Which checkpoint to load, and how.

    Raises:
        AocrError: There is no checkpoint, it does not match its `config.json`, or a setting
            contradicts it.
    """
    filesystem.refuse_pattern(model_dir)
    model_dir = built_in.resolve(model_dir)
    if compact.exists(model_dir):
        return _load_compact(model_dir, given, choice)
    paths = candidates(model_dir, choice.which, choice.strict)
    if not config_file.exists(model_dir):
        return _first_undamaged(paths, choice.strict,
                                lambda path: _load_legacy(path, given, choice.debias))
    config = config_file.load(model_dir)
    config_file.check_flags(model_dir, config, given)
    if choice.debias:
        log.info(f"--debias: {model_dir} is not a model of the original aocr; there is nothing to "
                 "remove")
    model = AttentionOCR(config, ZeroInitializer())
    path = restore(lambda _: tf.train.Checkpoint(model=model), paths, choice.strict)
    return LoadedModel(_calibrated(config, model_dir, path), model, path)


def _calibrated(config: ModelConfig, model_dir: str, path: str) -> ModelConfig:
    """Returns the settings with the temperature of the best checkpoint if `path` is that one.

    Validation fits a temperature to each checkpoint. The model directory states that of the newest.
    """
    best = best_dir(model_dir)
    if not path.startswith(best) or not config_file.exists(best):
        return config
    return dataclasses.replace(config, temperature=config_file.load(best).temperature)


def _load_compact(model_dir: str, given: Mapping[str, object], choice: CheckpointChoice
                  ) -> LoadedModel:
    compact.refuse_choice(model_dir, choice)
    config = config_file.load(model_dir)
    config_file.check_flags(model_dir, config, given)
    return LoadedModel(config, compact.load(model_dir, config), compact.path(model_dir))


def is_legacy(model_dir: str) -> bool:
    """Returns whether the original aocr has written the checkpoints in a directory.

    Raises:
        AocrError: They cannot be read.
    """
    paths = [] if config_file.exists(model_dir) else checkpoint_paths(model_dir)
    return bool(paths) and _first_undamaged(
        paths, False, lambda path: LegacyCheckpoint(path).recognized())


def check_trainable(model_dir: str, resume: bool) -> None:
    """Checks that training may write to a directory.

    Args:
        model_dir: The directory; it need not exist.
        resume: Whether training resumes from the checkpoints in it, if there are any.

    Raises:
        AocrError: The directory holds a model of the original aocr or of another program, an
            exported model, or checkpoints to resume from whose state file is missing, or its path
            is a pattern to TensorFlow.
    """
    filesystem.refuse_pattern(model_dir)
    if is_legacy(model_dir):
        raise AocrError(f"{model_dir} holds a model of the original aocr, which is never written "
                        f"to; train from it with --model-dir NEW --init-from {model_dir}")
    if (started(model_dir) or exists(model_dir)) and not config_file.exists(model_dir):
        raise AocrError(f"{model_dir} holds checkpoints but no {CONFIG_FILE}, so another "
                        "program has written them; name another --model-dir")
    if not started(model_dir):
        refuse_exported(model_dir)
    if resume and state_is_lost(model_dir):
        raise AocrError(f"{model_dir} holds checkpoints, but the file {STATE_FILE} that names them "
                        "is missing; restore it, or create an empty one, to resume from the "
                        "newest of them; --no-resume starts a new run, whose first "
                        "checkpoint replaces them")


def variable_names(path: str) -> list[str]:
    """Returns the names of the variables in a checkpoint, such as `model/decoder/keys/…`.

    Raises:
        OpError: The checkpoint cannot be read.
    """
    return list(tf.compat.v1.train.NewCheckpointReader(path).get_variable_to_shape_map())


def restore(checkpoint_for: Callable[[str], tf.train.Checkpoint], paths: Sequence[str],
            strict: bool) -> str:
    """Restores all variables of a `tf.train.Checkpoint`, none of which may be missing.

    Args:
        checkpoint_for: Returns the variables to restore from a path.
        paths: Paths to read from; the first that is not damaged is used.
        strict: Use the first path only.

    Returns:
        The path that was read.

    Raises:
        AocrError: Every file is damaged, or one does not hold the variables.
    """
    def read(path: str) -> str:
        try:
            checkpoint_for(path).read(path).assert_existing_objects_matched().expect_partial()
        except (AssertionError, ValueError) as error:
            raise AocrError(f"the checkpoint {path} does not fit {CONFIG_FILE} beside it: "
                            f"{reason(error)}") from error
        except (tf.errors.OpError, IndexError, RuntimeError) as error:
            raise DamagedError(path, error) from error
        return path

    return _first_undamaged(paths, strict, read)


def _load_legacy(path: str, given: Mapping[str, object], debias: bool) -> LoadedModel:
    checkpoint = LegacyCheckpoint(path)
    if not checkpoint.recognized():
        raise AocrError(f"{path} is not a model of the original aocr, none of whose variables it "
                        f"holds; a model of this aocr would have {CONFIG_FILE} beside it, "
                        "which is missing")
    config = checkpoint.config(given)
    model = AttentionOCR(config, ZeroInitializer())
    log.info(checkpoint.describe(config))
    checkpoint.load_into(model, debias)
    return LoadedModel(config, model, path)


def _first_undamaged(paths: Sequence[str], strict: bool, read: Callable[[str], _T]) -> _T:
    """Returns what `read` returns for the first path whose files are not damaged."""
    for path, next_path in zip(paths, paths[1:], strict=False):
        try:
            return read(path)
        except DamagedError as error:
            if strict:
                raise
            log.warning(f"{error}. Using {next_path} instead; --strict refuses to do so")
    return read(paths[-1])
