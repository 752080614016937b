"""Writes TensorBoard scalars without TensorBoard: event files are TFRecords of `Event`s."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

import tensorflow as tf

from aocr.errors import reason
from aocr.runtime.console import log


class EventFile:
    """One event file, closed by a `with` statement.

    When it cannot be written any further, a warning says so once and the training continues.

    Args:
        directory: Where TensorBoard looks for it.
        step: Number of steps taken before. TensorBoard drops later ones of earlier files, which a
            run that was killed had taken after its last checkpoint.
    """

    def __init__(self, directory: str, step: int = 0) -> None:
        # TensorBoard reads the files of a directory in the order of their names.
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        name = (f"events.out.tfevents.{seconds}.{socket.gethostname()}.{os.getpid()}"
                f".{nanoseconds:09}")
        self._failed = False
        self._writer = tf.io.TFRecordWriter(tf.io.gfile.join(directory, name))
        self._write(tf.compat.v1.Event(wall_time=time.time(), file_version="brain.Event:2"))
        start = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
        self._write(tf.compat.v1.Event(wall_time=time.time(), step=step + 1, session_log=start))

    def __enter__(self) -> EventFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._try(self._writer.close)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Writes scalars of a step."""
        summary = tf.compat.v1.Summary(value=[
            tf.compat.v1.Summary.Value(tag=tag, simple_value=value)
            for tag, value in values.items()])
        self._write(tf.compat.v1.Event(wall_time=time.time(), step=step, summary=summary))

    def flush(self) -> None:
        """Makes everything so far visible to readers."""
        if not self._failed:
            self._try(self._writer.flush)

    def _write(self, event: tf.compat.v1.Event) -> None:
        if not self._failed:
            self._try(lambda: self._writer.write(event.SerializeToString()))

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except tf.errors.OpError as error:
            if not self._failed:
                log.warning(f"the scalars for TensorBoard are lost from here on: {reason(error)}")
            self._failed = True
