"""The summary that ends a training run on a terminal."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aocr.training import progress, summary
from aocr.training.progress import Progress
from aocr.training.state import Best, TrainingState
from aocr.training.summary import RunHistory

COMMAND = "aocr test DATASET --model-dir models/m"


def history(losses: list[float]) -> RunHistory:
    """Returns a run of 100 seconds, of which steps of two images took 80 and their input 5."""
    made = RunHistory()
    for loss in losses:
        made.add_step(loss, 2, 80 / len(losses))
    made.seconds["input"] += 5
    return made


def best(accuracy: float, step: int) -> Best:
    made = Best()
    made.update(accuracy, 0.125, step)
    return made


def shown(run: RunHistory, best_so_far: Best, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Returns the first line of each row by its label."""
    summary.show(run, 100.0, best_so_far, "models/m/best", COMMAND)
    lines = capsys.readouterr().err.splitlines()
    return {line.split()[0]: line[summary._LABEL_WIDTH:].strip() for line in lines
            if line[:1].isalpha()}


@pytest.mark.parametrize(("values", "width", "curve"), [
    ([0.0, 1.0, 0.5], 10, "▁█▅"), ([3.0], 10, "▁"), ([2.0, 2.0], 10, "▁▁"),
    ([0.0, 0.0, 7.0, 7.0, 3.0, 3.0], 3, "▁█▄"), (list(range(8)), 8, "▁▂▃▄▅▆▇█")])
def test_a_sparkline_has_a_level_for_each_part(
        values: list[float], width: int, curve: str) -> None:
    assert summary.sparkline(values, width) == curve


@pytest.mark.parametrize(("seconds", "text"), [
    (0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 0 s"), (3599.4, "59 min 59 s"),
    (3599.6, "1 h 0 min"), (90_000, "25 h 0 min")])
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert summary.duration(seconds) == text


def test_the_summary_has_the_best_step_the_curves_the_times_and_the_next_command(
        capsys: pytest.CaptureFixture[str]) -> None:
    run = history([4.0, 2.0, 1.0, 0.5])
    run.accuracies = [0.25, 0.75]
    rows = shown(run, best(0.75, 20), capsys)
    assert rows["steps"] == "4 in 1 min 40 s, 0.1 images/s"
    assert rows["best"] == "word accuracy 75.00%, CER 12.50% at step 20, in models/m/best"
    assert rows["loss"] == "█▆▃▁ 4 → 0.5"  # equal ratios are equal distances
    assert rows["accuracy"] == "▁█ 25.00% → 75.00%"
    assert rows["time"].split() == ["steps", "1", "min", "20", "s", "80%", "█" * 24]
    assert rows["next"] == COMMAND


def test_the_shares_of_the_time_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    run = history([1.0])
    summary.show(run, 100.0, Best(), "", COMMAND)
    err = capsys.readouterr().err
    assert sum(int(word[:-1]) for word in err.split() if word.endswith("%")) == 100
    assert "best" not in err
    assert "accuracy" not in err


def test_a_terminal_without_block_characters_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n")
    monkeypatch.setattr(sys, "stderr", stream)
    summary.show(history([4.0, 2.0, 1.0]), 100.0, Best(), "", COMMAND)
    stream.seek(0)
    assert "@+_ 4 to 1" in stream.read()


def test_brackets_in_paths_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    summary.show(history([1.0]), 100.0, best(1.0, 1), "models/[bold]/best", COMMAND)
    assert "models/[bold]/best" in capsys.readouterr().err


def run_to_its_end(steps: int = 1, stopped: bool = False) -> Progress:
    """Returns the progress of a run of a few steps, after its closing line."""
    run = Progress(total=2, initial=0)
    with run:
        for _ in range(steps):
            run.log_step(2.0, 0.5, 8, 0.1)
    state = cast(TrainingState, SimpleNamespace(step=best(0, steps).step, epoch=best(0, 0).step,
                                                best=best(0.5, 1)))
    skipped: Any = SimpleNamespace(used=8, training=list)
    run.log_end(state, skipped, "models/m", stopped)
    return run


def test_the_closing_line_says_whether_the_run_was_stopped(logged: list[str]) -> None:
    run_to_its_end()
    assert logged[-1].startswith("Finished at step 1, ")
    run_to_its_end(stopped=True)
    assert logged[-1].startswith("Stopped at step 1, ")
    run_to_its_end(steps=0, stopped=True)
    assert logged[-1] == "Stopped before the first step; there is no checkpoint yet."


@pytest.mark.parametrize("terminal", [True, False])
def test_the_summary_is_shown_on_a_terminal_only(
        terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
        logged: list[str]) -> None:
    monkeypatch.setattr(progress, "on_terminal", lambda: terminal)
    run = run_to_its_end()
    assert run.history.seconds["steps"] == pytest.approx(0.4)
    assert f"Next: {COMMAND}" in logged[-1]
    assert (f"next       {COMMAND}" in capsys.readouterr().err) == terminal


def test_a_terminal_that_was_closed_does_not_end_the_command(
        monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> None:
    def fail(*_: object) -> None:
        raise OSError("Input/output error")

    monkeypatch.setattr(progress, "on_terminal", lambda: True)
    monkeypatch.setattr(summary, "show", fail)
    run_to_its_end()
    assert f"Next: {COMMAND}" in logged[-1]
