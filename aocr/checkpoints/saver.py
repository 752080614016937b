"""Writes the checkpoints of one training: the newest few, and the best."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import tensorflow as tf

from aocr.checkpoints import config_file, directory
from aocr.config import ModelConfig
from aocr.errors import AocrError, reason

_UNFINISHED = "*_temp"  # where TensorFlow collects a checkpoint before it appears


class Saved(NamedTuple):
    """What a training hands to its `CheckpointSaver`.

    Attributes:
        checkpoint: Everything that a resumed training needs.
        weights: The model alone, for the best checkpoint.
        step: The number of the checkpoint, scalar int64.
        finite: Tells whether all weights are finite numbers.
    """

    checkpoint: tf.train.Checkpoint
    weights: tf.train.Checkpoint
    step: tf.Variable
    finite: Callable[[], bool]


class CheckpointSaver:
    """The folder of a training, as `model.ckpt-N`, the original's file names.

    Args:
        content: What is saved.
        model_dir: The folder.
        config: The model's settings, which go with the best checkpoint too.
        keep: How many of the newest checkpoints stay.
    """

    def __init__(self, content: Saved, model_dir: str, config: ModelConfig, keep: int) -> None:
        self._content = content
        self._config = config
        self._model_dir = model_dir
        self._best_dir = directory.best_dir(model_dir)
        self._newest = _manager(content.checkpoint, model_dir, keep)
        self._best = _manager(content.weights, self._best_dir, 1)

    @property
    def kept(self) -> str:
        """What a run that fails can go on from, in words."""
        path: str | None = self._newest.latest_checkpoint
        return f"the last good checkpoint is {path}" if path else "there is no checkpoint before it"

    def save(self) -> None:
        """Writes everything, whole or not at all.

        Raises:
            AocrError: The weights are not finite numbers, or the disk takes no more.
        """
        step = int(self._content.step.numpy())
        if not self._content.finite():
            raise AocrError(f"the weights are no longer finite numbers at step {step}; nothing "
                            f"was saved, and {self.kept}; a lower --initial-learning-rate may help")
        with self._writing(self._model_dir, step):
            self._newest.save(checkpoint_number=step)

    def save_best(self) -> None:
        """Writes the weights as the best so far.

        Raises:
            AocrError: The disk takes no more.
        """
        step = int(self._content.step.numpy())
        with self._writing(self._best_dir, step):
            tf.io.gfile.makedirs(self._best_dir)
            config_file.save(self._best_dir, self._config)
            self._best.save(checkpoint_number=step)

    @contextmanager
    def _writing(self, folder: str, step: int) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError as error:
            clear_unfinished(folder)
            raise AocrError(f"cannot write the checkpoint of step {step} to {folder}: "
                            f"{reason(error)}; {self.kept}; mend the disk, and give the same "
                            "command again") from error


def clear(model_dir: str) -> None:
    """Forgets the checkpoints of an earlier training, whose files stay but for the best."""
    state = tf.io.gfile.join(model_dir, directory.STATE_FILE)
    if tf.io.gfile.exists(state):
        tf.io.gfile.remove(state)
    if tf.io.gfile.exists(directory.best_dir(model_dir)):
        tf.io.gfile.rmtree(directory.best_dir(model_dir))


def clear_unfinished(folder: str) -> None:
    """Removes what a killed process or a full disk has left of a checkpoint."""
    pattern = directory.CHECKPOINT_NAME + _UNFINISHED
    for path in tf.io.gfile.glob(tf.io.gfile.join(folder, pattern)):
        tf.io.gfile.rmtree(path)


def _manager(content: tf.train.Checkpoint, folder: str, keep: int) -> tf.train.CheckpointManager:
    return tf.train.CheckpointManager(content, folder, max_to_keep=keep,
                                      checkpoint_name=directory.CHECKPOINT_NAME)
