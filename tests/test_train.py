"""Training runs: validation, the best checkpoint, damaged files, a full disk, signals."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from aocr.config import ModelConfig, TrainConfig
from aocr.data import example, splits
from aocr.data.example import Record
from aocr.data.index import build_index, read_records
from aocr.evaluation.calibration import TEMPERATURES
from aocr.inference.recognizer import Recognizer
from aocr.tokenizer import Tokenizer
from aocr.training.checkpointing import Checkpointer
from aocr.training.curriculum import DROPOUT_STEPS, Curriculum
from aocr.training.state import Best
from aocr.training.step import TrainStep
from aocr.training.validation import Scores
from tests.conftest import (
    WORDS,
    Command,
    World,
    file_contents,
    files_no_larger_than,
    messages,
)
from tests.drawing import encoded, undecodable_png, word

SHORT = ("--batch-size", "4", "--steps-per-checkpoint", "1")


@pytest.fixture
def copied(world: World, tmp_path: Path) -> Path:
    """A copy of the model directory, with checkpoints of steps 1 and 2, to damage."""
    return Path(shutil.copytree(world.model_dir, tmp_path / "copied"))


def damage(model_dir: Path, step: int) -> None:
    """Changes a byte in every 4 kB of a checkpoint's data."""
    (path,) = model_dir.glob(f"model.ckpt-{step}.data*")
    data = np.fromfile(path, np.uint8)
    data[::4096] ^= 0xFF
    data.tofile(path)


@pytest.mark.slow
def test_validation_is_logged_and_the_best_checkpoint_is_kept_and_used(
        world: World, command: Command, tmp_path: Path) -> None:
    model_dir = tmp_path / "validated"
    code, logged = command("train", world.records, "--model-dir", model_dir, *SHORT, "--max-steps",
                           4, "--val", world.records, "--early-stop", 1,
                           "--initial-learning-rate", 1e-12)
    lines = messages(logged)
    assert code == 0
    assert "Using 8 of 8 images to validate on, skipping 0." in lines
    validations = [line for line in lines if line.startswith("Validation at step")]
    assert len(validations) == 2  # the second one is no improvement
    assert all("Loss: " in line and "word accuracy: 0.00%, CER: " in line for line in validations)
    assert ("No improvement in 1 validations; the best one is that of step 1: stopping "
            "(--early-stop).") in lines
    assert "Best word accuracy 0.00% at step 1, in " in lines[-1]
    assert lines[-1].endswith(f"Next: aocr test DATASET --model-dir {model_dir}")
    for flags, step in (((), "best/model.ckpt-1"), (("--checkpoint", "latest"), "model.ckpt-2"),
                        (("--checkpoint", "1"), "model.ckpt-1")):
        code, logged = command("predict", world.images[0], "--model-dir", model_dir, *flags)
        assert code == 0
        assert f"Reading model parameters from {model_dir}/{step}" in messages(logged)
    code, logged = command("predict", world.images[0], "--model-dir", model_dir, "--checkpoint", 7)
    assert code == 1
    assert messages(logged) == [
        f"aocr predict: no checkpoint '7' in {model_dir}; it has 1, 2, best"]
    config = Recognizer.load(model_dir / "best").config
    assert config.temperature in np.round(TEMPERATURES, 4)
    assert dataclasses.replace(config, temperature=1.0) == Recognizer.load(world.model_dir).config


@pytest.mark.slow
def test_one_prediction_for_all_validation_images_is_warned_about(
        world: World, command: Command, tmp_path: Path) -> None:
    records_twice = [world.records, shutil.copy(world.records, tmp_path / "again.tfrecords")]
    code, logged = command("train", world.records, "--model-dir", tmp_path / "m", *SHORT,
                           "--max-steps", 1, "--val", *records_twice,
                           "--initial-learning-rate", 1e6, "--no-gradient-clipping")
    warnings = {line for line in messages(logged) if "for all 16 validation images" in line}
    assert code == 0
    assert len(warnings) == 1


def test_early_stop_without_validation_is_refused(
        world: World, command: Command, tmp_path: Path) -> None:
    code, logged = command("train", world.records, "--model-dir", tmp_path / "m", "--early-stop", 3)
    assert code == 1
    assert "--val DATASET or --val-split" in logged
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_split_that_leaves_no_image_is_refused(
        world: World, command: Command, tmp_path: Path, share: float) -> None:
    code, logged = command("train", world.records, "--model-dir", tmp_path / "m",
                           "--val-split", share)
    assert code == 1
    assert f"--val-split {share} leaves" in logged


def test_an_image_is_always_in_the_same_split(tmp_path: Path) -> None:
    images = [encoded(word(f"{n}", (20, 20))) for n in range(200)]
    runs = []
    for name, order in (("a", range(200)), ("b", reversed(range(150)))):
        path = tmp_path / name
        with tf.io.TFRecordWriter(str(path)) as writer:
            for n in order:
                writer.write(example.encode(Record(images[n], str(n), "")))
        config = ModelConfig()
        index = build_index([str(path)], config, Tokenizer(config.alphabet))
        training, validation = splits.split(index, 0.3)
        assert len(training) + len(validation) == len(index)
        runs.append([{record.label for record in read_records(split, range(len(split)))}
                     for split in (training, validation)])
    assert runs[1][0] < runs[0][0]
    assert runs[1][1] < runs[0][1]
    assert 30 <= len(runs[0][1]) <= 90


def test_the_best_validation_has_the_highest_word_accuracy_and_then_the_lowest_cer() -> None:
    best = Best()
    improved = [best.update(*scores, step) for step, scores in enumerate(
        [(0.0, 1.5), (0.0, 0.9), (0.5, 0.3), (0.5, 0.3), (0.4, 0.1), (0.5, 0.2)], start=1)]
    assert improved == [True, True, True, False, False, True]
    assert (int(best.step), int(best.waited), float(best.word_accuracy)) == (6, 0, 0.5)
    assert [best.wait(), best.wait(), best.update(1.0, 0.0, 9), int(best.waited)] == [1, 2, True, 0]


@pytest.mark.parametrize(("early_stop", "max_steps", "stopped_at"), [
    (None, None, 11), (4, 1000, 5), (1, None, 2), (None, 1000, None)])
def test_a_run_stops_without_improvement(
        early_stop: int | None, max_steps: int | None, stopped_at: int | None,
        logged: list[str]) -> None:
    settings = TrainConfig(val=("words",), early_stop=early_stop, max_steps=max_steps)
    state = mock.Mock(best=Best(), step=tf.Variable(0, dtype=tf.int64),
                      curriculum=mock.Mock(is_active=lambda _: False))
    scores = mock.Mock(run=lambda: Scores(0.1, 0.5, 0.3))
    checkpointer = Checkpointer(
        state, mock.Mock(), scores, mock.Mock(), mock.MagicMock(), settings)
    for step in range(1, (stopped_at or 14) + 1):
        state.step.assign(step)
        checkpointer.validate_and_save()
    assert [line for line in logged if not line.startswith("Saving the model")] == (
        [f"No improvement in {stopped_at - 1} validations; the best one is that of step 1: "
         "stopping (--early-stop)."] if stopped_at else [])
    assert int(state.best.waited) == (settings.patience or 13)


def test_validations_within_the_curriculum_are_no_plateau(logged: list[str]) -> None:
    settings = TrainConfig(val=("words",), early_stop=2)
    state = mock.Mock(best=Best(), step=tf.Variable(0, dtype=tf.int64),
                      curriculum=Curriculum(ModelConfig(), 1.0))
    scores = mock.Mock(run=lambda: Scores(0.1, 0.0, 1.0))
    checkpointer = Checkpointer(
        state, mock.Mock(), scores, mock.Mock(), mock.MagicMock(), settings)
    for step in range(10, DROPOUT_STEPS + 11, 10):
        state.step.assign(step)
        checkpointer.validate_and_save()
    assert int(state.best.waited) == 2
    assert logged[-2] == ("No improvement in 2 validations; the best one is that of step 10: "
                          "stopping (--early-stop).")


@pytest.mark.slow
def test_only_the_newest_checkpoints_are_kept(
        world: World, command: Command, tmp_path: Path) -> None:
    code, _ = command("train", world.records, "--model-dir", tmp_path / "m", *SHORT, "--max-steps",
                      3, "--keep", 2)
    assert code == 0
    assert {path.name for path in (tmp_path / "m").glob("*.index")} == {
        "model.ckpt-2.index", "model.ckpt-3.index"}


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
        world: World, command: Command, copied: Path) -> None:
    damage(copied, 2)
    code, logged = command("predict", world.images[0], "--model-dir", copied)
    lines = messages(logged)
    assert code == 0
    assert lines[0].startswith(f"cannot read the checkpoint {copied}/model.ckpt-2: ")
    assert lines[0].endswith(f"Using {copied}/model.ckpt-1 instead; --strict refuses to do so")
    assert lines[1] == f"Reading model parameters from {copied}/model.ckpt-1"
    code, logged = command("predict", world.images[0], "--model-dir", copied, "--strict")
    assert code == 1
    assert len(messages(logged)) == 1
    code, logged = command("train", world.records, "--model-dir", copied, *SHORT,
                           "--max-steps", 2)
    assert code == 0
    assert "Resuming at step 1, epoch 1." in messages(logged)
    assert Recognizer.load(copied).source == f"{copied}/model.ckpt-2"


def test_all_checkpoints_damaged_is_one_line(world: World, command: Command, copied: Path) -> None:
    for path in copied.glob("model.ckpt-*.index"):
        path.write_bytes(path.read_bytes()[:100])
    code, logged = command("predict", world.images[0], "--model-dir", copied)
    assert code == 1
    assert f"aocr predict: cannot read the checkpoint {copied}/model.ckpt-1: " in logged


@pytest.mark.slow
def test_a_lost_newest_checkpoint_is_handled_like_a_damaged_one(
        world: World, command: Command, copied: Path) -> None:
    for path in copied.glob("model.ckpt-2.*"):
        path.unlink()
    code, logged = command("predict", world.images[0], "--model-dir", copied)
    assert code == 0
    assert f"Using {copied}/model.ckpt-1 instead" in logged


def test_training_is_refused_where_the_state_file_is_lost(
        world: World, command: Command, copied: Path) -> None:
    (copied / "checkpoint").unlink()
    before = file_contents(copied)
    code, logged = command("train", world.records, "--model-dir", copied, "--max-steps", 3)
    assert code == 1
    assert "the file checkpoint that names them is missing" in messages(logged)[-1]
    assert file_contents(copied) == before


@pytest.mark.parametrize("content", ["", "model_checkpoint_path: ", "\0\0"])
def test_a_damaged_state_file_is_named_and_the_newest_checkpoint_used(
        world: World, command: Command, copied: Path, content: str) -> None:
    (copied / "checkpoint").write_text(content)
    for argv in (("predict", world.images[0]),
                 ("train", world.records, *SHORT, "--max-steps", 2)):
        code, logged = command(*argv, "--model-dir", copied)
        assert code == 0
        assert f"{copied}/checkpoint is damaged" in logged
        assert f"Reading model parameters from {copied}/model.ckpt-2" in messages(logged)


@pytest.mark.slow
def test_undecodable_validation_images_are_reported(
        world: World, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "val.tfrecords"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for image in (encoded(word("A", (20, 20))), undecodable_png()):
            writer.write(example.encode(Record(image, "A", "")))
    code, logged = command("train", world.records, "--model-dir", tmp_path / "m", *SHORT,
                           "--max-steps", 1, "--val", path)
    assert code == 0
    lines = messages(logged)
    assert "Using 1 of 2 images to validate on, skipping 1." in lines
    assert any("1 x unreadable image (first: record 2 of" in line for line in lines)
    rows = (tmp_path / "m" / "skipped.tsv").read_text(encoding="utf-8").splitlines()
    assert rows[1:] == [f"{path}\t2\tunreadable image\tits data cannot be decoded"]


def test_running_out_of_memory_is_one_line(
        world: World, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out_of_memory(*_: Any) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(TrainStep, "run", run_out_of_memory)
    code, logged = command("train", world.records, "--model-dir", tmp_path / "m")
    assert code == 1
    assert "out of memory: OOM when allocating tensor" in messages(logged)[-1]


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_earlier_checkpoints_stay_intact(
        world: World, command: Command, copied: Path) -> None:
    with files_no_larger_than(4_000_000):
        code, logged = command("train", world.records, "--model-dir", copied, *SHORT,
                               "--max-steps", 4)
    assert code == 1
    error = messages(logged)[-1]
    assert f"aocr train: cannot write the checkpoint of step 3 to {copied}: " in error
    assert error.endswith(f"the last good checkpoint is {copied}/model.ckpt-2; free space on "
                          "the disk, and give the same command again (without "
                          "--no-resume)")
    assert not list(copied.glob("*_temp*"))
    assert not list(copied.glob("model.ckpt-3*"))
    assert Recognizer.load(copied).source == f"{copied}/model.ckpt-2"
    assert command("train", world.records, "--model-dir", copied, *SHORT, "--max-steps", 3)[0] == 0


@pytest.mark.parametrize("model_dir", ["/proc/model", "/dev/null/model"])
def test_a_model_directory_that_cannot_be_created_is_one_line(
        world: World, command: Command, model_dir: str) -> None:
    code, logged = command("train", world.records, "--model-dir", model_dir)
    assert code == 1
    assert f"aocr train: cannot write to the model directory {model_dir}: " in messages(logged)[-1]


@pytest.mark.slow
@pytest.mark.parametrize("learning_rate", [1e30, 3e38])
def test_values_that_are_not_finite_are_never_saved(
        world: World, command: Command, tmp_path: Path, learning_rate: float) -> None:
    model_dir = tmp_path / "m"
    arguments = ("train", world.records, "--model-dir", model_dir, *SHORT, "--optimizer",
                 "adadelta", "--no-gradient-clipping")
    assert command(*arguments, "--max-steps", 2)[0] == 0
    code, logged = command(*arguments, "--max-steps", 9, "--initial-learning-rate", learning_rate)
    assert code == 1
    error = messages(logged)[-1]
    assert f"the last good checkpoint is {model_dir}/model.ckpt-" in error
    assert "--initial-learning-rate" in error
    if "batch" in error:
        assert f"{world.records} records " in error
    for path in model_dir.glob("*.index"):
        reader = tf.train.load_checkpoint(str(path)[:-len(".index")])
        for name, dtype in reader.get_variable_to_dtype_map().items():
            if dtype.is_floating:
                assert np.isfinite(reader.get_tensor(name)).all() or "best" in name


def test_records_that_disappear_during_training_are_one_line(
        world: World, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(shutil.copy(world.records, tmp_path / "removed.tfrecords"))

    def index_and_remove(*arguments: Any) -> Any:  # noqa: ANN401
        index = build_index(*arguments)
        path.unlink()
        return index

    monkeypatch.setattr(splits, "build_index", index_and_remove)
    code, logged = command("train", path, "--model-dir", tmp_path / "m", *SHORT)
    assert code == 1
    error = messages(logged)[-1]
    assert error.startswith("aocr train: cannot continue to read the dataset: ")
    assert "removed.tfrecords" in error


def test_the_words_make_two_batches() -> None:
    """The tests above rely on it."""
    assert len(WORDS) == 8
