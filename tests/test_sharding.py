"""Datasets in several shards."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import pytest

from aocr.cli.main import main
from aocr.data import writer
from aocr.data.sharding import Sharding
from aocr.data.writer import DatasetOptions
from aocr.errors import AocrError
from tests.drawing import encoded, word
from tests.records import read


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes an empty working directory with one image."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(encoded(word("AB", (50, 20))))
    return tmp_path


@pytest.mark.parametrize("jobs", [1, 3])
def test_shards_written_separately_equal_those_written_together(directory: Path, jobs: int) -> None:
    for n in range(11):
        (directory / f"{n}.png").write_bytes(encoded(word("AB", (20 + n, 20))))
    lines = [f"none{n} X" if n in (2, 3, 7) else f"{n}.png L{n}" for n in range(11)]
    (directory / "list.txt").write_text("\n".join(lines))
    total = writer.write_dataset("list.txt", "d/all.tfrecords",
                                 DatasetOptions(sharding=Sharding(3)))
    names = [f"d/all-0000{n}-of-00003.tfrecords" for n in range(3)]
    assert sorted(str(path) for path in Path("d").iterdir()) == names
    together = [Path(name).read_bytes() for name in names]
    assert [[record.label for record in read(name)] for name in names] == [
        ["L0", "L6", "L9"], ["L1", "L4", "L10"], ["L5", "L8"]]
    shards = []
    for n in (2, 0, 1):
        Path(names[n]).unlink()
        options = DatasetOptions(jobs=jobs, sharding=Sharding(3, n))
        shards.append(writer.write_dataset("list.txt", "d/all.tfrecords", options))
    assert [Path(name).read_bytes() for name in names] == together
    assert sum(shard.pairs for shard in shards) == total.pairs == 8
    assert sum(shard.lines for shard in shards) == total.lines == 11
    assert sum((shard.skipped for shard in shards), Counter()) == total.skipped
    assert not list(Path("d").glob("*.part"))


def test_a_shard_reads_only_its_own_images_and_keeps_line_numbers(
        directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    (directory / "list.txt").write_text("none1 A\na.png B\nnone3 C\nnone4 D\nnone5 E\n./a.png F\n")
    with caplog.at_level(logging.INFO, "aocr"):
        writer.write_dataset("list.txt", "out.tfrecords", DatasetOptions(sharding=Sharding(2, 1)))
    assert [record.label for record in read("out-00001-of-00002.tfrecords")] == ["B", "F"]
    (warning,) = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    assert "line 4 of list.txt" in warning


@pytest.mark.parametrize("index", [None, 1])
def test_an_empty_shard_is_refused_and_nothing_is_written(
        directory: Path, index: int | None) -> None:
    (directory / "list.txt").write_text("a.png A\nnone B\na.png C\n")
    with pytest.raises(AocrError, match="00001-of-00002|no line of list.txt"):
        writer.write_dataset("list.txt", "out.tfrecords",
                             DatasetOptions(sharding=Sharding(2, index)))
    assert not list(directory.glob("out*"))


@pytest.mark.parametrize(("count", "index", "message"), [
    (None, 0, "--shards"), (4, 4, "0 to 3"), (4, -1, "0 to 3"), (100_000, None, "99999")])
def test_shard_counts_and_indexes_out_of_range_are_refused(
        count: int | None, index: int | None, message: str) -> None:
    with pytest.raises(AocrError, match=message):
        Sharding(count, index)


@pytest.mark.parametrize(("output", "path", "pattern"), [
    ("a/b.tfrecords", "a/b-00001-of-00012.tfrecords", "a/b-*-of-00012.tfrecords"),
    ("gs://b/c.d/e", "gs://b/c.d/e-00001-of-00012", "gs://b/c.d/e-*-of-00012")])
def test_names_of_shards(output: str, path: str, pattern: str) -> None:
    assert Sharding(12).paths(output)[1] == path
    assert Sharding(12, 1).paths(output) == [path]
    assert Sharding(12).pattern(output) == pattern


def test_the_proposed_command_trains_on_all_shards(
        directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "list.txt").write_text("a.png A\n./a.png B\n")
    for flags, message in (([], "Dataset is ready: 2 pairs."),
                           (["--shard-index", "1"], "Shard 1 of 2 is ready: 1 pairs")):
        assert main(["dataset", "list.txt", "my words.tfrecords", "--shards", "2", *flags]) == 0
        logged = capsys.readouterr().err
        assert message in logged
        assert "aocr train 'my words-*-of-00002.tfrecords' --max-width" in logged
    assert main(["dataset", "list.txt", "--shard-index", "0"]) == 1
    assert main(["dataset", "list.txt", "--shards", "8", "--shard-index", "5"]) == 1
    error = capsys.readouterr().err
    assert "no line of list.txt goes to shard 5 of 8; give fewer --shards" in error
