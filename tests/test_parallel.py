"""The ordered, bounded thread map."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from aocr.data import parallel

MAX_PENDING = 5


def test_results_come_in_order_whichever_thread_is_first() -> None:
    done = [threading.Event() for _ in range(50)]

    def square(n: int) -> int:
        if n % 2 == 0:  # the next item is finished first
            assert done[n + 1].wait(60)
        done[n].set()
        return n * n

    squares = parallel.ordered_map(square, range(50), threads=2, max_pending=MAX_PENDING)
    assert list(squares) == [n * n for n in range(50)]


@pytest.mark.parametrize(("threads", "max_pending"), [(1, 1), (2, MAX_PENDING)])
def test_items_are_taken_as_results_are_consumed(threads: int, max_pending: int) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for n in range(50):
            taken += 1
            yield n

    for n, square in enumerate(parallel.ordered_map(lambda n: n * n, items(), threads,
                                                    MAX_PENDING)):
        assert square == n * n
        assert taken <= n + max_pending


def test_one_thread_is_the_callers_own() -> None:
    idents = parallel.ordered_map(lambda _: threading.get_ident(), range(3), 1, MAX_PENDING)
    assert set(idents) == {threading.get_ident()}


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_thread_reaches_the_caller(threads: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(parallel.ordered_map(lambda n: 1 / n, [2, 1, 0], threads, MAX_PENDING))


def test_closing_the_map_early_stops_taking_items() -> None:
    source = iter(range(50))
    results = parallel.ordered_map(str, source, 2, MAX_PENDING)
    assert next(results) == "0"
    results.close()  # type: ignore[attr-defined]
    assert next(source) == MAX_PENDING
