"""Runs that are resumed with other records, or from a checkpoint between two regular ones."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from aocr.checkpoints import directory, loader
from aocr.checkpoints.saver import CheckpointSaver
from aocr.config import ModelConfig, TrainConfig
from aocr.data.sampler import Mixture, Position
from aocr.data.splits import Splits
from aocr.errors import AocrError
from aocr.runtime.distributed import Cluster
from aocr.training import train
from aocr.training.lock import LOCK_FILE
from aocr.training.loop import TrainingLoop
from aocr.training.start import StartOptions
from aocr.training.state import TrainingState, int_value
from aocr.training.validation import Validator
from tests.conftest import World, file_contents
from tests.test_sampler import index_of

SMALL: dict[str, object] = {"max_width": 100, "max_height": 32, "max_prediction": 5,
                            "attn_num_hidden": 3, "target_embedding_size": 2}


def run(world: World, model_dir: Path, options: StartOptions | None = None, **settings: Any) -> int:
    """Trains a small model from Python, on one device."""
    return train.train([str(world.records)], str(model_dir), SMALL,
                       TrainConfig(batch_size=4, **settings),
                       Cluster(tf.distribute.get_strategy()), options or StartOptions())


def make_state() -> TrainingState:
    """Returns the state of a run at position 5 of epoch 2, step 30, with a validation."""
    state = TrainingState(ModelConfig(attn_num_hidden=2), TrainConfig(),
                          Cluster(tf.distribute.get_strategy()))
    state.step.assign(30)
    state.data_position = Position(2, 5)
    state.best.update(0.9, 0.1, 20)
    return state


@pytest.mark.parametrize("part", ["rate", "curriculum", "resume", "clipping"])
def test_a_checkpoint_of_an_earlier_version_lacks_parts(part: str, tmp_path: Path) -> None:
    state, resumed = make_state(), make_state()
    state.step.assign(31)
    parts = {name: value for name, value in state._parts.items() if name != part}
    path = tf.train.Checkpoint(**parts).write(str(tmp_path / "ckpt"))
    assert loader.restore(resumed.checkpoint_for, [path], strict=True) == path
    assert int_value(resumed.step) == 31


def test_the_same_records_change_nothing(logged: list[str]) -> None:
    state = make_state()
    for _ in range(2):
        state.start_with(11, 12)
        assert state.data_position == state.resume.recent == (2, 5)
        assert int_value(state.best.step) == 20
    state.resume.recent = Position(1, 3)
    state.start_with(11, None)
    state.start_with(11, 12)
    assert (state.resume.recent, int_value(state.best.step), logged) == ((1, 3), 20, [])


def test_other_records_to_train_on_start_the_epoch_again(logged: list[str]) -> None:
    state = make_state()
    state.start_with(11, 12)
    state.resume.recent = Position(1, 3)
    state.start_with(99, 12)
    assert state.data_position == state.resume.recent == (2, 0)
    assert int_value(state.best.step) == 20
    assert logged == ["The images to train on are not those that the run was started with: epoch 3 "
                      "starts again."]


def test_other_records_to_validate_on_reset_the_best_validation(logged: list[str]) -> None:
    state = make_state()
    state.best.wait()
    state.start_with(11, 12)
    state.start_with(11, 99)
    assert (float(state.best.word_accuracy), int_value(state.best.waited)) == (-1.0, 0)
    state.start_with(11, 12)
    assert state.best.update(0.1, 0.9, 40)
    assert state.data_position == (2, 5)
    assert logged == ["The images to validate on are not those of the earlier validations: the "
                      "best word accuracy so far, 90.00% at step 20, no longer counts."]


@pytest.mark.slow
def test_a_run_that_is_stopped_between_checkpoints_computes_the_same_statistics(
        world: World, tmp_path: Path) -> None:
    """Precise batch norm uses the last eight batches, some of them from before the stop."""
    for name, stops in (("complete", [20]), ("stopped", [15, 20])):
        for max_steps in stops:
            run(world, tmp_path / name, max_steps=max_steps, steps_per_checkpoint=10)
    first, second = (tf.train.load_checkpoint(str(tmp_path / name / "model.ckpt-20"))
                     for name in ("complete", "stopped"))
    names = [name for name in first.get_variable_to_shape_map()
             if name.startswith(("model/", "trained/", "rate/", "resume/"))]
    assert any("moving_mean" in name for name in names)
    for name in names:
        np.testing.assert_array_equal(first.get_tensor(name), second.get_tensor(name), name)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [
    {"optimizer": "adadelta"}, {"optimizer": "adam", "schedule": "cosine"}])
def test_a_resumed_run_equals_an_uninterrupted_one_with_every_optimizer(
        world: World, tmp_path: Path, logged: list[str], settings: dict[str, Any]) -> None:
    settings = {**settings, "max_steps": 4, "steps_per_checkpoint": 2}
    run(world, tmp_path / "complete", **settings)
    shutil.copytree(tmp_path / "complete", tmp_path / "resumed",
                    ignore=shutil.ignore_patterns("model.ckpt-4.*"))
    run(world, tmp_path / "resumed", **settings)
    assert any(line.startswith("Resuming at step 2,") for line in logged)
    first, second = (tf.train.load_checkpoint(str(tmp_path / name / "model.ckpt-4"))
                     for name in ("complete", "resumed"))
    names = first.get_variable_to_shape_map()
    assert any(name.startswith("optimizer/") for name in names)
    for name in names.keys() - {"_CHECKPOINTABLE_OBJECT_GRAPH"}:
        np.testing.assert_array_equal(first.get_tensor(name), second.get_tensor(name), name)


@pytest.mark.slow
def test_a_validation_that_a_signal_prevents_is_made_when_the_run_resumes(
        world: World, tmp_path: Path, logged: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def train_to(step: int) -> None:
        run(world, tmp_path / "m", max_steps=step, val=(str(world.records),))

    with monkeypatch.context() as patch:
        patch.setattr(Validator, "run", lambda _: None)
        train_to(2)
    assert not [line for line in logged if line.startswith("Validation at")]
    stopped = file_contents(tmp_path / "m")
    for step in (2, 3, 3):
        train_to(step)
    assert [line.split(".")[0] for line in logged if line.startswith("Validation at")] == [
        f"Validation at step {step}" for step in (2, 2, 3)]
    checkpoint = {path: content for path, content in stopped.items() if "model.ckpt-2" in str(path)}
    assert checkpoint
    assert checkpoint.items() <= file_contents(tmp_path / "m").items()


def test_a_checkpoint_without_a_model_to_start_from_is_refused(
        world: World, tmp_path: Path) -> None:
    choice = StartOptions().checkpoint._replace(which="300")
    with pytest.raises(AocrError, match="--checkpoint selects a checkpoint of --init-from, which"):
        run(world, tmp_path / "m", StartOptions(checkpoint=choice))


def test_the_fixed_alphabet_of_a_resumed_run_is_named(
        world: World, tmp_path: Path, logged: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingLoop, "run", lambda _: 0)
    for alphabet, expected in (("HELO", 1), ("ABCDEHLORTWNX1234", 0)):
        model_dir = tmp_path / alphabet
        with monkeypatch.context() as patch:
            patch.setattr(TrainingLoop, "run", lambda loop: loop.output.save() or 0)
            train.train([str(world.records)], str(model_dir), {**SMALL, "alphabet": alphabet},
                        TrainConfig(), Cluster(tf.distribute.get_strategy()))
        run(world, model_dir, StartOptions(dataset_alphabet=True))
        assert sum("--charset auto: the alphabet of" in line for line in logged) == expected
        logged.clear()


@pytest.mark.parametrize(("method", "error"), [
    ("aocr.training.step.TrainStep.run", AocrError("the end")),
    ("tensorflow.train.Checkpoint.write",
     tf.errors.ResourceExhaustedError(None, None, "the end: no space left"))])
def test_a_new_run_keeps_the_earlier_checkpoints_until_it_has_written_its_first(
        world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str,
        error: Exception) -> None:
    model_dir = Path(shutil.copytree(world.model_dir, tmp_path / "model"))
    (model_dir / "best").mkdir()
    before = file_contents(model_dir)

    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(method, fail)
        with pytest.raises(AocrError, match="the end"):
            run(world, model_dir, StartOptions(resume=False), max_steps=1)
    after = file_contents(model_dir)
    del before[model_dir / LOCK_FILE], before[model_dir / "skipped.tsv"]
    assert {name: after[name] for name in before} == before
    run(world, model_dir, StartOptions(resume=False), max_steps=1)
    assert [path.name for path in model_dir.glob("*.index")] == ["model.ckpt-1.index"]
    assert not (model_dir / "best").exists()


def test_weights_that_are_not_finite_are_not_written_as_the_best(tmp_path: Path) -> None:
    state = make_state()
    content = state.saved()._replace(finite=lambda: False)
    saver = CheckpointSaver(content, str(tmp_path), ModelConfig(attn_num_hidden=2), 1)
    for save in (saver.save, saver.save_best):
        with pytest.raises(AocrError, match="adam --initial-learning-rate 0.0005"):
            save()
    assert not list(tmp_path.iterdir())
    state.rate.start.assign(0.0006)
    with pytest.raises(AocrError, match="adam --initial-learning-rate 0.00015"):
        saver.save()


def test_the_same_records_in_another_role_have_another_checksum() -> None:
    index, mixture = index_of([5, 6, 7]), Mixture(2, 1, 1, 2, 0)
    checksums = [Splits(index).training_checksum(0), Splits(index).training_checksum(1),
                 Splits(index, mixture=mixture).training_checksum(0)]
    assert len(set(checksums)) == 3


def test_a_repaired_state_file_lets_a_run_remove_old_checkpoints(
        world: World, tmp_path: Path) -> None:
    model_dir = Path(shutil.copytree(world.model_dir, tmp_path / "model"))
    (model_dir / "checkpoint").write_text("")
    directory.repair_state(str(model_dir))
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(), str(model_dir), 5)
    assert [Path(path).name for path in manager.checkpoints] == ["model.ckpt-1", "model.ckpt-2"]
    assert str(model_dir) not in (model_dir / "checkpoint").read_text()
