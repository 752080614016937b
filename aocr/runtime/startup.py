"""Imports TensorFlow without its chatter, for the commands and for the Python interface."""

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
    # A record of a batch on gs:// would otherwise download up to 64 MB after it.
    "GCS_READAHEAD_BUFFER_SIZE_BYTES": str(1 << 16),
}


def import_tensorflow() -> None:
    """Imports TensorFlow with standard error aside; shows what was written if that fails.

    No setting silences the lines that its libraries write while they are loaded, so the file
    descriptor itself points elsewhere for that long.
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
    """Keeps standard error from the terminal; what was written there is shown after a failure.

    A pipe takes what is written, the first 64 KiB of it; the rest is lost.

    Returns:
        A file descriptor that still leads to the terminal.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    said, end = os.pipe()
    for each in (said, end):
        os.set_blocking(each, False)
    os.dup2(end, 2)
    os.close(end)
    try:
        yield kept
    except BaseException:
        with contextlib.suppress(BlockingIOError):  # there is nothing
            os.write(kept, os.read(said, 1 << 16))
        raise
    finally:
        os.dup2(kept, 2)
        os.close(said)
        os.close(kept)


@contextmanager
def native_stderr_hidden() -> Iterator[None]:
    """Keeps what libraries write to standard error from the terminal; Python goes on writing there.

    The libraries of TensorFlow's image decoders tell of damaged images in lines of their own, which
    no setting silences. A crash that TensorFlow would have explained there is told by Python.
    """
    python = sys.__stderr__
    if python is None or sys.stderr is not python:  # closed, or somebody listens already
        yield
        return
    with captured_stderr() as kept, open(kept, "w", buffering=1, encoding=python.encoding,
                               errors=python.errors, closefd=False) as sys.stderr:
        faulthandler.enable(kept)
        try:
            yield
        finally:
            faulthandler.disable()
            sys.stderr = python
