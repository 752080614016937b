"""How `train()` starts: which directories it refuses, and which settings and weights it takes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from aocr.checkpoints import config_file
from aocr.config import TrainConfig
from aocr.data import example, splits
from aocr.errors import AocrError
from aocr.runtime.distributed import Cluster
from aocr.training import train
from aocr.training.start import StartOptions, choose_start
from tests import originals
from tests.conftest import WORDS, World, file_contents
from tests.drawing import undecodable_png

NO_SETTINGS: dict[str, object] = {}
NEW = StartOptions(resume=False)


def run_train(world: World, model_dir: Path, options: StartOptions,
              model_settings: Mapping[str, object] = NO_SETTINGS, max_steps: int = 1) -> None:
    """Trains for a step or two from Python, on one device."""
    settings = TrainConfig(batch_size=4, max_steps=max_steps)
    train.train([str(world.records)], str(model_dir), model_settings, settings,
                Cluster(tf.distribute.get_strategy()), options)


@pytest.mark.parametrize("options", [NEW, StartOptions()], ids=["new", "resume"])
def test_a_directory_of_the_original_aocr_is_refused_and_not_changed(
        world: World, tmp_path: Path, options: StartOptions) -> None:
    values = originals.variables(originals.OriginalModel())
    model_dir = originals.write(tmp_path / "original", values)
    before = file_contents(model_dir)
    with pytest.raises(AocrError, match="a model of the original aocr, which is never written to"):
        run_train(world, model_dir, options)
    assert file_contents(model_dir) == before


@pytest.mark.parametrize("options", [NEW, StartOptions()], ids=["new", "resume"])
def test_checkpoints_of_another_program_are_refused_and_not_changed(
        world: World, tmp_path: Path, options: StartOptions) -> None:
    tf.train.Checkpoint(x=tf.Variable(1.0)).write(str(tmp_path / "model.ckpt-1"))
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-1"\n')
    before = file_contents(tmp_path)
    with pytest.raises(AocrError, match="name another --model-dir"):
        run_train(world, tmp_path, options)
    assert file_contents(tmp_path) == before


def test_an_exported_model_is_refused_and_not_changed(world: World, exported: Path) -> None:
    before = file_contents(exported)
    with pytest.raises(AocrError, match="holds an exported model"):
        run_train(world, exported, NEW)
    assert file_contents(exported) == before


def test_a_path_that_is_a_pattern_to_tensorflow_is_refused_and_not_created(
        world: World, tmp_path: Path) -> None:
    with pytest.raises(AocrError, match=r"m \[1\]: TensorFlow takes a model path"):
        run_train(world, tmp_path / "m [1]", NEW)
    assert not list(tmp_path.iterdir())


def test_a_setting_that_contradicts_the_model_is_refused_and_nothing_changed(
        world: World, tmp_path: Path) -> None:
    model_dir = Path(shutil.copytree(world.model_dir, tmp_path / "model"))
    before = file_contents(model_dir)
    with pytest.raises(AocrError, match="--attn-num-hidden 3 contradicts .*-hidden 128"):
        run_train(world, model_dir, StartOptions(), {"attn_num_hidden": 3})
    assert file_contents(model_dir) == before


def test_a_resumed_run_needs_no_settings(
        world: World, tmp_path: Path, logged: list[str]) -> None:
    model_dir = Path(shutil.copytree(world.model_dir, tmp_path / "model"))
    run_train(world, model_dir, StartOptions(dataset_alphabet=True), max_steps=3)
    assert "Resuming at step 2, epoch 2." in logged
    assert (config_file.load(str(model_dir)).alphabet
            == config_file.load(str(world.model_dir)).alphabet)


@pytest.mark.slow
def test_a_new_run_uses_the_settings_and_replaces_earlier_checkpoints(
        world: World, tmp_path: Path, logged: list[str]) -> None:
    model_dir = Path(shutil.copytree(world.model_dir, tmp_path / "model"))
    (model_dir / "best").mkdir()
    run_train(world, model_dir, StartOptions(resume=False, dataset_alphabet=True),
              {"attn_num_hidden": 3})
    config = config_file.load(str(model_dir))
    assert (config.attn_num_hidden, config.alphabet) == (3, "".join(sorted(
        {character for word in WORDS for character in word})))
    assert "its first checkpoint replaces those" in "".join(logged)
    assert not (model_dir / "best").exists()
    assert '"model.ckpt-1"' in (model_dir / "checkpoint").read_text()


@pytest.mark.slow
def test_a_mixture_is_part_of_every_batch_and_of_no_epoch(
        world: World, tmp_path: Path, logged: list[str]) -> None:
    mixed = str(tmp_path / "mixed.tfrecords")
    with tf.io.TFRecordWriter(mixed) as writer:
        for image in (world.images[0].read_bytes(), undecodable_png()):
            writer.write(example.encode(example.Record(image, "A", "")))
    settings = TrainConfig(batch_size=6, max_steps=3, mix=(mixed,), mix_share=0.34)
    train.train([str(world.records)], str(tmp_path / "m"), NO_SETTINGS, settings,
                Cluster(tf.distribute.get_strategy()), NEW)
    assert "Mixing in: 2 images in every batch of 6." in logged
    used = "Using 8 of 8 images to train on, skipping 0."
    assert [line for line in logged if line.startswith("Using")] == [
        "Using 2 of 2 images to mix in, skipping 0.", used,
        "Using 1 of 2 images to mix in, skipping 1.", used]
    assert "\t2\tunreadable image\t" in (tmp_path / "m" / "skipped.tsv").read_text()
    # 8 images in batches of 4: the third batch is the first one of the second epoch.
    assert "Finished at step 3, after 1 complete epochs" in logged[-1]
    assert "on 8 images, 0 skipped" in logged[-1]


def test_the_characters_of_a_mixture_are_part_of_the_alphabet(world: World, tmp_path: Path) -> None:
    records = str(tmp_path / "one.tfrecords")
    with tf.io.TFRecordWriter(records) as writer:
        writer.write(example.encode(example.Record(world.images[0].read_bytes(), "é", "")))
    start = choose_start([records], str(tmp_path / "m"), {}, TrainConfig(mix=(str(world.records),)),
                         StartOptions(dataset_alphabet=True))
    assert set(start.config.alphabet) == {"é", *"".join(WORDS)}


def test_checkpoints_that_another_run_wrote_meanwhile_are_not_replaced(
        world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_dir, load_splits = tmp_path / "model", splits.load_splits

    def load_while_another_run_trains(*args: Any, **kwargs: Any) -> Any:
        shutil.copytree(world.model_dir, model_dir)
        return load_splits(*args, **kwargs)

    monkeypatch.setattr(splits, "load_splits", load_while_another_run_trains)
    with pytest.raises(AocrError, match="another run has written checkpoints .* the same command"):
        run_train(world, model_dir, StartOptions())
    assert (model_dir / "checkpoint").read_bytes() == (world.model_dir / "checkpoint").read_bytes()


@pytest.mark.parametrize(("mix", "share", "message"), [
    (("none.tfrecords",), 0.25, "no such dataset: none.tfrecords"),
    (("x",), 1.0, "--mix-share must be above 0 and below 1, got 1.0"),
    ((), 0.5, "--mix-share needs --mix DATASET")])
def test_a_mixture_that_cannot_be_is_refused(
        world: World, tmp_path: Path, mix: tuple[str, ...], share: float, message: str) -> None:
    with pytest.raises(AocrError, match=message):
        train.train([str(world.records)], str(tmp_path / "m"), NO_SETTINGS,
                    TrainConfig(mix=mix, mix_share=share),
                    Cluster(tf.distribute.get_strategy()), NEW)
