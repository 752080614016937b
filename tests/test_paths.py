"""Paths on remote file systems, and log files.

The file system in memory, `ram://`, stands for object stores: directories cannot be renamed there.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tensorflow as tf
from PIL import Image

from aocr.cli import main as cli_main
from aocr.cli.main import main
from aocr.errors import AocrError
from aocr.inference import export
from aocr.runtime import console, filesystem
from aocr.runtime.console import log
from tests.conftest import STAMP, WORDS, Command, World, messages

SMALL = ("--max-width", "200", "--max-height", "32", "--attn-num-hidden", "8", "--batch-size", "4",
         "--steps-per-checkpoint", "1", "--val-split", "0.3")
gfile = tf.io.gfile


@pytest.fixture
def ram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Returns a directory in memory; a test must leave nothing in the working directory."""
    monkeypatch.chdir(tmp_path)
    root = f"ram://{tmp_path.name}"
    gfile.makedirs(root)
    yield root
    filesystem.remove(root)
    assert list(tmp_path.iterdir()) == []


def content(path: str) -> bytes:
    with gfile.GFile(path, "rb") as file:
        return bytes(file.read())


@pytest.fixture
def run(ram: str) -> Callable[..., str]:
    """Runs a command whose paths are all in memory, the log file's too; returns its log."""
    def run(*words: str) -> str:
        path = f"{ram}/aocr.log"
        before = len(content(path)) if gfile.exists(path) else 0
        assert main([*words, "--log-path", path]) == 0
        logged = content(path)[before:].decode()
        assert "ERROR" not in logged
        return logged

    return run


@pytest.mark.slow
def test_all_commands_work_in_memory(
        world: World, ram: str, run: Callable[..., str], capsys: pytest.CaptureFixture[str]
        ) -> None:
    for image in world.images:
        filesystem.write(f"{ram}/{image.name}.b64",
                         "no image")  # the directory also holds other files
        with gfile.GFile(f"{ram}/images/{image.name}", "wb") as file:
            file.write(image.read_bytes())
    filesystem.write(f"{ram}/list.txt", "".join(
        f"images/{image.name} {word}\n" for image, word in zip(world.images, WORDS, strict=True)))

    logged = run("dataset", f"{ram}/list.txt", f"{ram}/data/words.tfrecords", "--shards", "2")
    shards = f"{ram}/data/words-*-of-00002.tfrecords"
    assert f"aocr train '{shards}'" in logged
    assert gfile.listdir(f"{ram}/data") == [f"words-0000{n}-of-00002.tfrecords" for n in range(2)]

    model = ("--model-dir", f"{ram}/deep/model")
    run("train", shards, *SMALL, "--max-steps", "1", *model)
    assert f"Reading model parameters from {ram}" in run(
        "train", shards, *SMALL, "--max-steps", "2", "--job-dir", f"{ram}/deep/model")
    names = gfile.listdir(f"{ram}/deep/model")
    assert {"checkpoint", "config.json", "skipped.tsv", "model.ckpt-2.index"} <= set(names)
    assert "training.lock" not in names
    assert sum(name.startswith("events.out.tfevents") for name in names) == 2

    run("test", shards, "--visualize", "--output-dir", f"{ram}/out", "--json", f"{ram}/r/r.json",
        "--report", f"{ram}/r/r.html", *model)
    results = json.loads(content(f"{ram}/r/r.json"))
    assert gfile.listdir(f"{ram}/r") == ["r.html", "r.json"]
    assert b'id="training"' in content(f"{ram}/r/r.html")
    assert sorted(row["label"] for row in results["images"]) == sorted(WORDS)
    (first, *others) = gfile.glob(f"{ram}/out/*correct/*/image.gif")
    assert len(others) == len(WORDS) - 1
    assert Image.open(io.BytesIO(content(first))).format == "GIF"

    run("export", f"{ram}/served", "--model-version", "1", *model)
    run("export", f"{ram}/frozen", "--format", "frozengraph", *model)
    assert gfile.listdir(f"{ram}/served") == ["1"]
    assert gfile.exists(f"{ram}/frozen/frozen_graph.pb")

    capsys.readouterr()
    tables = []
    for source in (f"{ram}/deep/model", f"{ram}/served"):
        run("predict", f"{ram}/images", "--format", "jsonl", "--model-dir", source)
        tables.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    restored, exported = tables
    assert [row["text"] for row in restored] == [row["text"] for row in exported]
    assert [row["path"] for row in restored] == sorted(
        f"{ram}/images/{image.name}" for image in world.images)


def test_the_file_that_makes_a_remote_version_visible_is_written_last(
        ram: str, monkeypatch: pytest.MonkeyPatch) -> None:
    staging, version = f"{ram}/7.part", f"{ram}/7"
    names = ["assets.extra/config.json", "saved_model.pb", "variables/variables.index", "z.pb"]
    for name in names:
        for directory in (staging, version):
            gfile.makedirs(os.path.dirname(f"{directory}/{name}"))
            filesystem.write(f"{directory}/{name}", directory)
    filesystem.write(f"{version}/variables/old", "")
    renamed: list[tuple[str, bool]] = []
    rename = gfile.rename

    def record(old: str, new: str, overwrite: bool = False) -> None:
        renamed.append((new, bool(gfile.exists(f"{version}/saved_model.pb"))))
        rename(old, new, overwrite)

    monkeypatch.setattr(gfile, "rename", record)
    export._move(staging, version)
    assert [new for new, _ in renamed][-1] == f"{version}/saved_model.pb"
    assert not any(visible for _, visible in renamed)
    assert [content(f"{version}/{name}").decode() for name in names] == [staging] * len(names)
    assert gfile.exists(f"{version}/variables/old")  # another program may have written it


def test_a_remote_log_has_all_lines_and_is_appended_to(ram: str) -> None:
    path = f"{ram}/logs/aocr.log"
    for line in ("first", "second"):
        console.start_log(path, chosen=True)
        log.info(line)
        console.stop_log()
    lines = content(path).decode().splitlines()
    assert [line.split()[-1] for line in lines] == ["first", "second"]
    assert all(re.match(STAMP, line) for line in lines)


def test_a_remote_log_that_cannot_be_written_is_an_error() -> None:
    with pytest.raises(AocrError, match="cannot write the log file nothing://there/log"):
        console.start_log("nothing://there/log", chosen=True)
    console.stop_log()


def test_a_remote_log_that_fails_later_does_not_end_the_command(
        ram: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "the quota is used up")

    console.start_log(f"{ram}/log", chosen=True)
    monkeypatch.setattr(gfile, "GFile", refuse)
    for line in ("one", "two"):
        log.error(line)
    console.stop_log()
    logged = [line.split()[4:] for line in capsys.readouterr().err.splitlines()]
    assert [words[-1] for words in logged] == ["one", "stops", "two"]
    assert "quota" in logged[1]


def test_only_the_chief_of_several_workers_writes_a_remote_log(ram: str) -> None:
    console.start_log(f"{ram}/log", chosen=True)
    log.info("a worker's line")
    console.log_only_errors()
    log.error("another")
    console.stop_log()
    assert not gfile.exists(f"{ram}/log")


def test_vertex_ai_determines_the_directory_of_the_export(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AIP_MODEL_DIR", "gs://bucket/run/model/")
    assert cli_main.parser().parse_args(["export"]).dir == "gs://bucket/run/model/"
    assert cli_main.parser().parse_args(["export", "here"]).dir == "here"
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    assert "AIP_MODEL_DIR" in capsys.readouterr().out
    monkeypatch.setenv("AIP_MODEL_DIR", "")
    assert cli_main.parser().parse_args(["export"]).dir == "exported"


def test_a_missing_directory_of_the_log_file_is_created(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "today" / "aocr.log"
    for line in ("first", "second"):
        console.start_log(str(path), chosen=True)
        log.info(line)
        console.stop_log()
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["first", "second"]


def test_a_log_file_below_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AocrError, match="cannot write the log file .*file/aocr.log"):
        console.start_log(str(tmp_path / "file" / "aocr.log"), chosen=True)
    console.stop_log()


@pytest.mark.parametrize("words", [
    ("train", "nothing://there/a-*.tfrecords"), ("predict", "--model-dir", "nothing://there"),
    ("dataset", "list.txt", "nothing://there/a.tfrecords")])
def test_an_unknown_file_system_is_an_error(command: Command, words: tuple[str, ...]
                                                     ) -> None:
    code, logged = command(*words)
    assert code == 1
    (message,) = messages(logged)
    assert "cannot reach nothing://there" in message
    assert "'nothing' not implemented" in message
