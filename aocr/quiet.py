"""Imports TensorFlow without its chatter, for the commands and for the Python interface."""

from __future__ import annotations

import os
import sys
import tempfile
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
    with aside():
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextmanager
def aside() -> Iterator[None]:
    """Keeps standard error from the terminal; what was written there is shown after a failure."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        except BaseException:
            file.seek(0)
            os.write(kept, file.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
