"""The bytes that all requests together may hold in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from aocr.serving.errors import ErrorCode, RequestError


class ByteBudget:
    """Bytes that requests of both endpoints share. Not for use by several threads.

    Args:
        total: Number of bytes.
    """

    def __init__(self, total: int) -> None:
        self._free = total

    def take(self, size: int) -> None:
        """Takes bytes, which `give_back` has to return.

        Raises:
            RequestError: Fewer are free.
        """
        if size > self._free:
            raise RequestError(ErrorCode.OVERLOADED,
                               "too many large requests at a time; try again")
        self._free -= size

    @contextlib.contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Takes bytes for the duration of a context; see `take`."""
        self.take(size)
        try:
            yield
        finally:
            self.give_back(size)

    def give_back(self, size: int) -> None:
        """Returns bytes that were taken."""
        self._free += size
