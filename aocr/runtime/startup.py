"""Imports TensorFlow without its messages on standard error."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SETTINGS = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # oneDNN's convolutions are up to 1.5 times faster; off by default on processors
    # without AVX512.
    "TF_ENABLE_ONEDNN_OPTS": "1",
    # Otherwise, every record that is read from gs:// downloads up to 64 MB that follow it.
    "GCS_READAHEAD_BUFFER_SIZE_BYTES": str(1 << 16),
}


def import_tensorflow() -> None:
    """Imports TensorFlow; its messages on standard error are shown only if that fails.

    No setting suppresses what its libraries write while they are loaded, so the file descriptor
    is redirected for that time.
    """
    if "tensorflow" in sys.modules:
        return
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    with captured_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextmanager
def captured_stderr() -> Iterator[int]:
    """Captures what is written to standard error, and writes it there if an error is raised.

    Only the first 64 KiB, the capacity of a pipe, are captured; the rest is lost.

    Yields:
        A file descriptor of the original standard error.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    read_end, write_end = os.pipe()
    for descriptor in (read_end, write_end):
        os.set_blocking(descriptor, False)
    os.dup2(write_end, 2)
    os.close(write_end)
    try:
        yield stderr
    except BaseException:
        with contextlib.suppress(BlockingIOError):  # nothing was written
            os.write(stderr, os.read(read_end, 1 << 16))
        raise
    finally:
        os.dup2(stderr, 2)
        os.close(read_end)
        os.close(stderr)


@contextmanager
def native_stderr_hidden() -> Iterator[None]:
    """Hides native libraries' writes to standard error; Python's still reach the terminal.

    The libraries of TensorFlow's image decoders report damaged images in lines of their own, which
    no setting suppresses. Python's fault handler reports crashes in place of TensorFlow.
    """
    python = sys.__stderr__
    if python is None or sys.stderr is not python:  # closed, or redirected by the caller
        yield
        return
    with captured_stderr() as stderr, open(
            stderr, "w", buffering=1, encoding=python.encoding, errors=python.errors,
            closefd=False) as sys.stderr:
        faulthandler.enable(stderr)
        try:
            yield
        finally:
            faulthandler.disable()
            sys.stderr = python
