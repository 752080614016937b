"""The model folder: which checkpoints lie in it, and how weights come back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import tensorflow as tf

from aocr.checkpoints import config_file
from aocr.checkpoints.directory import (
    STATE_FILE,
    candidates,
    checkpoint_paths,
    exists,
    refuse_exported,
    started,
    state_is_lost,
)
from aocr.checkpoints.legacy import LegacyCheckpoint
from aocr.config import ModelConfig
from aocr.errors import AocrError, DamagedError, reason
from aocr.model import AttentionOCR
from aocr.model.layers import ZeroInitializer
from aocr.runtime.console import log

_T = TypeVar("_T")


class CheckpointChoice(NamedTuple):
    """Which checkpoint of a folder, and how it is read.

    Attributes:
        which: "latest", "best" or the number of a step; `None` for the best if there is one.
        strict: Refuse a damaged checkpoint instead of taking the one before it.
        debias: Take the start values out of the batch-norm averages of a model of the original.
    """

    which: str | None = None
    strict: bool = False
    debias: bool = False


DEFAULT_CHOICE = CheckpointChoice()


class LoadedModel(NamedTuple):
    """A restored model: its settings, its network, and the checkpoint it came from."""

    config: ModelConfig
    model: AttentionOCR
    path: str


def load(model_dir: str, given: Mapping[str, object] = MappingProxyType({}),
         choice: CheckpointChoice = DEFAULT_CHOICE) -> LoadedModel:
    """A model of a folder, ours or the original's.

    Args:
        model_dir: The folder.
        given: The settings the user named; a model of the original remembers few of its own.
        choice: Which checkpoint, and how it is read.

    Raises:
        AocrError: There is none, it does not fit its config, or what is given contradicts it.
    """
    paths = candidates(model_dir, choice.which, choice.strict)
    if not config_file.exists(model_dir):
        return _first_whole(paths, choice.strict,
                            lambda path: _load_original(path, given, choice.debias))
    config = config_file.load(model_dir)
    config_file.check_flags(model_dir, config, given)
    if choice.debias:
        log.info(f"--debias: {model_dir} is no model of the original; there is nothing to remove")
    model = AttentionOCR(config, ZeroInitializer())
    path = restore(tf.train.Checkpoint(model=model), paths, choice.strict)
    return LoadedModel(config, model, path)


def is_original(model_dir: str) -> bool:
    """Whether the checkpoints of a folder were written by the original aocr.

    Raises:
        AocrError: They cannot be read.
    """
    paths = [] if config_file.exists(model_dir) else checkpoint_paths(model_dir)
    return bool(paths) and _first_whole(paths, False,
                                        lambda path: LegacyCheckpoint(path).recognized())


def check_trainable(model_dir: str, resume: bool) -> None:
    """Checks that training may write to a directory.

    Args:
        model_dir: The directory; it need not exist.
        resume: Whether training resumes from the checkpoints in it, if there are any.

    Raises:
        AocrError: The directory holds a model of the original aocr or of another program, an
            exported model, or checkpoints to resume from whose state file is missing.
    """
    if is_original(model_dir):
        raise AocrError(f"{model_dir} holds a model of the original aocr, which is never written "
                        f"to; train from it with --model-dir NEW --init-from {model_dir}")
    if (started(model_dir) or exists(model_dir)) and not config_file.exists(model_dir):
        raise AocrError(f"{model_dir} holds checkpoints but no {config_file.NAME}, so that this "
                        "program has not written it; name another --model-dir")
    if not started(model_dir):
        refuse_exported(model_dir)
    if resume and state_is_lost(model_dir):
        raise AocrError(f"{model_dir} holds checkpoints, but the file {STATE_FILE} that names them "
                        "is missing; restore it, or create an empty one, to resume from the "
                        "newest of them; --no-resume starts anew and removes the best one")


def restore(checkpoint: tf.train.Checkpoint, paths: Sequence[str], strict: bool) -> str:
    """Reads the values of everything in `checkpoint`, none of which may be missing.

    Args:
        checkpoint: The variables.
        paths: Where they may be; the first that is whole is taken.
        strict: Take the first or none.

    Returns:
        The path that was taken.

    Raises:
        AocrError: Every file is damaged, or one holds other variables.
    """
    def read(path: str) -> str:
        try:
            checkpoint.read(path).assert_existing_objects_matched().expect_partial()
        except (AssertionError, ValueError) as error:
            raise AocrError(f"the checkpoint {path} does not fit {config_file.NAME} beside it: "
                            f"{reason(error)}") from error
        except (tf.errors.OpError, IndexError, RuntimeError) as error:
            raise DamagedError(path, error) from error
        return path

    return _first_whole(paths, strict, read)


def _load_original(path: str, given: Mapping[str, object], debias: bool) -> LoadedModel:
    old = LegacyCheckpoint(path)
    if not old.recognized():
        raise AocrError(f"{path} is no model of the original aocr, none of whose variables it "
                        f"holds; one of ours would have {config_file.NAME} beside it, which is "
                        "missing")
    config = old.config(given)
    model = AttentionOCR(config, ZeroInitializer())
    log.info(old.describe(config))
    old.fill(model, debias)
    return LoadedModel(config, model, path)


def _first_whole(paths: Sequence[str], strict: bool, read: Callable[[str], _T]) -> _T:
    """What `read` makes of the first path whose files are not damaged."""
    for path, next_one in zip(paths, paths[1:], strict=False):
        try:
            return read(path)
        except DamagedError as error:
            if strict:
                raise
            log.warning(f"{error}. Taking {next_one} instead; --strict refuses to")
    return read(paths[-1])
