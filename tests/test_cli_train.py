"""The commands dataset, train and test: logged lines, files, and checks of their flags."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from aocr.cli.main import main
from aocr.cli.train import _read_charset
from tests.conftest import WORDS, Command, World, draw, messages


def test_dataset_logs_the_lines_of_the_original(
        world: World, command: Command, tmp_path: Path) -> None:
    code, logged = command("dataset", world.annotations, tmp_path / "a.tfrecords",
                           "--log-step", 3)
    lines = messages(logged)
    assert code == 0
    assert [line for line in lines if line.startswith("Processed")] == [
        "Processed 3 pairs.", "Processed 6 pairs."]
    assert "Dataset is ready: 8 pairs." in lines
    assert "Longest label (5): HELLO" in lines


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_stops_the_log_file_and_nothing_else(
        world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", str(world.annotations), str(tmp_path / "a.tfrecords"), "--log-path",
                 "/dev/full"]) == 0
    lines = messages(capsys.readouterr().err)
    assert sum("cannot write to the log file /dev/full" in line for line in lines) == 1
    assert "Dataset is ready: 8 pairs." in lines


@pytest.mark.slow
def test_the_proposed_train_line_uses_every_image(
        world: World, command: Command, tmp_path: Path) -> None:
    draw("WIDE" * 5, tmp_path / "wide.png")
    (tmp_path / "tall.png").write_bytes(world.images[0].read_bytes())
    lines = f"{world.images[0]} a-b\n{tmp_path}/wide.png WIDEWIDEWIDEWIDEWIDE\n"
    (tmp_path / "odd.txt").write_text(lines, encoding="utf-8")
    _, logged = command("dataset", tmp_path / "odd.txt", tmp_path / "odd data.tfrecords")
    proposal = messages(logged)[-1].removeprefix("To train on it: aocr train ")
    words = proposal.replace(f"'{tmp_path}/odd data.tfrecords'", "DATASET").split()
    assert words[1::2] == ["--max-width", "--max-height", "--max-prediction", "--charset",
                           "--init-from", "--max-steps", "--augment"]
    code, logged = command("train", tmp_path / "odd data.tfrecords", *words[1:],
                           "--model-dir", tmp_path / "model", "--max-steps", 1)
    assert code == 0
    assert "Using 2 of 2 images, skipping 0." in messages(logged)


def test_train_logs_a_line_for_each_step_as_the_original_does(world: World) -> None:
    lines = messages(world.log.read_text(encoding="utf-8"))
    steps = [line for line in lines if line.startswith("Step ")]
    assert len(steps) == 2
    number = r"\d+\.\d+"
    for n, line in enumerate(steps, start=1):
        assert re.fullmatch(
            rf"Step {n}: {number}s, loss: {number}, perplexity: {number}\.", line)
    assert "Saving the model at step 1." in lines
    assert any(re.fullmatch(
        rf"Global step 2\. Time: {number}s, loss: {number}, perplexity: {number}\.", line)
        for line in lines)


def test_a_model_directory_has_the_file_names_of_the_original(world: World) -> None:
    names = sorted(path.name for path in world.model_dir.iterdir())
    assert names == sorted([
        "checkpoint", "config.json", "skipped.tsv", "training.lock", "model.ckpt-1.index",
        "model.ckpt-1.data-00000-of-00001", "model.ckpt-2.index",
        "model.ckpt-2.data-00000-of-00001",
        next(name for name in names if name.startswith("events.out.tfevents."))])
    first = (world.model_dir / "checkpoint").read_text().splitlines()[0]
    assert first == 'model_checkpoint_path: "model.ckpt-2"'


@pytest.mark.slow
def test_a_resumed_training_counts_step_lines_from_1_and_continues_the_checkpoint_numbers(
        world: World, command: Command, tmp_path: Path) -> None:
    shutil.copytree(world.model_dir, tmp_path / "model")
    code, logged = command("train", world.records, "--model-dir", tmp_path / "model",
                           "--batch-size", 4, "--max-steps", 3)
    lines = messages(logged)
    assert code == 0
    assert f"Reading model parameters from {tmp_path}/model/model.ckpt-2" in lines
    assert "Resuming at step 2, epoch 2." in lines
    assert [line[:7] for line in lines if line.startswith("Step")] == ["Step 1:"]
    assert "Saving the model at step 3." in lines


@pytest.mark.slow
def test_no_resume_starts_with_new_weights(world: World, command: Command, tmp_path: Path) -> None:
    shutil.copytree(world.model_dir, tmp_path / "model")
    code, logged = command("train", world.records, "--model-dir", tmp_path / "model",
                           "--no-resume", "--batch-size", 4, "--max-steps", 1)
    assert code == 0
    assert "Saving the model at step 1." in messages(logged)
    assert "Reading model parameters" not in logged


def test_test_logs_the_lines_of_the_original(world: World, command: Command) -> None:
    code, logged = command("test", world.records)
    lines = [line for line in messages(logged) if line.startswith("Step")]
    assert code == 0
    assert len(lines) == 8
    share = r" *\d+\.\d\d%"
    for n, (line, word, path) in enumerate(zip(lines, WORDS, world.images, strict=True), 1):
        wrong = rf" *\d+% \([0-9A-Z]* vs {word}\) images/{path.name}"
        assert re.fullmatch(
            rf"Step {n} \(\d+\.\d{{3}}s\)\. Accuracy: {share}, loss: \d+\.\d{{6}}, "
            rf"perplexity: [\d.e+]{{7,}}, probability: {share} (100% \({word}\)|{wrong})", line)


def test_test_writes_json_and_a_summary(world: World, command: Command, tmp_path: Path) -> None:
    code, logged = command("test", world.records, "--json", tmp_path / "result.json",
                           "--batch-size", 3)
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    summary = result["summary"]
    assert code == 0
    assert (summary["images"], summary["skipped"]) == (8, 0)
    for rate in ("word_accuracy", "word_accuracy_ignoring_case", "one_minus_ned", "accuracy"):
        assert 0 <= summary[rate] <= 1
    assert {"cer", "loss", "perplexity", "images_per_second"} <= summary.keys()
    assert [row["label"] for row in result["images"]] == list(WORDS)
    assert [row["record"] for row in result["images"]] == list(range(1, 9))
    assert re.search(r"word accuracy +\d+\.\d\d%", logged)


@pytest.mark.slow
def test_used_and_skipped_add_up_to_all_in_train_and_test(
        world: World, command: Command, tmp_path: Path) -> None:
    broken = bytearray((world.root / "images" / "0.png").read_bytes())
    broken[60:90] = bytes(30)  # the header is intact, the data are not
    (tmp_path / "broken.png").write_bytes(broken)
    draw("TOOWIDE", tmp_path / "wide.png", (200, 32))
    lines = [f"{world.images[1]} WORLD", f"{tmp_path}/broken.png BROKEN",
             f"{tmp_path}/wide.png WIDE", f"{world.images[2]} MUCHTOOLONG",
             f"{world.images[3]} ö", f"{world.images[4]} GOOD"]
    (tmp_path / "mixed.txt").write_text("\n".join(lines), encoding="utf-8")
    code, _ = command("dataset", tmp_path / "mixed.txt", tmp_path / "mixed.tfrecords",
                      "--no-verify")
    assert code == 0
    flags = ("--model-dir", tmp_path / "model")
    code, trained = command("train", tmp_path / "mixed.tfrecords", *flags, "--num-epoch", 1)
    assert code == 0
    assert "Using 2 of 6 images, skipping 4." in messages(trained)
    code, tested = command("test", tmp_path / "mixed.tfrecords", *flags,
                           "--json", tmp_path / "mixed.json")
    assert code == 0
    assert "Using 2 of 6 images, skipping 4." in messages(tested)
    summary = json.loads((tmp_path / "mixed.json").read_text())["summary"]
    assert (summary["images"], summary["skipped"]) == (2, 4)
    table = (tmp_path / "model" / "skipped.tsv").read_text(encoding="utf-8").splitlines()
    assert sorted(row.split("\t")[1:3] for row in table[1:]) == [
        ["2", "unreadable image"], ["3", "image too wide"], ["4", "label too long"],
        ["5", "unknown character"]]


@pytest.mark.slow
def test_oversize_shrink_uses_wide_images_and_is_recorded(
        world: World, command: Command, tmp_path: Path) -> None:
    flags = ("--model-dir", tmp_path / "model")
    code, logged = command("train", world.records, "--max-width", 30, "--oversize", "shrink",
                           "--max-steps", 1, *flags)
    assert code == 0
    assert "Using 8 of 8 images, skipping 0." in messages(logged)
    code, logged = command("test", world.records, *flags)
    assert "Using 8 of 8 images, skipping 0." in messages(logged)


@pytest.mark.parametrize(("flags", "named"), [
    (("--max-width", 10), "--max-width"),
    (("--max-prediction", 1, "--max-width", 300), "--max-prediction"),
])
def test_no_usable_image_is_an_error_that_names_the_flag(
        world: World, command: Command, tmp_path: Path, flags: tuple[object, ...], named: str
        ) -> None:
    (tmp_path / "two.txt").write_text(f"{world.images[0]} HELLO\n{world.images[1]} WORLD\n")
    command("dataset", tmp_path / "two.txt", tmp_path / "two.tfrecords")
    code, logged = command("train", tmp_path / "two.tfrecords", "--model-dir", tmp_path / "m",
                           *flags)
    assert code == 1
    assert named in messages(logged)[-1]


@pytest.mark.slow
def test_charset_auto_uses_the_characters_of_the_dataset(
        world: World, command: Command, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"{world.images[0]} größe ſ\n", encoding="utf-8")
    command("dataset", tmp_path / "a.txt", tmp_path / "a.tfrecords", "--no-force-uppercase")
    code, _ = command("train", tmp_path / "a.tfrecords", "--charset", "auto", "--max-steps", 1,
                      "--model-dir", tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text(encoding="utf-8"))
    assert code == 0
    assert config["model"]["alphabet"] == " egrßöſ"


@pytest.mark.parametrize(("content", "alphabet"), [
    ("ba\nc a\r\n", " abc"), ("\ufeffé\u212b\n", "Åé"),
    ("z\u0301", "zź\u0301"), ("q\u0301\n\u0301", "q\u0301"), ("e\n\u0301", "e\u0301"),
    ("\u1100\u1161", "\u1100\u1161\uac00"), ("\u0958", "\u0915\u093c")])
def test_characters_of_a_charset_file_stand_for_themselves_and_composed(
        tmp_path: Path, content: str, alphabet: str) -> None:
    (tmp_path / "chars").write_bytes(content.encode())
    assert _read_charset(str(tmp_path / "chars")) == alphabet


@pytest.mark.parametrize(("content", "message"), [
    (b"\n\n", "the file holds no characters"), (b"\xff", "expected a UTF-8 text file, or `auto`")])
def test_a_charset_file_without_text_is_one_line(
        world: World, command: Command, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "chars").write_bytes(content)
    code, logged = command("train", world.records, "--charset", tmp_path / "chars", "--model-dir",
                           tmp_path / "m")
    assert code == 1
    assert f"--charset {tmp_path}/chars: {message}" in messages(logged)[-1]


@pytest.mark.slow
def test_a_charset_file_sets_the_alphabet(world: World, command: Command, tmp_path: Path) -> None:
    (tmp_path / "chars").write_text("HELOWRDXTN\nABC1234\n", encoding="utf-8")
    flags = ("--charset", tmp_path / "chars", "--model-dir", tmp_path / "m")
    code, logged = command("train", world.records, "--max-steps", 1, *flags)
    assert code == 0
    assert "Using 8 of 8 images, skipping 0." in messages(logged)
    (tmp_path / "chars").write_text("other")
    code, logged = command("train", world.records, "--max-steps", 2, *flags)
    assert code == 1
    assert "the alphabet" in messages(logged)[-1]


@pytest.mark.parametrize("name", ["train", "test", "predict", "export"])
def test_a_flag_that_contradicts_the_model_directory_is_refused_with_both_values(
        world: World, command: Command, tmp_path: Path, name: str) -> None:
    words = {"train": [world.records], "test": [world.records], "predict": [world.images[0]],
             "export": [tmp_path / "out"]}[name]
    code, logged = command(name, *words, "--max-width", 99)
    last = messages(logged)[-1]
    assert code == 1
    assert "--max-width 99" in last
    assert "--max-width 160" in last
    code, logged = command(name, *words, "--use-gru")
    assert code == 1
    assert "no --use-gru" in messages(logged)[-1]


def test_flags_that_agree_with_the_model_directory_are_accepted(
        world: World, command: Command) -> None:
    code, _ = command("predict", world.images[0], "--max-width", 160, "--max-height", 60,
                      "--initial-learning-rate", 0.5, "--no-gradient-clipping", "--gpu-id", -1)
    assert code == 0
