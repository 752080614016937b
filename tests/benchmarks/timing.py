"""Times that can be compared: several things by turns in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: What was measured.
        figure: A ratio of two things of the same run.
        goal: What it should be.
        most: Whether the goal is the most it may be; else it is the least.
        details: What it was made of.
    """

    what: str
    figure: float
    goal: float
    most: bool
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        """Whether the figure is on the right side of the goal."""
        return self.figure <= self.goal if self.most else self.figure >= self.goal


@dataclass
class Times:
    """Seconds of the clock and of the processor, one of each for every call."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def take(self, call: Callable[[], object]) -> None:
        """Calls, and notes how long that took."""
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        self.add(time.perf_counter() - wall, time.process_time() - cpu)

    def add(self, wall: float, cpu: float) -> None:
        """Notes one call."""
        self.wall.append(wall)
        self.cpu.append(cpu)

    def to_json(self) -> dict[str, float]:
        """Medians, and the number of calls."""
        return {"seconds": statistics.median(self.wall),
                "processor_seconds": statistics.median(self.cpu), "calls": len(self.wall)}


def interleaved(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Times]:
    """Calls each in turn, several rounds, after one round that does not count."""
    times = {name: Times() for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].take(call)
    return times


def ratio(above: Times, below: Times) -> dict[str, Any]:
    """Medians of the ratios of neighboring calls, by the clock and by the processor's time.

    What else runs on the machine slows both down alike, and the ratio little.
    """
    def median(a: list[float], b: list[float]) -> float:
        return statistics.median(x / y for x, y in zip(a, b, strict=True))

    return {"by_clock": median(above.wall, below.wall), "by_processor": median(
        above.cpu, below.cpu)}
