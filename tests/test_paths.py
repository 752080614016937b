"""Every path goes through TensorFlow's file systems: here the one in memory, as object stores are.

Folders cannot be renamed there.
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
    """A folder in memory; what a test leaves in the working directory is a fault."""
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
    """Runs a command whose paths, the log's too, all lie in memory; what it logged."""
    def run(*words: str) -> str:
        path = f"{ram}/aocr.log"
        before = len(content(path)) if gfile.exists(path) else 0
        assert main([*words, "--log-path", path]) == 0
        logged = content(path)[before:].decode()
        assert "ERROR" not in logged
        return logged

    return run


@pytest.mark.slow
def test_the_whole_chain_in_memory(
        world: World, ram: str, run: Callable[..., str], capsys: pytest.CaptureFixture[str]
        ) -> None:
    for image in world.images:
        filesystem.write(f"{ram}/{image.name}.b64",
                         "no image")  # a folder of other things beside them
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
    left = gfile.listdir(f"{ram}/deep/model")
    assert {"checkpoint", "config.json", "skipped.tsv", "model.ckpt-2.index"} <= set(left)
    assert "training.lock" not in left
    assert sum(name.startswith("events.out.tfevents") for name in left) == 2

    run("test", shards, "--visualize", "--output-dir", f"{ram}/out", "--json", f"{ram}/r/r.json",
        *model)
    results = json.loads(content(f"{ram}/r/r.json"))
    assert sorted(row["label"] for row in results["images"]) == sorted(WORDS)
    (first, *others) = gfile.glob(f"{ram}/out/*correct/*/image.gif")
    assert len(others) == len(WORDS) - 1
    assert Image.open(io.BytesIO(content(first))).format == "GIF"

    run("export", f"{ram}/served", "--model-version", "1", *model)
    run("export", f"{ram}/frozen", "--format", "frozengraph", *model)
    assert gfile.listdir(f"{ram}/served") == ["1"]
    assert gfile.exists(f"{ram}/frozen/frozen_graph.pb")

    capsys.readouterr()
    answers = []
    for source in (f"{ram}/deep/model", f"{ram}/served"):
        run("predict", f"{ram}/images", "--format", "jsonl", "--model-dir", source)
        answers.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    read, served = answers
    assert [row["text"] for row in read] == [row["text"] for row in served]
    assert [row["path"] for row in read] == sorted(
        f"{ram}/images/{image.name}" for image in world.images)


def test_what_makes_a_remote_version_visible_is_written_last(
        ram: str, monkeypatch: pytest.MonkeyPatch) -> None:
    aside, folder = f"{ram}/7.part", f"{ram}/7"
    names = ["assets.extra/config.json", "saved_model.pb", "variables/variables.index", "z.pb"]
    for name in names:
        for place in (aside, folder):
            gfile.makedirs(os.path.dirname(f"{place}/{name}"))
            filesystem.write(f"{place}/{name}", place)
    filesystem.write(f"{folder}/variables/old", "")
    seen: list[tuple[str, bool]] = []
    rename = gfile.rename

    def watched(old: str, new: str, overwrite: bool = False) -> None:
        seen.append((new, bool(gfile.exists(f"{folder}/saved_model.pb"))))
        rename(old, new, overwrite)

    monkeypatch.setattr(gfile, "rename", watched)
    export._move(aside, folder)
    assert [new for new, _ in seen][-1] == f"{folder}/saved_model.pb"
    assert not any(visible for _, visible in seen)
    assert [content(f"{folder}/{name}").decode() for name in names] == [aside] * len(names)
    assert gfile.exists(f"{folder}/variables/old")  # it may be somebody else's


def test_a_remote_log_has_every_line_and_is_gone_on_with(ram: str) -> None:
    path = f"{ram}/logs/aocr.log"
    for line in ("first", "second"):
        console.start_log(path, chosen=True)
        log.info(line)
        console.stop_log()
    found = content(path).decode().splitlines()
    assert [line.split()[-1] for line in found] == ["first", "second"]
    assert all(re.match(STAMP, line) for line in found)


def test_a_remote_log_that_cannot_be_written_is_one_line() -> None:
    with pytest.raises(AocrError, match="cannot write the log file nothing://there/log"):
        console.start_log("nothing://there/log", chosen=True)
    console.stop_log()


def test_a_remote_log_that_fails_on_the_way_stops_nothing(
        ram: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "the quota is used up")

    console.start_log(f"{ram}/log", chosen=True)
    monkeypatch.setattr(gfile, "GFile", refuse)
    for line in ("one", "two"):
        log.error(line)
    console.stop_log()
    told = [line.split()[4:] for line in capsys.readouterr().err.splitlines()]
    assert [words[-1] for words in told] == ["one", "it", "two"]
    assert "quota" in told[1]


def test_of_several_workers_the_chief_alone_writes_a_remote_log(ram: str) -> None:
    console.start_log(f"{ram}/log", chosen=True)
    log.info("a worker's line")
    console.only_errors()
    log.error("another")
    console.stop_log()
    assert not gfile.exists(f"{ram}/log")


def test_vertex_ai_says_where_the_export_goes(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AIP_MODEL_DIR", "gs://bucket/run/model/")
    assert cli_main.parser().parse_args(["export"]).dir == "gs://bucket/run/model/"
    assert cli_main.parser().parse_args(["export", "here"]).dir == "here"
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    assert "gs://bucket/run/model/" in capsys.readouterr().out
    monkeypatch.setenv("AIP_MODEL_DIR", "")
    assert cli_main.parser().parse_args(["export"]).dir == "exported"


@pytest.mark.parametrize("words", [
    ("train", "nothing://there/a-*.tfrecords"), ("predict", "--model-dir", "nothing://there"),
    ("dataset", "list.txt", "nothing://there/a.tfrecords")])
def test_a_file_system_that_is_not_there_is_one_line(command: Command, words: tuple[str, ...]
                                                     ) -> None:
    code, logged = command(*words)
    assert code == 1
    (said,) = messages(logged)
    assert "cannot reach nothing://there" in said
    assert "'nothing' not implemented" in said
