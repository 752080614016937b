"""Work that other threads do ahead of its use."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_MOST, _HEAVIEST = 64, 1 << 20  # items and weight of a chunk
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


def in_chunks(pool: ThreadPoolExecutor, function: Callable[[_Item], _Found],
              items: Iterable[_Item], ahead: int, weight: Callable[[_Found], int]
              ) -> Iterator[_Found]:
    """As `in_order`, a chunk of items at a time.

    To hand over a single one takes longer than to read a small file.

    Args:
        pool: The threads.
        function: What they do with an item.
        items: What to do it with.
        ahead: Chunks that are on the way.
        weight: Memory that a result takes, in bytes: where results are large, chunks are small.
    """
    source, size = iter(items), 1

    def chunks() -> Iterator[list[_Item]]:
        while chunk := list(itertools.islice(source, size)):
            yield chunk

    for found in in_order(pool, lambda chunk: list(map(function, chunk)), chunks(), ahead):
        size = max(1, min(_MOST, _HEAVIEST // (1 + max(map(weight, found)))))
        yield from found
