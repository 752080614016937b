"""The optimizer of a run: chosen by flags, kept in the checkpoint, and changed on request."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tensorflow as tf

from aocr.cli.main import main
from aocr.errors import AocrError
from aocr.training.state import saved_optimizer
from aocr.training.step import StepResult, TrainStep
from tests.conftest import Command, World, messages

FLAGS = ("--max-width", 100, "--max-height", 32, "--max-prediction", 5, "--batch-size", 4,
         "--attn-num-hidden", 8, "--max-steps", 1)


def optimizer_of(folder: Path) -> str:
    """Returns the optimizer of the newest checkpoint."""
    path = tf.train.latest_checkpoint(str(folder))
    assert path is not None
    return saved_optimizer(path)


@pytest.fixture(scope="module")
def adadelta(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the directory of a model that one step of AdaDelta has trained, and its log."""
    folder: Path = tmp_path_factory.mktemp("adadelta")
    assert main(["train", str(world.records), "--model-dir", str(folder / "m"), *map(str, FLAGS),
                 "--initial-learning-rate", "1", "--log-path", str(folder / "log")]) == 0
    return folder


@pytest.fixture
def no_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes steps only count, which is enough to see the settings of a run."""

    def count(step: TrainStep, *_: object) -> StepResult:
        step._state.step.assign_add(1)
        return StepResult(1.0, 1.0)

    monkeypatch.setattr(TrainStep, "run", count)
    monkeypatch.setattr(TrainStep, "recalibrate_batch_norm", lambda _: None)


def test_a_learning_rate_alone_means_adadelta(adadelta: Path) -> None:
    assert optimizer_of(adadelta / "m") == "adadelta"
    log = (adadelta / "log").read_text(encoding="utf-8")
    assert log.count("training with AdaDelta, as aocr 0.7 does") == 1


def test_a_new_run_uses_adam(world: World, command: Command, tmp_path: Path) -> None:
    code, _ = command("train", world.records, "--model-dir", tmp_path, *FLAGS)
    assert (code, optimizer_of(tmp_path)) == (0, "adam")


@pytest.mark.usefixtures("no_updates")
@pytest.mark.parametrize(("flags", "expected"), [
    ((), "adadelta"), (("--initial-learning-rate", 0.5), "adadelta"),
    (("--optimizer", "adam"), "adam"),
    (("--optimizer", "adam", "--initial-learning-rate", 1e-4, "--schedule", "cosine"), "adam")])
def test_a_resumed_run_keeps_its_optimizer_unless_another_is_named(
        adadelta: Path, world: World, command: Command, tmp_path: Path,
        flags: tuple[object, ...], expected: str) -> None:
    folder = tmp_path / "m"
    shutil.copytree(adadelta / "m", folder)
    code, logged = command("train", world.records, "--model-dir", folder, *FLAGS[:-1], 2, *flags)
    assert (code, optimizer_of(folder)) == (0, expected)
    assert not any("as aocr 0.7 does" in line for line in messages(logged))


@pytest.mark.usefixtures("no_updates")
@pytest.mark.parametrize(("flags", "expected"), [
    ((), 0.001), (("--optimizer", "adadelta"), 1.0),
    (("--initial-learning-rate", 0.0005), 0.0005),
    (("--optimizer", "adam", "--initial-learning-rate", 0.25), 0.25)])
def test_a_warm_start_has_a_lower_learning_rate_unless_one_is_given(
        adadelta: Path, world: World, command: Command, tmp_path: Path,
        flags: tuple[object, ...], expected: float) -> None:
    code, _ = command("train", world.records, "--model-dir", tmp_path / "m", "--init-from",
                      adadelta / "m", "--batch-size", 4, "--max-steps", 1, *flags)
    assert code == 0
    assert optimizer_of(tmp_path / "m") == ("adadelta" if "adadelta" in flags else "adam")
    checkpoint = tf.train.load_checkpoint(str(tmp_path / "m"))
    (name,) = (name for name in checkpoint.get_variable_to_shape_map() if "rate/initial/" in name)
    assert checkpoint.get_tensor(name) == expected


def test_an_unknown_optimizer_in_a_checkpoint_is_one_line(tmp_path: Path) -> None:
    optimizer = tf.Module()
    optimizer.momentum = tf.Variable(0.0)
    path = tf.train.Checkpoint(optimizer=optimizer).write(str(tmp_path / "model.ckpt-1"))
    with pytest.raises(AocrError, match="none of the known optimizers, adam, adadelta; another"):
        saved_optimizer(path)


def test_a_cosine_needs_an_end(world: World, command: Command, tmp_path: Path) -> None:
    code, logged = command("train", world.records, "--model-dir", tmp_path / "m", *FLAGS[:-2],
                           "--schedule", "cosine")
    assert code == 1
    assert messages(logged)[-1] == (
        "aocr train: --schedule cosine needs --max-steps, the step at which it ends")
