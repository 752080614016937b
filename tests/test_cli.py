"""The commands as scripts use them: log lines, files, exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import aocr
from aocr.cli.main import main, parser
from tests import option_tables
from tests.conftest import WORDS, Command, World, draw, in_process, messages


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
                           "--init-from"]
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


def test_predict_logs_the_lines_of_the_original(world: World, command: Command) -> None:
    code, logged = command("predict", world.images[0], world.images[1])
    lines = [line for line in messages(logged) if line.startswith("Result")]
    assert code == 0
    assert len(lines) == 2
    assert all(re.fullmatch(r"Result: OK\. [01]\.\d\d [0-9A-Z]*", line) for line in lines)


def test_predict_continues_after_a_bad_file_and_exits_with_1(
        world: World, command: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no image")
    code, logged = command("predict", tmp_path / "missing.png", tmp_path / "bad.png",
                           world.images[0])
    lines = messages(logged)
    assert code == 1
    assert f"Result: error while opening file {tmp_path}/missing.png." in lines[1]
    assert f"Result: error while opening file {tmp_path}/bad.png." in lines[2]
    assert lines[3].startswith("Result: OK.")
    assert "ERROR" in logged


def test_predict_reads_names_from_standard_input_and_directories(
        world: World, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    names = "".join(f"{path}\n" for path in world.images)
    monkeypatch.setattr(sys, "stdin", io.StringIO(names))
    _, from_stdin = command("predict")
    _, from_folder = command("predict", world.root / "images")
    assert messages(from_stdin) == messages(from_folder)
    assert len(messages(from_folder)) == 9


def test_predict_skips_files_in_a_directory_that_are_not_images_by_name(
        world: World, command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    shutil.copy(world.images[0], folder / "1.PNG")
    shutil.copy(world.images[1], folder / "2.jpeg")
    shutil.copy(world.images[0], folder / "._x.png")
    for name in (".DS_Store", "Thumbs.db", "labels.txt"):
        (folder / name).write_bytes(b"\0\0\0\1Bud1")
    code, logged = command("predict", folder)
    lines = messages(logged)[1:]
    assert code == 0
    assert [line[:11] for line in lines[1:]] == ["Result: OK."] * 2
    assert lines[0] == (f"Not read in {folder} (hidden files: 2, files without an image "
                        "extension: 2, directories: 1); name them to read them")
    code, logged = command("predict", folder / "._x.png", folder / "labels.txt")
    assert code == 1
    assert [line.split(".")[0] for line in messages(logged)[1:]] == [
        "Result: OK", "Result: error while opening file " + str(folder / "labels")]


def test_predict_reports_an_empty_directory_and_a_pipe_and_reads_the_other_files(
        world: World, command: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    code, logged = command("predict", tmp_path / "empty", tmp_path / "pipe.png", world.images[0])
    lines = messages(logged)[1:]
    assert code == 1
    assert f"{tmp_path}/empty. cannot open the file: it is a folder" in lines[0]
    assert f"{tmp_path}/pipe.png. cannot open the file: it is not a regular file" in lines[1]
    assert lines[2].startswith("Result: OK.")


def test_predict_writes_tables_and_json_lines(
        world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["predict", str(world.images[0]), "--model-dir", str(world.model_dir),
            "--log-path", str(tmp_path / "log")]
    assert main([*argv, "--format", "tsv"]) == 0
    path, probability, text = capsys.readouterr().out.rstrip("\n").split("\t")
    assert main([*argv, "--format", "jsonl"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert set(row) == {"path", "text", "probability", "characters"}
    assert (row["path"], row["text"]) == (path, text)
    assert row["probability"] == pytest.approx(float(probability), abs=1e-6)
    assert "".join(character for character, _ in row["characters"]) == text
    assert all(0 <= probability <= 1 for _, probability in row["characters"])


def test_visualize_writes_stills_animation_and_words(
        world: World, command: Command, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    code, _ = command("test", world.records, "--visualize", "--output-dir", out)
    assert code == 0
    folders = sorted(path.parent for path in out.glob("*/*/word.txt"))
    assert sorted(folder.name for folder in folders) == [f"{n:06}" for n in range(1, 9)]
    for folder in folders:
        text, label = (folder / "word.txt").read_text(encoding="utf-8").splitlines()
        assert folder.parent.name == ("correct" if text == label else "incorrect")
        assert label == WORDS[int(folder.name) - 1]
        assert len(list(folder.glob("image_*.jpg"))) == len(text)
        assert (folder / "image.gif").read_bytes().startswith(b"GIF8")


@pytest.mark.parametrize(("words", "expected"), [
    (["train", "missing.tfrecords"], "no such dataset: missing.tfrecords"),
    (["dataset", "missing.txt"], "no such annotation file: missing.txt"),
    (["test", ".", "--model-dir", "."], "no checkpoint in ."),
    (["predict", "a.png", "--model-dir", "nowhere"], "no model directory nowhere"),
    (["export", "--model-dir", "nowhere"], "no model directory nowhere"),
    (["train", "x", "--charset", "auto", "--full-ascii"], "exclude each other"),
    (["train", "x", "--charset", "nofile"], "--charset nofile"),
])
def test_user_errors_are_one_line_with_exit_code_1(
        command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str],
        expected: str) -> None:
    monkeypatch.chdir(tmp_path)
    code, logged = command(*words, model=False)
    assert code == 1
    assert expected in messages(logged)[-1]
    assert len(messages(logged)) == 1


@pytest.mark.parametrize("name", ["m [1]", "m*", "m?", "m\\\\n"])
def test_a_model_path_that_tensorflow_takes_for_a_pattern_is_refused(
        world: World, command: Command, name: str) -> None:
    code, logged = command("train", world.records, "--model-dir", name)
    assert code == 1
    (line,) = messages(logged)
    assert f"{name}: TensorFlow takes" in line
    assert not Path(name).exists()


def test_an_unwritable_results_file_is_reported_before_the_test(
        world: World, command: Command, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "r.json"):
        code, logged = command("test", world.records, "--json", path)
        assert code == 1
        assert f"cannot write the results to {path}" in messages(logged)[-1]
        assert "Step 1" not in logged


def test_one_file_for_two_results_is_an_error(
        world: World, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "results"
    code, logged = command("test", world.records, "--json", file, "--report", file)
    assert code == 1
    assert messages(logged)[-1] == (
        f"aocr test: --json and --report both name {file}; give each a file of its own")
    assert not file.exists()


def test_results_are_written_through_links(world: World, command: Command, tmp_path: Path) -> None:
    link, file = tmp_path / "link", tmp_path / "file.json"
    file.write_text("")
    link.symlink_to(file)
    assert command("test", world.records, "--json", link)[0] == 0
    assert link.is_symlink()
    assert json.loads(file.read_text(encoding="utf-8"))["summary"]["images"] == 8


def test_a_dataset_does_not_replace_a_pipe_or_a_directory(
        world: World, command: Command, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for output, words in ((f"{tmp_path}/pipe", "not a regular file"),
                          (f"{tmp_path}/new/", "a directory")):
        code, logged = command("dataset", world.annotations, output)
        assert code == 1
        assert words in messages(logged)[-1]
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".log"] == ["pipe"]


@pytest.mark.parametrize("arguments", [
    ["dataset", "n\udcff.txt", "o.tfrecords"], ["dataset", "list.txt", "o\udcff.tfrecords"],
    ["train", "o\udcff.tfrecords"], ["train", "o.tfrecords", "--charset", "n\udcff.txt"],
    ["predict", "a.png", "--model-dir", "m\udcff"]])
def test_paths_that_tensorflow_cannot_open_are_refused(
        arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments]) == 1
    assert r"\udcff" in (error := capsys.readouterr().err)
    assert "is not UTF-8, and TensorFlow opens no other paths; rename" in error


@pytest.mark.slow
def test_file_names_that_are_not_utf8_are_read(
        world: World, command: Command, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "images")
    os.mkdir(folder)
    for name in (b"caf\xe9.png", b"good.png"):
        shutil.copy(os.fsencode(world.images[0]), os.path.join(folder, name))
    for files in ([tmp_path / "images"], [os.fsdecode(os.path.join(folder, b"caf\xe9.png")),
                                          tmp_path / "images" / "good.png"]):
        code, logged = command("predict", *files)
        assert code == 0
        assert sum("Result: OK" in line for line in messages(logged)) == 2
    code, _ = command("predict", *files, "--format", "jsonl")
    assert code == 0
    code, logged = command("predict", os.fsdecode(os.path.join(folder, b"\xe9.png")))
    assert code == 1
    assert sum("No such file or directory" in line for line in messages(logged)) == 1


def test_predict_warns_if_no_file_was_named(
        command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    code, logged = command("predict")
    assert code == 0
    assert "No file was named; nothing was read." in messages(logged)


@pytest.mark.parametrize("flags", [["--checkpoint", "7"], ["--debias"]])
def test_checkpoint_flags_are_refused_for_an_exported_model(
        exported: Path, world: World, command: Command, flags: list[str]) -> None:
    code, logged = command("predict", world.images[0], "--model-dir", exported, *flags)
    assert code == 1
    assert "is an exported model; --checkpoint and --debias" in messages(logged)[-1]


def test_a_missing_dataset_is_an_error(command: Command) -> None:
    code, logged = command("test", "missing.tfrecords")
    assert code == 1
    assert "no such dataset: missing.tfrecords" in messages(logged)[-1]


@pytest.mark.parametrize("words", [[], ["unknown"], ["train"], ["train", "x", "--max-width", "0"],
                                   ["train", "x", "--batch-size", "many"]])
def test_wrong_usage_exits_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert "usage: aocr" in capsys.readouterr().err


def test_a_file_where_a_directory_is_needed_is_an_error(
        world: World, command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, logged = command("export", tmp_path / "file")
    assert code == 1
    assert "is a file" in messages(logged)[-1]
    code, logged = command("train", world.records, "--model-dir", tmp_path / "file")
    assert code == 1
    assert str(tmp_path / "file") in messages(logged)[-1]


@pytest.mark.slow
def test_a_missing_gpu_is_reported_if_it_was_requested(world: World, command: Command) -> None:
    _, by_default = command("predict", world.images[0])
    _, requested = command("predict", world.images[0], "--gpu-id", 7)
    assert "GPU" not in by_default
    assert "There is no GPU 7" in requested


def test_an_unwritable_log_path_is_an_error(
        world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    code = main(["predict", str(world.images[0]), "--model-dir", str(world.model_dir),
                 "--log-path", str(tmp_path / "file" / "folder" / "aocr.log")])
    assert code == 1
    assert "--log-path" in capsys.readouterr().err


def test_help_and_usage_errors_do_not_import_tensorflow(tmp_path: Path) -> None:
    code = ("import sys, aocr.cli.main\n"
            "for words in (['train', '--help'], ['serve', '--help']):\n"
            "    try: aocr.cli.main.main(words)\n"
            "    except SystemExit: pass\n"
            "try: aocr.cli.main.main(['train'])\n"
            "except SystemExit: pass\n"
            "import aocr\n"
            "heavy = {'tensorflow', 'keras', 'numpy', 'PIL', 'grpc', 'uvicorn', 'starlette',\n"
            "         'prometheus_client', 'tensorflow_serving'} & set(sys.modules)\n"
            "sys.exit(f'imported {heavy}' if heavy else 0)")
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                           cwd=Path(aocr.__file__).parents[1], check=False)
    assert process.returncode == 0, process.stderr


@pytest.mark.slow
def test_a_separate_process_prints_only_its_log(world: World, tmp_path: Path) -> None:
    process = in_process("predict", "--model-dir", str(world.model_dir), cwd=tmp_path,
                       text=f"{world.images[0]}\n")
    assert process.returncode == 0
    assert process.stdout == ""
    assert len(messages(process.stderr)) == 2
    assert (tmp_path / "aocr.log").read_text(encoding="utf-8") == process.stderr


COMMANDS = ("dataset", "train", "test", "predict", "export", "serve")
ORIGINAL_FLAGS = """
    --max-width 200 --max-height 50 --max-prediction 9 --full-ascii --color --no-distance
    --gpu-id -1 --use-gru --attn-num-layers 1 --attn-num-hidden 64 --target-embedding-size 5
    --initial-learning-rate 0.5 --max-gradient-norm 2 --no-gradient-clipping --job-dir model
    --output-dir pictures --log-path log"""


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main([*words, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS)])
def test_help_fits_80_columns_and_its_examples_parse(
        words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
        ) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = help_of(capsys, *words).splitlines()
    assert max(map(len, lines)) <= 80
    examples = [re.sub(r" > \S+$", "", line).split("| ")[-1] for line in lines
                if line.startswith("  aocr ") or "| aocr " in line]
    assert examples
    for example in examples:
        assert parser().parse_args(shlex.split(example)[1:]).command


@pytest.mark.parametrize("name", ["train", "test", "predict", "export"])
def test_flags_that_the_original_accepted_on_every_command_are_accepted(name: str) -> None:
    dataset = ["words.tfrecords"] if name in ("train", "test") else []
    args = parser().parse_args([name, *dataset, *shlex.split(ORIGINAL_FLAGS)])
    assert (args.model_dir, args.max_width, args.attn_num_hidden) == ("model", 200, 64)


def test_help_hides_flags_without_effect(capsys: pytest.CaptureFixture[str]) -> None:
    shown = {name: set(re.findall(r"--[a-z-]+", help_of(capsys, name))) for name in COMMANDS}
    learning = {"--initial-learning-rate", "--max-gradient-norm", "--no-gradient-clipping"}
    assert learning <= shown["train"]
    for name in ("test", "predict", "export"):
        assert not shown[name] & (learning | {"--attn-num-layers", "--use-gru", "--color"})
    for name in ("train", "predict", "export"):
        assert not shown[name] & {"--output-dir", "--no-distance"}


def test_the_option_tables_are_those_of_the_parsers() -> None:
    text = option_tables.README.read_text(encoding="utf-8")
    assert text == option_tables.with_tables(text), "run python -m tests.option_tables"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    first, *models = capsys.readouterr().out.splitlines()
    assert first == f"aocr {aocr.__version__}"
    assert models[0] == "built-in models:"
    assert re.fullmatch(r"  latin: .*drawn images.*", models[1])


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_training_with_a_checkpoint(
        world: World, tmp_path: Path, number: signal.Signals, code: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(aocr.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-m", "aocr", "train", str(world.records), "--model-dir", "m",
         "--batch-size", "4"], cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    for line in process.stderr:
        if "Step 2:" in line:
            process.send_signal(number)
            break
    remaining = process.stderr.read()
    assert process.wait() == code
    assert f"{number.name}: stopping after this step." in remaining
    step = re.findall(r"Saving the model at step (\d+)\.", remaining)[-1]
    assert (tmp_path / "m" / f"model.ckpt-{step}.index").exists()
