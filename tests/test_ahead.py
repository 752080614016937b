"""Work of other threads, in order and not too far ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from aocr import ahead


@pytest.mark.parametrize("weight", [0, 1 << 18, 1 << 30])
def test_chunks_keep_the_order_and_shrink_where_results_are_heavy(weight: int) -> None:
    taken: list[int] = []
    threads = set()

    def items() -> Iterator[int]:
        for n in range(500):
            taken.append(n)
            yield n

    def work(n: int) -> int:
        threads.add(threading.get_ident())
        return n * n

    most = 0
    with ThreadPoolExecutor(2) as pool:
        found = []
        for value in ahead.in_chunks(pool, work, items(), 3, lambda _: weight):
            found.append(value)
            most = max(most, len(taken) - len(found))
    assert found == [n * n for n in range(500)]
    assert threading.get_ident() not in threads
    assert {0: 64, 1 << 18: 6, 1 << 30: 2}[weight] <= most <= {0: 256, 1 << 18: 16, 1 << 30: 4}[
        weight]


def test_an_error_in_a_thread_arrives() -> None:
    with ThreadPoolExecutor(2) as pool, pytest.raises(ZeroDivisionError):
        list(ahead.in_chunks(pool, lambda n: 1 / n, [2, 1, 0], 2, lambda _: 1))
