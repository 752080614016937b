"""Writes the checkpoints of a training run: the newest few, and the best."""

from __future__ import annotations

import dataclasses
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
    """

    checkpoint: tf.train.Checkpoint
    weights: tf.train.Checkpoint
    step: tf.Variable
    finite: Callable[[], bool]


class CheckpointSaver:
    """Writes checkpoints to a model directory, named `model.ckpt-N` as in the original aocr.

    Args:
        content: What to save.
        model_dir: The model directory.
        config: The model's settings, as they are in the model directory; they are written beside
            the best checkpoint as well.
        keep: Number of newest checkpoints to keep.
    """

    def __init__(self, content: Saved, model_dir: str, config: ModelConfig, keep: int) -> None:
        self._content = content
        self._config = self._stored_config = config
        self._model_dir = model_dir
        self._best_dir = directory.best_dir(model_dir)
        self._newest = _manager(content.checkpoint, model_dir, keep)
        self._best = _manager(content.weights, self._best_dir, 1)

    @property
    def kept(self) -> str:
        """Text for error messages about the checkpoint that a failed run can be resumed from."""
        path: str | None = self._newest.latest_checkpoint
        return f"the last good checkpoint is {path}" if path else "there is no earlier checkpoint"

    def save(self) -> None:
        """Writes a checkpoint, completely or not at all.

        Raises:
            AocrError: The weights are not finite, or the disk is full.
        """
        step = int(self._content.step.numpy())
        if not self._content.finite():
            raise AocrError(f"the weights are no longer finite numbers at step {step}; nothing "
                            f"was saved, and {self.kept}; a lower --initial-learning-rate may help")
        with self._write_errors(self._model_dir, step):
            self._newest.save(checkpoint_number=step)
            if self._config != self._stored_config:
                config_file.save(self._model_dir, self._config)
                self._stored_config = self._config

    def calibrate(self, temperature: float) -> None:
        """Sets the temperature that `config.json` beside later checkpoints states."""
        self._config = dataclasses.replace(self._config, temperature=temperature)

    def save_best(self) -> None:
        """Writes the weights as the best checkpoint, in place of the previous one.

        Raises:
            AocrError: The disk is full.
        """
        step = int(self._content.step.numpy())
        with self._write_errors(self._best_dir, step):
            tf.io.gfile.makedirs(self._best_dir)
            config_file.save(self._best_dir, self._config)
            self._best.save(checkpoint_number=step)

    @contextmanager
    def _write_errors(self, path: str, step: int) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError as error:
            clear_unfinished(path)
            raise AocrError(f"cannot write the checkpoint of step {step} to {path}: "
                            f"{reason(error)}; {self.kept}; free space on the disk, and give the "
                            "same command again") from error


def clear(model_dir: str) -> None:
    """Removes the state file and the best checkpoint, so that a new run can start.

    The files of the other checkpoints stay.
    """
    state = tf.io.gfile.join(model_dir, directory.STATE_FILE)
    if tf.io.gfile.exists(state):
        tf.io.gfile.remove(state)
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
