"""Writes the checkpoints of a training run: the newest few, and the best."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import tensorflow as tf

from aocr.checkpoints import config_file, directory
from aocr.config import ModelConfig
from aocr.errors import AocrError, reason

_UNFINISHED = "*_temp"  # TensorFlow writes a checkpoint here before it renames it


class Saved(NamedTuple):
    """Contents of the checkpoints of a training run.

    Attributes:
        checkpoint: Everything that a resumed run needs.
        weights: The model alone, for the best checkpoint.
        step: Number of the checkpoint, scalar int64.
        finite: Returns whether all weights are finite.
        remedy: Returns what to do if they are not.
    """

    checkpoint: tf.train.Checkpoint
    weights: tf.train.Checkpoint
    step: tf.Variable
    finite: Callable[[], bool]
    remedy: Callable[[], str]


class CheckpointSaver:
    """Writes checkpoints to a model directory, named `model.ckpt-N` as in the original aocr.

    Args:
        content: What to save.
        model_dir: The model directory.
        config: The model's settings.
        keep: Number of newest checkpoints to keep.
        resumed: The checkpoint that the run resumes from; `None` for a new run, whose first
            checkpoint replaces those of an earlier one.
    """

    def __init__(self, content: Saved, model_dir: str, config: ModelConfig, keep: int,
                 resumed: str | None = None) -> None:
        self._content = content
        self._config = self._stored_config = config
        self._is_new = resumed is None
        self._first_step: int | None = None
        self._model_dir = model_dir
        self._best_dir = directory.best_dir(model_dir)
        self._keep = keep
        self._last = resumed

    @property
    def kept(self) -> str:
        """Text for error messages about the checkpoint that a failed run can be resumed from."""
        return (f"the last good checkpoint is {self._last}" if self._last
                else "there is no earlier checkpoint of this run")

    def save(self) -> None:
        """Writes a checkpoint, completely or not at all.

        Raises:
            AocrError: The weights are not finite, or the disk is full.
        """
        step = self._finite_step()
        with self._write_errors(self._model_dir, step):
            if self._is_new:
                self._replace_earlier_run(step)
            elif step != self._first_step:  # which `save_best` has written
                self._last = self._newest.save(checkpoint_number=step)
            if self._config != self._stored_config:
                config_file.save(self._model_dir, self._config)
                self._stored_config = self._config

    def calibrate(self, temperature: float) -> None:
        """Sets the temperature that `config.json` beside later checkpoints states."""
        self._config = dataclasses.replace(self._config, temperature=temperature)

    def save_best(self) -> None:
        """Writes the weights as the best checkpoint, in place of the previous one.

        Raises:
            AocrError: The weights are not finite, or the disk is full.
        """
        step = self._finite_step()
        with self._write_errors(self._best_dir, step):
            if self._is_new:
                self._replace_earlier_run(step)
            tf.io.gfile.makedirs(self._best_dir)
            config_file.save(self._best_dir, self._config)
            self._best.save(checkpoint_number=step)

    @functools.cached_property
    def _newest(self) -> tf.train.CheckpointManager:
        return _manager(self._content.checkpoint, self._model_dir, self._keep)

    @functools.cached_property
    def _best(self) -> tf.train.CheckpointManager:
        return _manager(self._content.weights, self._best_dir, 1)

    def _finite_step(self) -> int:
        """Returns the step.

        Raises:
            AocrError: The weights are not finite.
        """
        step = int(self._content.step.numpy())
        if not self._content.finite():
            raise AocrError(f"the weights are no longer finite numbers at step {step}; nothing "
                            f"was saved, and {self.kept}; {self._content.remedy()}")
        return step

    def _replace_earlier_run(self, step: int) -> None:
        """Writes the first checkpoint of a new run, then removes those of an earlier run."""
        path = tf.io.gfile.join(self._model_dir, f"{directory.CHECKPOINT_NAME}-{step}")
        self._last = self._content.checkpoint.write(path)
        config_file.save(self._model_dir, self._config)
        self._stored_config, self._is_new, self._first_step = self._config, False, step
        directory.write_state(self._model_dir, [path])
        _remove_except(self._model_dir, path)

    @contextmanager
    def _write_errors(self, path: str, step: int) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError as error:
            clear_unfinished(path)
            raise AocrError(f"cannot write the checkpoint of step {step} to {path}: "
                            f"{reason(error)}; {self.kept}; free space on the disk, and give the "
                            "same command again (without --no-resume)") from error


def _remove_except(model_dir: str, kept: str) -> None:
    """Removes all checkpoints but the one at the path `kept`, also the one in `best/`."""
    for path in directory.listed_paths(model_dir):
        for file in tf.io.gfile.glob(f"{path}.*") if path != kept else ():
            tf.io.gfile.remove(file)
    if tf.io.gfile.exists(directory.best_dir(model_dir)):
        tf.io.gfile.rmtree(directory.best_dir(model_dir))


def clear_unfinished(path: str) -> None:
    """Removes the temporary files of interrupted checkpoint writes from a directory."""
    pattern = directory.CHECKPOINT_NAME + _UNFINISHED
    for temporary in tf.io.gfile.glob(tf.io.gfile.join(path, pattern)):
        tf.io.gfile.rmtree(temporary)


def _manager(content: tf.train.Checkpoint, path: str, keep: int) -> tf.train.CheckpointManager:
    return tf.train.CheckpointManager(content, path, max_to_keep=keep,
                                      checkpoint_name=directory.CHECKPOINT_NAME)
