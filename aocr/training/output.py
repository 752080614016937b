"""Output of a training run to its model directory: checkpoints, events, the skipped records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

import tensorflow as tf

from aocr.checkpoints import directory, saver
from aocr.checkpoints.saver import CheckpointSaver, Saved
from aocr.config import ModelConfig
from aocr.data import skipping
from aocr.data.skipping import SkippedRecord
from aocr.errors import AocrError, reason
from aocr.training import lock
from aocr.training.tensorboard import EventFile


class Output(Protocol):
    """Output of a training run; `open_output` opens it.

    Attributes:
        path: The model directory.
    """

    path: str

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Writes scalars of a step for TensorBoard."""

    def report_skipped(self, skipped: Sequence[SkippedRecord], used: int,
                       others: Sequence[SkippedRecord], purpose: str) -> None:
        """Reports skipped records.

        Args:
            skipped: The records that are not used.
            used: Number of records that are used.
            others: Skipped records of other datasets, which are listed but not counted.
            purpose: What the records are used for, or "" for the purpose of the command.
        """

    def save(self) -> None:
        """Writes a checkpoint, and flushes the scalars."""

    def save_best(self) -> None:
        """Writes the averaged weights as the best so far."""

    def calibrate(self, temperature: float) -> None:
        """Sets the temperature of the probabilities of the checkpoints that follow."""

    @property
    def kept(self) -> str:
        """Text for error messages about the checkpoint that a failed run can be resumed from."""


class NullOutput:
    """Output of a worker other than the chief: writes nothing."""

    kept = "another process keeps the checkpoints"

    def __init__(self, path: str) -> None:
        self.path = path

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """See `Output`."""

    def report_skipped(self, skipped: Sequence[SkippedRecord], used: int,
                       others: Sequence[SkippedRecord], purpose: str) -> None:
        """See `Output`."""

    def save(self) -> None:
        """See `Output`."""

    def save_best(self) -> None:
        """See `Output`."""

    def calibrate(self, temperature: float) -> None:
        """See `Output`."""


class TrainingOutput:
    """Output of the chief, or of the only process.

    Args:
        path: The model directory, which this run has locked.
        checkpoints: Writes the checkpoints.
        events: The event file.
        check_lock: Raises an `AocrError` once another run has taken over the directory.
    """

    def __init__(self, path: str, checkpoints: CheckpointSaver, events: EventFile,
                 check_lock: Callable[[], None]) -> None:
        self.path = path
        self._checkpoints = checkpoints
        self._events = events
        self._check_lock = check_lock

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """See `Output`."""
        self._events.scalars(step, values)

    def report_skipped(self, skipped: Sequence[SkippedRecord], used: int,
                       others: Sequence[SkippedRecord], purpose: str) -> None:
        """Logs a table of the reasons, and writes the records to a file."""
        skipping.report(skipped, used, purpose)
        with _write_errors(self.path):
            skipping.write([*skipped, *others], tf.io.gfile.join(self.path, skipping.SKIPPED_FILE))

    def save(self) -> None:
        """See `Output`."""
        self._check_lock()
        self._checkpoints.save()
        self._events.flush()

    def save_best(self) -> None:
        """See `Output`."""
        self._check_lock()
        self._checkpoints.save_best()

    def calibrate(self, temperature: float) -> None:
        """See `Output`."""
        self._checkpoints.calibrate(temperature)

    @property
    def kept(self) -> str:
        """See `Output`."""
        return self._checkpoints.kept


@contextmanager
def lock_model_directory(path: str, chief: bool) -> Iterator[Callable[[], None] | None]:
    """Creates the model directory and locks it for the chief; other workers write nothing.

    Yields:
        For the chief, a function that raises an `AocrError` once another run has taken over the
        directory.

    Raises:
        AocrError: Another run has locked the directory, or it cannot be written.
    """
    if not chief:
        yield None
        return
    with ExitStack() as stack:
        with _write_errors(path):
            tf.io.gfile.makedirs(path)
            check_lock = stack.enter_context(lock.directory_lock(path))
        yield check_lock


@contextmanager
def open_output(path: str, contents: Saved, config: ModelConfig, keep: int, resumed: str | None,
                check_lock: Callable[[], None] | None) -> Iterator[Output]:
    """Prepares the model directory, and opens the output of a training run.

    Args:
        path: The model directory.
        contents: Contents of the checkpoints.
        config: The model's settings.
        keep: Number of newest checkpoints to keep.
        resumed: The checkpoint that the run resumes from; `None` for a new run, whose first
            checkpoint replaces those in the directory.
        check_lock: See `lock_model_directory`; `None` for workers that write nothing.

    Raises:
        AocrError: The directory cannot be written.
    """
    if check_lock is None:
        yield NullOutput(path)
        return
    with _write_errors(path):
        _remove_unfinished(path, resumed)
        checkpoints = CheckpointSaver(contents, path, config, keep, resumed)
        events = EventFile(path, int(contents.step.numpy()))
    with events:
        yield TrainingOutput(path, checkpoints, events, check_lock)


def _remove_unfinished(path: str, resumed: str | None) -> None:
    """Removes what an interrupted run left behind."""
    if resumed is not None:
        directory.repair_state(path)
    for checkpoints in (path, directory.best_dir(path)):
        saver.clear_unfinished(checkpoints)


@contextmanager
def _write_errors(path: str) -> Iterator[None]:
    """Turns errors of the file system into an `AocrError`."""
    try:
        yield
    except (tf.errors.OpError, OSError) as error:
        raise AocrError(f"cannot write to the model directory {path}: {reason(error)}; checkpoints "
                        "saved earlier are intact; free space on the disk, check the permissions, "
                        "or name another --model-dir") from error
