"""Work that other threads do ahead of its use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


def in_order(pool: ThreadPoolExecutor, function: Callable[[_Item], _Found],
             items: Iterable[_Item], ahead: int) -> Iterator[_Found]:
    """As `pool.map`, so far ahead and no further: only so many items are in memory."""
    waiting: deque[Future[_Found]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
