"""A training as its user sees it: validation, the best checkpoint, damage, a full disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from aocr.config import ModelConfig
from aocr.data import example, splits
from aocr.data.example import Record
from aocr.data.index import build_index, read_records
from aocr.inference.recognizer import Recognizer
from aocr.tokenizer import Tokenizer
from aocr.training.state import Best
from aocr.training.step import TrainStep
from tests.conftest import WORDS, Command, World, files_no_larger_than, messages
from tests.drawing import encoded, undecodable_png, word

SHORT = ("--batch-size", "4", "--steps-per-checkpoint", "1")


@pytest.fixture
def copied(world: World, tmp_path: Path) -> Path:
    """The world's model folder, with checkpoints of steps 1 and 2, to break."""
    return Path(shutil.copytree(world.model_dir, tmp_path / "copied"))


def damage(folder: Path, step: int) -> None:
    """Turns a byte in every 4 kB of a checkpoint's data."""
    (path,) = folder.glob(f"model.ckpt-{step}.data*")
    data = np.fromfile(path, np.uint8)
    data[::4096] ^= 0xFF
    data.tofile(path)


@pytest.mark.slow
def test_validation_is_told_and_the_best_checkpoint_is_kept_and_taken(
        world: World, command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "validated"
    code, logged = command("train", world.records, "--model-dir", folder, *SHORT, "--max-steps", 4,
                           "--val", world.records, "--early-stop", 1,
                           "--initial-learning-rate", 1e-12)
    said = messages(logged)
    assert code == 0
    assert "Using 8 of 8 images to validate on, skipping 0." in said
    told = [line for line in said if line.startswith("Validation at step")]
    assert len(told) == 2  # the second one gains nothing
    assert all("Loss: " in line and "word accuracy: 0.00%, CER: " in line for line in told)
    assert "No improvement in 1 validations since step 1: stopping (--early-stop)." in said
    assert "Best word accuracy 0.00% at step 1, in " in said[-1]
    assert said[-1].endswith(f"Next: aocr test DATASET --model-dir {folder}")
    for words, step in (((), "best/model.ckpt-1"), (("--checkpoint", "latest"), "model.ckpt-2"),
                        (("--checkpoint", "1"), "model.ckpt-1")):
        code, logged = command("predict", world.images[0], "--model-dir", folder, *words)
        assert code == 0
        assert f"Reading model parameters from {folder}/{step}" in messages(logged)
    code, logged = command("predict", world.images[0], "--model-dir", folder, "--checkpoint", 7)
    assert code == 1
    assert messages(logged) == [f"aocr predict: no checkpoint '7' in {folder}; it has 1, 2, best"]
    assert Recognizer.load(folder / "best").config == Recognizer.load(world.model_dir).config


@pytest.mark.slow
def test_a_constant_answer_is_warned_about(world: World, command: Command, tmp_path: Path) -> None:
    records_twice = [world.records, shutil.copy(world.records, tmp_path / "again.tfrecords")]
    code, logged = command("train", world.records, "--model-dir", tmp_path / "m", *SHORT,
                           "--max-steps", 1, "--val", *records_twice,
                           "--initial-learning-rate", 1e6, "--no-gradient-clipping")
    said = messages(logged)
    texts = {line for line in said if "for all 16 validation images" in line}
    assert code == 0
    assert len(texts) == 1


def test_early_stop_needs_something_to_validate_on(
        world: World, command: Command, tmp_path: Path) -> None:
    code, logged = command("train", world.records, "--model-dir", tmp_path / "m", "--early-stop", 3)
    assert code == 1
    assert "--val DATASET or --val-split" in logged
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_share_that_leaves_nothing_is_refused(
        world: World, command: Command, tmp_path: Path, share: float) -> None:
    code, logged = command("train", world.records, "--model-dir", tmp_path / "m",
                           "--val-split", share)
    assert code == 1
    assert f"--val-split {share} leaves" in logged


def test_an_image_stays_on_its_side_of_the_split(tmp_path: Path) -> None:
    images = [encoded(word(f"{n}", (20, 20))) for n in range(200)]
    sides = []
    for name, order in (("a", range(200)), ("b", reversed(range(150)))):
        path = tmp_path / name
        with tf.io.TFRecordWriter(str(path)) as writer:
            for n in order:
                writer.write(example.encode(Record(images[n], str(n), "")))
        config = ModelConfig()
        index = build_index([str(path)], config, Tokenizer(config.alphabet))
        training, validation = splits.split(index, 0.3)
        assert len(training) + len(validation) == len(index)
        sides.append([{record.label for record in read_records(part, range(len(part)))}
                      for part in (training, validation)])
    assert sides[1][0] < sides[0][0]
    assert sides[1][1] < sides[0][1]
    assert 30 <= len(sides[0][1]) <= 90


def test_the_best_is_the_highest_word_accuracy_and_then_the_lowest_cer() -> None:
    best = Best()
    found = [best.update(*scores, step) for step, scores in enumerate(
        [(0.0, 1.5), (0.0, 0.9), (0.5, 0.3), (0.5, 0.3), (0.4, 0.1), (0.5, 0.2)], start=1)]
    assert found == [0, 0, 0, 1, 2, 0]
    assert (int(best.step), int(best.waited), float(best.word_accuracy)) == (6, 0, 0.5)


@pytest.mark.slow
def test_only_the_newest_checkpoints_are_kept(
        world: World, command: Command, tmp_path: Path) -> None:
    code, _ = command("train", world.records, "--model-dir", tmp_path / "m", *SHORT, "--max-steps",
                      3, "--keep", 2)
    assert code == 0
    assert {path.name for path in (tmp_path / "m").glob("*.index")} == {
        "model.ckpt-2.index", "model.ckpt-3.index"}


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(
        world: World, command: Command, copied: Path) -> None:
    damage(copied, 2)
    code, logged = command("predict", world.images[0], "--model-dir", copied)
    said = messages(logged)
    assert code == 0
    assert said[0].startswith(f"cannot read the checkpoint {copied}/model.ckpt-2: ")
    assert said[0].endswith(f"Taking {copied}/model.ckpt-1 instead; --strict refuses to")
    assert said[1] == f"Reading model parameters from {copied}/model.ckpt-1"
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
def test_a_lost_newest_checkpoint_is_as_a_damaged_one(
        world: World, command: Command, copied: Path) -> None:
    for path in copied.glob("model.ckpt-2.*"):
        path.unlink()
    code, logged = command("predict", world.images[0], "--model-dir", copied)
    assert code == 0
    assert f"Taking {copied}/model.ckpt-1 instead" in logged


def test_a_lost_state_file_costs_no_model(world: World, command: Command, copied: Path) -> None:
    (copied / "checkpoint").unlink()
    before = {path.name: path.read_bytes() for path in copied.iterdir() if path.is_file()}
    code, logged = command("train", world.records, "--model-dir", copied, "--max-steps", 3)
    assert code == 1
    assert "the file checkpoint that names them is missing" in messages(logged)[-1]
    assert {path.name: path.read_bytes() for path in copied.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("content", ["", "model_checkpoint_path: ", "\0\0"])
def test_a_damaged_state_file_is_named_and_the_newest_checkpoint_taken(
        world: World, command: Command, copied: Path, content: str) -> None:
    (copied / "checkpoint").write_text(content)
    for words in (("predict", world.images[0]), ("train", world.records, *SHORT,
                                                 "--max-steps", 2)):
        code, logged = command(*words, "--model-dir", copied)
        assert code == 0
        assert f"{copied}/checkpoint is damaged" in logged
        assert f"Reading model parameters from {copied}/model.ckpt-2" in messages(logged)


@pytest.mark.slow
def test_validation_images_that_cannot_be_decoded_are_named(
        world: World, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "val.tfrecords"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for image in (encoded(word("A", (20, 20))), undecodable_png()):
            writer.write(example.encode(Record(image, "A", "")))
    code, logged = command("train", world.records, "--model-dir", tmp_path / "m", *SHORT,
                           "--max-steps", 1, "--val", path)
    assert code == 0
    said = messages(logged)
    assert "Using 1 of 2 images to validate on, skipping 1." in said
    assert any("1 x unreadable image (first: record 2 of" in line for line in said)
    listed = (tmp_path / "m" / "skipped.tsv").read_text(encoding="utf-8").splitlines()
    assert listed[1:] == [f"{path}\t2\tunreadable image\tits data cannot be decoded"]


def test_memory_that_does_not_suffice_is_one_line(
        world: World, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(TrainStep, "run", full)
    code, logged = command("train", world.records, "--model-dir", tmp_path / "m")
    assert code == 1
    assert "out of memory: OOM when allocating tensor" in messages(logged)[-1]


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_the_earlier_checkpoints(
        world: World, command: Command, copied: Path) -> None:
    with files_no_larger_than(4_000_000):
        code, logged = command("train", world.records, "--model-dir", copied, *SHORT,
                               "--max-steps", 4)
    assert code == 1
    said = messages(logged)[-1]
    assert f"aocr train: cannot write the checkpoint of step 3 to {copied}: " in said
    assert said.endswith(f"the last good checkpoint is {copied}/model.ckpt-2; mend the disk, and "
                         "give the same command again")
    assert not list(copied.glob("*_temp*"))
    assert not list(copied.glob("model.ckpt-3*"))
    assert Recognizer.load(copied).source == f"{copied}/model.ckpt-2"
    assert command("train", world.records, "--model-dir", copied, *SHORT, "--max-steps", 3)[0] == 0


@pytest.mark.parametrize("folder", ["/proc/model", "/dev/null/model"])
def test_a_folder_that_cannot_be_made_is_one_line(
        world: World, command: Command, folder: str) -> None:
    code, logged = command("train", world.records, "--model-dir", folder)
    assert code == 1
    assert f"aocr train: cannot write to the model directory {folder}: " in messages(logged)[-1]


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1e30, 3e38])
def test_nothing_that_is_not_finite_is_saved(
        world: World, command: Command, tmp_path: Path, rate: float) -> None:
    folder = tmp_path / "m"
    code, logged = command("train", world.records, "--model-dir", folder, *SHORT, "--max-steps", 9,
                           "--initial-learning-rate", rate, "--no-gradient-clipping")
    assert code == 1
    said = messages(logged)[-1]
    assert "the last good checkpoint is" in said
    assert "--initial-learning-rate" in said
    if "batch" in said:
        assert f"{world.records} records " in said
    for path in folder.glob("*.index"):
        reader = tf.train.load_checkpoint(str(path)[:-len(".index")])
        for name, kind in reader.get_variable_to_dtype_map().items():
            if kind.is_floating:
                assert np.isfinite(reader.get_tensor(name)).all() or "best" in name


def test_records_that_vanish_while_training_are_one_line(
        world: World, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(shutil.copy(world.records, tmp_path / "gone.tfrecords"))
    index = build_index

    def then_gone(*arguments: Any) -> Any:  # noqa: ANN401
        found = index(*arguments)
        path.unlink()
        return found

    monkeypatch.setattr(splits, "build_index", then_gone)
    code, logged = command("train", path, "--model-dir", tmp_path / "m", *SHORT)
    assert code == 1
    said = messages(logged)[-1]
    assert said.startswith("aocr train: cannot read on in the dataset: ")
    assert "gone.tfrecords" in said


def test_words_have_two_batches() -> None:
    """What the tests above count on."""
    assert len(WORDS) == 8
