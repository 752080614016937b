"""Work of other threads, in order and not too far ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import pytest

from aocr.data import parallel

AHEAD = 5


class Work:
    """Squares numbers by a clock of its own.

    Args:
        seconds: That each takes.

    Attributes:
        most: Numbers on the way at a time.
        elsewhere: Those that another thread has squared.
    """

    def __init__(self, seconds: Sequence[float]) -> None:
        self._seconds, self._lock, self._now = seconds, threading.Lock(), 0.0
        self._caller, self._begun = threading.get_ident(), 0
        self.most, self.elsewhere = 0, set[int]()

    def run(self) -> list[int]:
        """All squares."""
        found: list[int] = []
        clock = mock.patch("time.perf_counter", side_effect=lambda: self._now)
        with clock, ThreadPoolExecutor(1) as pool:
            for square in parallel.adaptive_ordered_map(pool, self._square, self._items(), AHEAD):
                self.most = max(self.most, self._begun - len(found))
                found.append(square)
        return found

    def _items(self) -> Iterator[int]:
        for n in range(len(self._seconds)):
            self._begun += 1
            yield n

    def _square(self, n: int) -> int:
        with self._lock:
            self._now += self._seconds[n]
            if threading.get_ident() != self._caller:
                self.elsewhere.add(n)
        return n * n


def test_quick_items_are_done_at_once() -> None:
    work = Work([1e-4] * 50)
    assert work.run() == [n * n for n in range(50)]
    assert (work.most, work.elsewhere) == (1, set())


def test_slow_items_are_done_by_others_and_not_too_far_ahead() -> None:
    work = Work([1.0] * 50)
    assert work.run() == [n * n for n in range(50)]
    assert work.most == AHEAD + 1
    assert work.elsewhere == set(range(1, 50))


def test_one_slow_item_among_quick_ones_changes_little() -> None:
    work = Work([1e-4] * 20 + [0.1] + [1e-4] * 200)
    assert work.run() == [n * n for n in range(221)]
    assert 0 < len(work.elsewhere) < 80


def test_an_error_in_a_thread_arrives() -> None:
    with ThreadPoolExecutor(2) as pool, pytest.raises(ZeroDivisionError):
        list(parallel.ordered_map(pool, lambda n: 1 / n, [2, 1, 0], 2))
    with ThreadPoolExecutor(2) as pool, pytest.raises(ZeroDivisionError):
        list(parallel.adaptive_ordered_map(pool, lambda n: 1 / n, [2, 1, 0], 2))
