"""Writes TensorBoard scalars without TensorBoard: event files are TFRecords of `Event`s."""

from __future__ import annotations

import os
import socket
import time

import tensorflow as tf

from aocr.errors import reason
from aocr.runtime.console import log


class EventFile:
    """One event file, closed by a `with` statement.

    Args:
        directory: Where TensorBoard looks for it.
    """

    def __init__(self, directory: str) -> None:
        name = f"events.out.tfevents.{time.time_ns() // 10**9}.{socket.gethostname()}"
        name += f".{os.getpid()}.{time.time_ns() % 10**9}"
        self._writer = tf.io.TFRecordWriter(tf.io.gfile.join(directory, name))
        self._write(tf.compat.v1.Event(wall_time=time.time(), file_version="brain.Event:2"))

    def __enter__(self) -> EventFile:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._writer.close()
        except tf.errors.OpError as error:  # scalars are no reason for a training run to fail
            log.warning(f"the last scalars for TensorBoard are lost: {reason(error)}")

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Writes scalars of a step."""
        summary = tf.compat.v1.Summary(value=[
            tf.compat.v1.Summary.Value(tag=tag, simple_value=value)
            for tag, value in values.items()])
        self._write(tf.compat.v1.Event(wall_time=time.time(), step=step, summary=summary))

    def flush(self) -> None:
        """Makes everything so far visible to readers."""
        self._writer.flush()

    def _write(self, event: tf.compat.v1.Event) -> None:
        self._writer.write(event.SerializeToString())
