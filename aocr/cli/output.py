"""Standard output, which may be closed by its reader, or on a full disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from aocr.errors import AocrError


@contextmanager
def written() -> Iterator[None]:
    """Writes to standard output, at the end of a block, all that the block has printed.

    Raises:
        BrokenPipeError: The reader of standard output has closed it.
        AocrError: Standard output cannot be written.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        # Python would report at exit that it cannot write the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise AocrError(f"cannot write to standard output: {error.strerror}") from error
