"""What a training leaves in its model folder: checkpoints, events, the list of the skipped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import tensorflow as tf

from aocr.checkpoints import config_file, directory, saver
from aocr.checkpoints.saver import CheckpointSaver
from aocr.config import ModelConfig
from aocr.data import skipping
from aocr.data.skipping import SkippedRecord
from aocr.errors import AocrError, reason
from aocr.training import lock
from aocr.training.step import Trainer
from aocr.training.tensorboard import EventFile


class NullOutput:
    """The folder as workers see it that are not the chief: they write nothing.

    Attributes:
        path: Where it is.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def begin(self, trainer: Trainer, config: ModelConfig, keep: int, resume: bool) -> None:
        """Makes the folder ready, anew or to go on."""

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Numbers at a step, for TensorBoard."""

    def report(self, skipped: Sequence[SkippedRecord], used: int, others: Sequence[SkippedRecord],
               purpose: str) -> None:
        """Tells what is skipped."""

    def save(self) -> None:
        """A checkpoint of everything, and the events so far."""

    def save_best(self) -> None:
        """The weights as the best so far."""

    @property
    def kept(self) -> str:
        """What a run that fails can go on from, in words."""
        return "another process keeps the checkpoints"


class TrainingOutput(NullOutput):
    """The folder as its one writer sees it; made by `opened`.

    Args:
        path: Where it is.
        stack: What it opens is closed with it.
    """

    def __init__(self, path: str, stack: ExitStack) -> None:
        super().__init__(path)
        with self._writing():
            tf.io.gfile.makedirs(path)
            self._check = stack.enter_context(lock.held(path))
        self._stack = stack
        self._store: CheckpointSaver | None = None
        self._events: EventFile | None = None

    def begin(self, trainer: Trainer, config: ModelConfig, keep: int, resume: bool) -> None:
        """Clears what an earlier training has left, or an interrupted one."""
        with self._writing():
            if resume:
                directory.repair_state(self.path)
            else:
                saver.clear(self.path)
                config_file.save(self.path, config)
            for place in (self.path, directory.best_dir(self.path)):
                saver.clear_unfinished(place)
            self._store = CheckpointSaver(trainer.saved(), self.path, config, keep)
            self._events = self._stack.enter_context(EventFile(self.path))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Numbers at a step, for TensorBoard."""
        assert self._events is not None
        with self._writing():
            self._events.scalars(step, values)

    def report(self, skipped: Sequence[SkippedRecord], used: int, others: Sequence[SkippedRecord],
               purpose: str) -> None:
        """Logs the table of reasons and writes the list, which holds others at its end."""
        skipping.report(skipped, used, purpose)
        with self._writing():
            skipping.write([*skipped, *others], tf.io.gfile.join(self.path, skipping.SKIPPED_FILE))

    def save(self) -> None:
        """A checkpoint of everything, and the events so far."""
        assert self._store is not None
        assert self._events is not None
        self._check()
        self._store.save()
        with self._writing():
            self._events.flush()

    def save_best(self) -> None:
        """The weights as the best so far."""
        assert self._store is not None
        self._check()
        self._store.save_best()

    @property
    def kept(self) -> str:
        """What a run that fails can go on from, in words."""
        assert self._store is not None
        return self._store.kept

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Makes one line of what the disk refuses."""
        try:
            yield
        except (tf.errors.OpError, OSError) as error:
            raise AocrError(f"cannot write to the model folder {self.path}: {reason(error)}; what "
                            "was saved before is intact; mend the disk, or name another "
                            "--model-dir") from error


@contextmanager
def open_output(path: str, chief: bool) -> Iterator[NullOutput]:
    """The folder for one training, locked by its chief.

    Raises:
        AocrError: Another training has it, or it cannot be written.
    """
    with ExitStack() as stack:
        yield TrainingOutput(path, stack) if chief else NullOutput(path)
