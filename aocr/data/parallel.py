"""Work that other threads do ahead of its use."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import tensorflow as tf

# To hand an item over takes some 0.05 ms, and threads of Python take their turns from each other.
_WORTH_IT = 1e-3
_SHARE = 0.1  # of an item in the mean of those before it
_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


def ordered_map(pool: ThreadPoolExecutor, function: Callable[[_Item], _Found],
             items: Iterable[_Item], ahead: int) -> Iterator[_Found]:
    """As `pool.map`, so far ahead and no further: only so many items are in memory."""
    waiting: deque[Future[_Found]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def adaptive_ordered_map(pool: ThreadPoolExecutor, function: Callable[[_Item], _Found],
                     items: Iterable[_Item], ahead: int) -> Iterator[_Found]:
    """As `in_order`, but the caller's own thread does the work as long as items take little time.

    Small local files are such, and remote ones are not.
    """
    waiting: deque[Future[tuple[_Found, float]]] = deque()
    mean = 0.0

    def timed(item: _Item) -> tuple[_Found, float]:
        begun = time.perf_counter()
        return function(item), time.perf_counter() - begun

    for item in items:
        while waiting and (mean < _WORTH_IT or len(waiting) >= ahead):
            found, seconds = waiting.popleft().result()
            mean += _SHARE * (seconds - mean)
            yield found
        if mean < _WORTH_IT:
            found, seconds = timed(item)
            mean += _SHARE * (seconds - mean)
            yield found
        else:
            waiting.append(pool.submit(timed, item))
    while waiting:
        yield waiting.popleft().result()[0]


def without_autotuning(data: tf.data.Dataset) -> tf.data.Dataset:
    """The same pipeline without its autotuner.

    Its thread sleeps ever longer, up to a minute, and taking the pipeline down waits for it
    (measured with TensorFlow 2.21: 5 s after 5 s of work, 50 s after a few minutes).
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)
