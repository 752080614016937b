"""The summary of a training run, which is shown on a terminal when the run ends."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.table import Table

from aocr.training.state import Best, int_value

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = "_.-=+*#@"  # for terminals whose encoding has no others
_SMALLEST_LOSS = 1e-9
_LABEL_WIDTH = 11  # of the first column and its margin
_MAX_CURVE = 60  # characters
_BAR = 30  # characters of a bar that stands for the whole run


@dataclass
class RunHistory:
    """What a run did and where its time went.

    Attributes:
        losses: Loss of each step.
        images: Number of images in all steps.
        accuracies: Word accuracy of each validation, 0…1.
        seconds: Duration of each activity.
        start: When the run started, on the clock of `time.perf_counter`.
    """

    losses: array[float] = field(default_factory=lambda: array("d"))
    images: int = 0
    accuracies: list[float] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(
        ("steps", "input", "validation", "saving"), 0.0))
    start: float = field(default_factory=time.perf_counter)

    def add_step(self, loss: float, images: int, seconds: float) -> None:
        """Adds a step, with its duration without that of its input."""
        self.losses.append(loss)
        self.images += images
        self.seconds["steps"] += seconds

    @contextmanager
    def measure(self, activity: str) -> Iterator[None]:
        """Adds the time spent in a `with` statement to an activity."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[activity] += time.perf_counter() - start


def show(history: RunHistory, elapsed: float, best: Best, best_dir: str, next_command: str
         ) -> None:
    """Prints the summary of a run that took steps to standard error.

    Args:
        history: The run.
        elapsed: Its duration in seconds.
        best: The best validation, of this run or of an earlier one that it resumed.
        best_dir: Directory of the weights of the best validation.
        next_command: Command line to show last.
    """
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    arrow = "to" if console.options.ascii_only else "→"
    curve_width = min(_MAX_CURVE, max(1, console.width - _LABEL_WIDTH - len("0.000000 → 0.000000")))
    blocks = _ASCII_BLOCKS if console.options.ascii_only else _BLOCKS
    rows = _grid()
    rows.add_row("steps", f"{len(history.losses)} in {duration(elapsed)}, "
                 f"{history.images / elapsed:.1f} images/s")
    if best.word_accuracy.numpy() >= 0:
        rows.add_row("best", f"word accuracy {best.word_accuracy.numpy():.2%}, CER "
                     f"{best.cer.numpy():.2%} at step {int_value(best.step)}, in {best_dir}")
    logarithms = np.log(np.maximum(history.losses, _SMALLEST_LOSS))
    rows.add_row("loss", f"{sparkline(logarithms, curve_width, blocks)} "
                 f"{history.losses[0]:.4g} {arrow} {history.losses[-1]:.4g}")
    if len(history.accuracies) > 1:
        rows.add_row("accuracy", f"{sparkline(history.accuracies, curve_width, blocks)} "
                     f"{history.accuracies[0]:.2%} {arrow} {history.accuracies[-1]:.2%}")
    rows.add_row("time", _times(history.seconds, elapsed, blocks[-1]))
    console.print()
    console.print(rows)
    console.print(f"{'next':<{_LABEL_WIDTH}}{next_command}", soft_wrap=True)


def _times(seconds: dict[str, float], elapsed: float, block: str) -> Table:
    """Returns a row for each activity: name, duration, share of the run, bar."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for justify in ("left", "right", "right", "left"):
        table.add_column(justify=justify, no_wrap=True)
    parts = {**seconds, "other": max(0.0, elapsed - sum(seconds.values()))}
    for activity, spent in parts.items():
        share = spent / elapsed
        table.add_row(activity, duration(spent), f"{share:.0%}", block * round(_BAR * share))
    return table


def _grid() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=_LABEL_WIDTH - 2, style="bold")
    table.add_column(overflow="fold")
    return table


def sparkline(values: Sequence[float] | np.ndarray, width: int, blocks: str = _BLOCKS) -> str:
    """Returns a curve of characters.

    Args:
        values: At least one finite number.
        width: Largest number of characters; more values are averaged in equal parts.
        blocks: Characters from the lowest to the highest level.
    """
    parts = np.array_split(np.asarray(values, float), min(width, len(values)))
    means = np.array([part.mean() for part in parts])
    spread = np.ptp(means)
    levels = (means - means.min()) / spread if spread else np.zeros(len(means))
    return "".join(blocks[round(level * (len(blocks) - 1))] for level in levels)


def duration(seconds: float) -> str:
    """Returns a duration as in "1 h 2 min", "3 min 4 s" or "5.6 s"."""
    if seconds < 59.95:  # noqa: PLR2004  # below 60 after rounding
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
