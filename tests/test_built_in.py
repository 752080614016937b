"""The model that comes with the package."""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

import aocr
from aocr.checkpoints import built_in, config_file, model_files
from aocr.cli import dataset
from aocr.cli.main import main
from aocr.data.stats import DatasetStats, SizeProposal
from tests.conftest import Command, World, messages

WORDS = ("Hello", "TOTAL", "12,50", "2026-11-25", "user@example.org")


@pytest.fixture(scope="module")
def recognizer() -> aocr.Recognizer:
    return aocr.Recognizer.load()


def drawn(text: str) -> Image.Image:
    """Returns a dark word on a light background, in a font that comes with Pillow."""
    font = ImageFont.load_default(28)
    image = Image.new("L", (int(font.getlength(text)) + 20, 44), 235)
    ImageDraw.Draw(image).text((10, 5), text, fill=30, font=font)
    return image


@pytest.mark.parametrize("word", WORDS)
def test_it_reads_words_in_a_plain_font(recognizer: aocr.Recognizer, word: str) -> None:
    result = recognizer.predict(drawn(word))
    assert isinstance(result, aocr.Result)
    assert result.text == word
    assert result.probability > 0.5


def test_it_is_small_and_knows_the_characters_of_latin_scripts() -> None:
    directory = Path(built_in.resolve("latin"))
    assert sum(path.stat().st_size for path in directory.iterdir()) <= 20e6
    config = config_file.load(str(directory))
    assert config.max_prediction >= 32
    assert config.max_width / config.max_height * 32 >= 640
    assert not config.color
    printable = {chr(code) for code in range(32, 127)}
    assert (printable | set("äöüßéèñçøåæœłšžőğ€£§°«»–—’“”…")) <= set(config.alphabet)


def test_predict_reads_with_it_where_there_is_no_model(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
        ) -> None:
    monkeypatch.chdir(tmp_path)
    drawn("Hello").save("hello.png")
    Path("latin").mkdir()  # has another meaning only where a command names it
    assert main(["predict", "hello.png"]) == 0
    lines = messages(capsys.readouterr().err)
    assert lines[0].startswith("There is no model in ./checkpoints: reading with the built-in "
                               "model latin, trained on ")
    assert lines[-1].endswith(" Hello")
    Path("checkpoints").mkdir()
    for name in (".DS_Store", ".gitkeep", "notes.txt"):
        Path("checkpoints", name).touch()
    assert main(["predict", "hello.png"]) == 0
    assert messages(capsys.readouterr().err)[-1].endswith(" Hello")
    Path("checkpoints", "model.ckpt-5.data-00000-of-00001").touch()
    assert main(["predict", "hello.png"]) == 1
    assert messages(capsys.readouterr().err)[-1].endswith(
        "no checkpoint in ./checkpoints; expected a directory that `aocr train` has written, or "
        "the name of a built-in model (latin)")
    assert main(["predict", "hello.png", "--model-dir", "latin"]) == 1
    assert "this directory takes precedence over the built-in model of the same name" in (
        messages(capsys.readouterr().err)[-1])


@pytest.mark.parametrize("name", [
    "config.json", "checkpoint", "model.ckpt-5.index", "translate.ckpt-5.data-00000-of-00001",
    "best", "saved_model.pb", "frozen_graph.pb", "model.onnx", "model.tflite", "weights.npz", "3"])
def test_files_of_a_model_are_recognized(name: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    assert not model_files.holds_model(str(tmp_path))
    (tmp_path / name).touch()
    assert model_files.holds_model(str(tmp_path))


@pytest.mark.parametrize("model", [[], ["--model-dir", "checkpoints"]])
def test_a_model_directory_that_cannot_be_read_is_one_line(
        model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(_: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.chdir(tmp_path)
    Path("checkpoints").mkdir()
    monkeypatch.setattr(os, "listdir", refuse)
    assert main(["predict", "hello.png", *model]) == 1
    (line,) = messages(capsys.readouterr().err)
    assert re.search("cannot read the directory (./)?checkpoints: Permission denied", line)


def test_only_version_reads_the_config_of_a_built_in_model(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
        ) -> None:
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{")
    monkeypatch.setattr(built_in, "_MODELS", tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert re.fullmatch("aocr: .*config.json cannot be read: .*", str(stop.value.code))


@pytest.mark.slow
def test_training_testing_and_exporting_know_its_name(
        world: World, command: Command, tmp_path: Path) -> None:
    model_dir, exported = tmp_path / "fine-tuned", tmp_path / "exported"
    code, logged = command("train", world.records, "--model-dir", model_dir, "--init-from", "latin",
                           "--charset", "auto", "--batch-size", 4, "--max-steps", 1, model=False)
    assert code == 0
    assert any("characters keep their weights, 0 get new ones" in line
               for line in messages(logged))
    code, logged = command("test", world.records, "--model-dir", "latin", model=False)
    assert code == 0
    code, _ = command("export", exported, "--model-dir", "latin", model=False)
    assert code == 0
    assert (exported / "saved_model.pb").exists()


@pytest.mark.parametrize(("text", "directory", "recommended"), [
    ("Hello", "other", True), ("日本語版 a", "other", False), ("Hello", "latin", False)])
def test_dataset_recommends_it_for_characters_that_it_knows_where_no_path_has_its_name(
        text: str, directory: str, recommended: bool, tmp_path: Path,
        capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / directory).mkdir()
    drawn("Hello").save("a.png")
    Path("a.txt").write_text(f"a.png {text}\n", encoding="utf-8")
    assert main(["dataset", "a.txt", "a.tfrecords", "--log-path", "log"]) == 0
    last = messages(capsys.readouterr().err)[-1]
    assert (" --init-from latin" in last) == recommended


@pytest.mark.parametrize(("pairs", "characters", "flags"), [
    (99, "aé", "--init-from latin --max-steps 150 --augment light"),
    (100, "aé", "--val-split 0.1 --init-from latin --steps-per-checkpoint 25 --augment light"),
    (500, "aé語本", "--val-split 0.1 --init-from latin --steps-per-checkpoint 25"),
    (10_000, "aé", "--val-split 0.1 --init-from latin"),
    (499, "語本", "--val-split 0.1 --augment light"), (10_000, "語本a", "--val-split 0.1")])
def test_the_proposed_duration_depends_on_the_number_of_images(
        pairs: int, characters: str, flags: str) -> None:
    stats = DatasetStats(pairs, longest="ab", characters=Counter(characters), label_lengths={2})
    line = dataset._train_line(stats, SizeProposal(100, 32, 0), "words.tfrecords")
    assert line == ("aocr train words.tfrecords --max-width 100 --max-height 32 --max-prediction 2 "
                    f"--charset auto {flags}")
