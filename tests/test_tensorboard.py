"""Event files, as TensorBoard reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

from aocr.training.tensorboard import EventFile
from tests.conftest import files_no_larger_than


def read_scalars(directory: Path) -> list[tuple[int, str, float]]:
    """Returns all scalars of all event files, in order."""
    return [(event.step, value.tag, value.simple_value)
            for path in sorted(directory.glob("events.out.tfevents.*"))
            for event in tf.compat.v1.train.summary_iterator(str(path))
            for value in event.summary.value]


def test_scalars_are_read_as_they_were_written(tmp_path: Path) -> None:
    with EventFile(str(tmp_path)) as events:
        events.scalars(1, {"loss": 2.5, "total_gradient_norm": 0.25})
        events.scalars(70_000, {"loss": 0.5})
    assert read_scalars(tmp_path) == [(1, "loss", 2.5), (1, "total_gradient_norm", 0.25),
                                 (70_000, "loss", 0.5)]


def test_a_resumed_run_marks_the_step_from_which_earlier_files_do_not_count(tmp_path: Path) -> None:
    with EventFile(str(tmp_path), 40):
        pass
    (path,) = tmp_path.glob("events.out.tfevents.*")
    _, start = tf.compat.v1.train.summary_iterator(str(path))
    assert (start.step, start.session_log.status) == (41, tf.compat.v1.SessionLog.START)


def test_the_first_event_holds_the_version(tmp_path: Path) -> None:
    with EventFile(str(tmp_path)):
        pass
    (path,) = tmp_path.glob("events.out.tfevents.*")
    first = next(iter(tf.compat.v1.train.summary_iterator(str(path))))
    assert first.file_version == "brain.Event:2"
    assert first.wall_time > 1e9


def test_flushed_scalars_are_visible_before_the_file_is_closed(tmp_path: Path) -> None:
    with EventFile(str(tmp_path)) as events:
        events.scalars(3, {"loss": 1.0})
        events.flush()
        assert read_scalars(tmp_path) == [(3, "loss", 1.0)]


def test_a_second_file_of_the_same_second_does_not_replace_the_first(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aocr.training.tensorboard.time.time", lambda: 1.7e9)
    for step in (1, 2):
        with EventFile(str(tmp_path)) as events:
            events.scalars(step, {"loss": float(step)})
    assert sorted(read_scalars(tmp_path)) == [(1, "loss", 1.0), (2, "loss", 2.0)]


def test_names_have_the_order_of_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = (5_999_999_999, 6_009_087_517, 6_123_000_000)
    for step, nanoseconds in enumerate(times):
        monkeypatch.setattr("aocr.training.tensorboard.time.time_ns", lambda ns=nanoseconds: ns)
        with EventFile(str(tmp_path)) as events:
            events.scalars(step, {"loss": 1.0})
    assert [step for step, _, _ in read_scalars(tmp_path)] == [0, 1, 2]


def test_a_full_disk_loses_scalars_and_nothing_else(tmp_path: Path, logged: list[str]) -> None:
    with EventFile(str(tmp_path)) as events:
        events.flush()
        (path,) = tmp_path.iterdir()
        with files_no_larger_than(path.stat().st_size):
            events.scalars(1, {"loss": 2.5})
            events.flush()
            events.scalars(2, {"loss": 2.5})
            events.__exit__()
    assert [line.split(":")[0] for line in logged] == [
        "the scalars for TensorBoard are lost from here on"]
