"""The commands predict and test --visualize."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import aocr
from aocr.cli import predict
from aocr.cli.main import main
from aocr.inference.recognizer import Result
from tests.conftest import WORDS, Command, World, draw, messages


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


def result(text: str, probability: float) -> Result:
    return Result(text, probability, ((text, probability),), None, 32, ((text, probability),))


def test_the_log_shows_control_characters_escaped(logged: list[str]) -> None:
    for text in ("a\x1b[2Jb\r", "Größe 日本 \\n"):
        predict._write_log("a.png", result(text, 0.5), None)
    assert logged == ["Result: OK. 0.50 a\\x1b[2Jb\\r", "Result: OK. 0.50 Größe 日本 \\n"]


def test_numbers_that_are_not_finite_are_null_in_json_lines(capsys: pytest.CaptureFixture[str]
                                                           ) -> None:
    predict._write_jsonl("a.png", result("A", float("nan")), 0.5)
    assert json.loads(capsys.readouterr().out) == {
        "path": "a.png", "text": "A", "probability": None, "characters": [["A", None]],
        "candidates": [["A", None]], "accepted": False}


def run_with_output(stdout: int, *words: str, cwd: Path) -> tuple[int, str]:
    """Runs `aocr` in a separate process; returns its exit code and what it logged."""
    environment = {**os.environ, "PYTHONPATH": str(Path(aocr.__file__).parents[1])}
    process = subprocess.run([sys.executable, "-m", "aocr", *words], cwd=cwd, env=environment,
                             stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    return process.returncode, process.stderr


@pytest.mark.parametrize("output_format", ["tsv", "jsonl"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_under_standard_output_is_one_line(output_format: str, tmp_path: Path) -> None:
    draw("AB", tmp_path / "a.png")
    with open("/dev/full", "w", encoding="utf-8") as full:
        code, logged = run_with_output(full.fileno(), "predict", "a.png", "--model-dir", "latin",
                                       "--format", output_format, cwd=tmp_path)
        assert code == 1
        assert messages(logged)[-1] == (
            "aocr predict: cannot write to standard output: No space left on device")
        assert len(messages(logged)) == 2
        code, logged = run_with_output(full.fileno(), "--version", cwd=tmp_path)
        assert (code, logged) == (
            1, "aocr: cannot write to standard output: No space left on device\n")


def test_a_reader_that_has_closed_standard_output_ends_the_command_silently(tmp_path: Path
                                                                           ) -> None:
    draw("AB", tmp_path / "a.png")
    read_end, write_end = os.pipe()
    os.close(read_end)
    code, logged = run_with_output(write_end, "predict", "a.png", "--model-dir", "latin",
                                   "--format", "tsv", cwd=tmp_path)
    os.close(write_end)
    assert code == 1
    assert len(messages(logged)) == 1


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
