"""The `dataset` command from annotation lines to records."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path

import pytest
import tensorflow as tf

from aocr.cli.main import main
from aocr.config import PRINTABLE_ASCII, ModelConfig
from aocr.data import example, writer
from aocr.data.annotation_formats import parse_line
from aocr.data.example import Record
from aocr.data.index import build_index, resolve_paths
from aocr.data.sharding import Sharding
from aocr.data.stats import DatasetStats
from aocr.data.writer import DatasetOptions
from aocr.errors import AocrError, SkipError
from aocr.images import transcoding
from aocr.tokenizer import Tokenizer
from tests.drawing import encoded, undecodable_png, with_orientation, word

PNG = encoded(word("AB", (50, 20)))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a test, with one image."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(PNG)
    return tmp_path


def generate(content: str | bytes, options: DatasetOptions | None = None) -> tuple[DatasetStats,
                                                                                   list[Record]]:
    """Runs the command on annotations of this content; the summary and all records."""
    Path("list.txt").write_bytes(content.encode() if isinstance(content, str) else content)
    summary = writer.write_dataset("list.txt", "out.tfrecords", options or DatasetOptions())
    return summary, stored()


def stored(path: str = "out.tfrecords") -> list[Record]:
    return [example.decode(one) for one in tf.data.TFRecordDataset(path).as_numpy_iterator()]


def labels(content: str | bytes, options: DatasetOptions | None = None) -> list[str]:
    return [record.label for record in generate(content, options)[1]]


@pytest.mark.parametrize(("line", "label"), [
    ("a.png AB", "AB"), ("a.png  AB CD ", "AB CD"), ("a.png\tAB", "AB"), ("a.png ", ""),
    ("a.png \t ", ""), ("  a.png AB", "AB"), ("a.png A\tB", "A\tB"), ("a.png ab", "AB"),
    ("a.png straße", "STRASSE"), ("a.png é", "É"), ("a.png e\u0301", "É"), ("a.png ﬁ", "FI"),
    ("a.png \u212b", "Å"), ("a.png 日本 語", "日本 語"), ("a.png \U0001f600", "\U0001f600")])
def test_the_path_ends_at_the_first_white_space_and_the_label_follows(line: str, label: str) -> None:
    assert labels(line) == [label]


@pytest.mark.parametrize("content", [
    b"a.png A\na.png B\n", b"a.png A\na.png B", b"a.png A\r\na.png B\r\n", b"a.png A\r\na.png B",
    b"\xef\xbb\xbfa.png A\na.png B\n", b"\xef\xbb\xbfa.png A\r\na.png B"])
def test_byte_order_mark_and_line_endings_are_removed(content: bytes) -> None:
    summary, found = generate(content)
    assert [record.label for record in found] == ["A", "B"]
    assert not summary.skipped


def test_only_line_feeds_end_lines() -> None:
    assert labels("a.png A\u2028B\x85C\x0cD\n") == ["A\u2028B\x85C\x0cD"]


def test_labels_are_stored_as_utf8_in_nfc() -> None:
    generate("a.png e\u0301\n", DatasetOptions(force_uppercase=False))
    (one,) = tf.data.TFRecordDataset("out.tfrecords").as_numpy_iterator()
    features = tf.train.Example.FromString(one).features.feature
    assert features["label"].bytes_list.value == ["é".encode()]


@pytest.mark.parametrize(("bad", "reason", "detail"), [
    (b"a.png", "no label field", "a.png"), (b"none.png AB", "missing file", "none.png"),
    (b"text.png AB", "unreadable image", "not an image"), (b"empty.png AB", "unreadable", "empty"),
    (b"cut.png AB", "unreadable image", ""), (b"folder AB", "cannot open the file", "folder"),
    (b"a.png \xff", "not UTF-8", "character 6"), (b"", "blank line", ""),
    (b" \t", "blank line", ""),
    (b"a.png/b AB", "", "a.png/b"), (b"a.png\0b AB", "NUL character", "a.png\\x00b"),
    (b"a\0.png AB", "NUL character", ""), (b"a.png A\0B", "NUL character", "A\\x00B"),
    (b"x" * 100_000 + b" AB", "", "xxx")],
    ids=["no label", "missing", "text", "empty file", "cut", "folder", "not utf-8", "blank",
         "white", "below a file", "NUL at end", "NUL within", "NUL in label", "long path"])
def test_an_unusable_line_is_skipped_with_number_and_reason(
        folder: Path, caplog: pytest.LogCaptureFixture, bad: bytes, reason: str,
        detail: str) -> None:
    (folder / "text.png").write_text("not an image at all")
    (folder / "empty.png").touch()
    (folder / "cut.png").write_bytes(PNG[:20])
    (folder / "folder").mkdir()
    with caplog.at_level(logging.INFO, "aocr"):
        summary, found = generate(b"a.png A\n" + bad + b"\n./a.png B\n")
    assert [record.label for record in found] == ["A", "B"]
    assert summary.pairs == 2
    ((met, number),) = summary.skipped.items()
    assert number == 1
    assert met.startswith(reason)
    (warning,) = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    assert "line 2 of list.txt" in warning
    assert met in warning
    assert detail in warning


def test_a_very_long_label_is_kept() -> None:
    assert labels("a.png " + "AB " * 40_000) == [("AB " * 40_000).strip()]


def test_every_line_is_either_used_or_skipped() -> None:
    lines = ["a.png A", "", "none.png B", "a.png", "a.png C"] * 130
    summary, found = generate("\n".join(lines))
    assert len(found) == summary.pairs == 260
    assert summary.pairs + summary.skipped.total() == len(lines)
    assert summary.skipped == {"blank line": 130, "missing file": 130, "no label field": 130}


@pytest.mark.parametrize("save", [False, True])
def test_images_are_stored_unchanged_and_paths_on_request(folder: Path, save: bool) -> None:
    (folder / "b.jpg").write_bytes(encoded(word("AB"), "JPEG"))
    _, found = generate("a.png A\nb.jpg B\n", DatasetOptions(save_filename=save))
    assert [record.image for record in found] == [PNG, (folder / "b.jpg").read_bytes()]
    assert [record.comment for record in found] == (["a.png", "b.jpg"] if save else ["", ""])


@pytest.mark.parametrize("file", [
    encoded(word("AB"), "TIFF"), with_orientation(word("AB"), 6),
    encoded(word("AB", mode="CMYK"), "JPEG"), encoded(word("AB", mode="I;16"))],
    ids=["tiff", "turned", "cmyk", "16 bits"])
def test_images_that_tensorflow_decodes_wrongly_are_stored_as_png(folder: Path, file: bytes) -> None:
    (folder / "b").write_bytes(file)
    summary, (record,) = generate("b AB")
    expected, size = transcoding.to_decodable(file)
    assert record.image == expected
    assert record.image.startswith(b"\x89PNG")
    assert (summary.sizes.widths, summary.sizes.heights) == ([size[0]], [size[1]])


def test_paths_are_relative_to_the_working_directory_or_the_annotation_file(folder: Path) -> None:
    other = encoded(word("there", (80, 30)))
    there = folder / "data"
    (there / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        (there / name).write_bytes(other)
    (there / "list.txt").write_text(f"a.png A\nsub/b.png B\n{there}/a.png C\n")
    writer.write_dataset("data/list.txt", "out.tfrecords", DatasetOptions())
    assert [record.image for record in stored()] == [PNG, other, other]


def test_the_number_of_jobs_does_not_change_the_dataset(folder: Path) -> None:
    lines = []
    for n in range(40):
        (folder / f"{n}").write_bytes(encoded(word("AB", (20 + n, 20)), ("PNG", "TIFF")[n % 2]))
        lines += [f"{n} {n}", "none x"] if n % 7 == 0 else [f"{n} {n}"]
    made = {}
    for jobs in (1, 4):
        summary, _ = generate("\n".join(lines * 8), DatasetOptions(jobs=jobs))
        made[jobs] = (summary, Path("out.tfrecords").read_bytes())
    assert made[1] == made[4]
    assert made[1][0].pairs == 320


def test_stats_hold_counts_labels_and_sizes(folder: Path) -> None:
    (folder / "b.png").write_bytes(encoded(word("AB", (90, 30))))
    summary, _ = generate("a.png ab\na.png AB C\nb.png 日本\na.png\nb.png \n")
    assert summary.pairs == 4
    assert summary.skipped == {"no label field": 1}
    assert summary.longest == "AB C"
    assert summary.characters == {"A": 2, "B": 2, " ": 1, "C": 1, "日": 1, "本": 1}
    assert summary.upper_cased == 1
    assert summary.label_lengths == {0, 2, 4}
    assert summary.sizes.widths == [50, 50, 90, 90]
    assert summary.sizes.heights == [20, 20, 30, 30]


def test_case_is_kept_on_request() -> None:
    summary, found = generate("a.png aßB\n", DatasetOptions(force_uppercase=False))
    assert found[0].label == "aßB"
    assert summary.upper_cased == 0


def test_progress_is_logged_every_log_step_pairs(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "aocr"):
        generate("".join(f"{'./' * n}a.png A\n" for n in range(7)), DatasetOptions(log_step=3))
    assert [r.getMessage() for r in caplog.records] == ["Processed 3 pairs.", "Processed 6 pairs."]


def test_proposed_flags_use_every_image(folder: Path) -> None:
    sizes = [(20, 50), (300, 20), (64, 64), (500, 10)]
    for n, size in enumerate(sizes):
        (folder / f"{n}.png").write_bytes(encoded(word("A", size)))
    summary, _ = generate("".join(f"{n}.png {'A' * n}\n" for n in range(len(sizes))))
    proposal = summary.sizes.propose()
    config = ModelConfig(max_width=proposal.max_width, max_height=proposal.max_height,
                         alphabet=PRINTABLE_ASCII, max_prediction=max(1, len(summary.longest)))
    index = build_index(["out.tfrecords"], config, Tokenizer(config.alphabet))
    assert (len(index), index.skipped) == (len(sizes), [])


@pytest.mark.parametrize(("content", "word"), [
    ("", "empty"), ("\ufeff", "empty"), ("none.png A\n", "missing file"), ("\n\n", "blank line"),
    ("a.png A\n".encode("utf-16"), "not UTF-8")],
    ids=["empty", "bom", "missing", "blank", "utf-16"])
def test_without_a_usable_line_an_existing_output_is_kept(
        folder: Path, content: str | bytes, word: str) -> None:
    (folder / "out.tfrecords").write_bytes(b"before")
    before = sorted([*(path.name for path in folder.iterdir()), "list.txt"])
    with pytest.raises(AocrError, match=word) as caught:
        generate(content)
    assert "list.txt" in str(caught.value)
    assert (folder / "out.tfrecords").read_bytes() == b"before"
    assert sorted(path.name for path in folder.iterdir()) == before


def test_after_a_failure_an_existing_output_is_kept(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "out.tfrecords").write_bytes(b"before")
    monkeypatch.setattr("aocr.data.example.encode", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        generate("a.png A\n")
    assert (folder / "out.tfrecords").read_bytes() == b"before"
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "list.txt", "out.tfrecords"]


def test_the_output_is_replaced_and_its_directory_created(folder: Path) -> None:
    (folder / "list.txt").write_text("a.png A\n")
    for _ in range(2):
        writer.write_dataset("list.txt", "new/deep/out", DatasetOptions())
        assert len(stored("new/deep/out")) == 1
        assert [path.name for path in (folder / "new/deep").iterdir()] == ["out"]


@pytest.mark.parametrize(("annotations", "output"), [
    ("none.txt", "out"), (".", "out"), ("list.txt", "."), ("list.txt", "a.png/out")])
def test_unusable_paths_of_annotations_and_output_are_named(folder: Path, annotations: str, output: str) -> None:
    (folder / "list.txt").write_text("a.png A\n")
    with pytest.raises(AocrError) as caught:
        writer.write_dataset(annotations, output, DatasetOptions())
    assert (output if annotations == "list.txt" else annotations) in str(caught.value)
    assert (folder / "a.png").read_bytes() == PNG


def test_pipes_are_skipped_or_refused_without_waiting(folder: Path) -> None:
    os.mkfifo("pipe")
    (folder / "list.txt").write_text("a.png A\npipe B\n")
    summary, found = generate(b"a.png A\npipe B\n")
    assert [record.label for record in found] == ["A"]
    assert summary.skipped == {"cannot open the file": 1}
    with pytest.raises(AocrError, match="pipe is not a regular file"):
        writer.write_dataset("pipe", "out.tfrecords", DatasetOptions())
    with pytest.raises(AocrError, match="pipe is not a regular file"):
        resolve_paths(["pipe"])


@pytest.mark.parametrize(("flags", "skipped"), [
    ([], 1), (["--verify"], 1), (["--no-verify"], 0)])
@pytest.mark.parametrize("jobs", ["1", "3"])
def test_an_image_cut_in_half_is_skipped_and_named(
        folder: Path, capsys: pytest.CaptureFixture[str], flags: list[str], skipped: int,
        jobs: str) -> None:
    jpeg = encoded(word("AB", (50, 20)), "JPEG")
    (folder / "cut.jpg").write_bytes(jpeg[:len(jpeg) // 2 + 200])
    (folder / "list.txt").write_text("a.png A\ncut.jpg B\n./a.png C\n")
    assert main(["dataset", "list.txt", "out.tfrecords", "--jobs", jobs, *flags]) == 0
    logged = capsys.readouterr().err
    assert len(stored()) == 3 - skipped
    detail = "cut.jpg: its data cannot be decoded"
    assert logged.count(f"Skipped line 2 of list.txt: unreadable image: {detail}") == skipped
    assert logged.count(f"Skipped: 1 x unreadable image (first: line 2, {detail})") == skipped


def test_images_of_large_datasets_are_decoded_on_request_only(
        folder: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> None:
    monkeypatch.setattr(writer, "VERIFIED_IMAGES", 2)
    (folder / "cut.png").write_bytes(undecodable_png())
    content = "cut.png A\na.png B\n./a.png C\n"
    summary, _ = generate(content)
    assert summary.pairs == 3
    assert any("there are more than 2: training skips" in line for line in logged)
    logged.clear()
    for options in (DatasetOptions(verify=True), DatasetOptions(sharding=Sharding(2, 0))):
        assert generate(content, options)[0].skipped == {"unreadable image": 1}
    assert not any("more than" in line for line in logged)


def test_outliers_are_named_and_do_not_change_the_proposal(
        folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "wide.png").write_bytes(encoded(word("A", (10_000, 1))))
    lines = [f"{'./' * n}a.png A\n" for n in range(11)]
    (folder / "list.txt").write_text("".join(lines) + "wide.png A\n")
    assert main(["dataset", "list.txt", "out.tfrecords"]) == 0
    logged = capsys.readouterr().err
    assert "--max-width 50 --max-height 20 --max-prediction 1 " in logged
    assert "much wider than the others: 1 (wide.png (10000 x 1))" in logged


def test_control_characters_are_logged_as_escapes(
        folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "list.txt").write_text("a.png A\tB\a\n")
    assert main(["dataset", "list.txt", "out.tfrecords"]) == 0
    told = capsys.readouterr().err
    assert "Longest label (4): A\\tB\\x07\n" in told
    assert "Characters (4): \\x07:1 \\t:1 A:1 B:1\n" in told


def test_annotations_are_not_overwritten_by_their_own_records(folder: Path) -> None:
    (folder / "list.txt").write_text("a.png A\n")
    with pytest.raises(AocrError, match=r"list\.txt"):
        writer.write_dataset("list.txt", "list.txt", DatasetOptions())
    assert (folder / "list.txt").read_text() == "a.png A\n"


@pytest.mark.parametrize(("line", "reason"), [
    ("", "blank line"), ("a", "no label field"), ("\udcff a", "not UTF-8")])
def test_parse_line_gives_the_reason(line: str, reason: str) -> None:
    with pytest.raises(SkipError) as caught:
        parse_line(line)
    assert caught.value.reason == reason


@pytest.mark.parametrize("jobs", [1, 3])
def test_shards_written_separately_equal_those_written_together(folder: Path, jobs: int) -> None:
    for n in range(11):
        (folder / f"{n}.png").write_bytes(encoded(word("AB", (20 + n, 20))))
    lines = [f"none{n} X" if n in (2, 3, 7) else f"{n}.png L{n}" for n in range(11)]
    (folder / "list.txt").write_text("\n".join(lines))
    whole = writer.write_dataset("list.txt", "d/all.tfrecords",
                                 DatasetOptions(sharding=Sharding(3)))
    names = [f"d/all-0000{n}-of-00003.tfrecords" for n in range(3)]
    assert sorted(str(path) for path in Path("d").iterdir()) == names
    together = [Path(name).read_bytes() for name in names]
    dealt = [[record.label for record in stored(name)] for name in names]
    assert dealt == [["L0", "L6", "L9"], ["L1", "L4", "L10"], ["L5", "L8"]]
    parts = []
    for n in (2, 0, 1):
        Path(names[n]).unlink()
        options = DatasetOptions(jobs=jobs, sharding=Sharding(3, n))
        parts.append(writer.write_dataset("list.txt", "d/all.tfrecords", options))
    assert [Path(name).read_bytes() for name in names] == together
    assert sum(part.pairs for part in parts) == whole.pairs == 8
    assert sum(part.lines for part in parts) == whole.lines == 11
    assert sum((part.skipped for part in parts), Counter()) == whole.skipped
    assert not list(Path("d").glob("*.part"))


def test_a_shard_reads_only_its_own_images_and_keeps_line_numbers(
        folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "list.txt").write_text("none1 A\na.png B\nnone3 C\nnone4 D\nnone5 E\n./a.png F\n")
    with caplog.at_level(logging.INFO, "aocr"):
        writer.write_dataset("list.txt", "out.tfrecords", DatasetOptions(sharding=Sharding(2, 1)))
    assert [record.label for record in stored("out-00001-of-00002.tfrecords")] == ["B", "F"]
    (warning,) = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    assert "line 4 of list.txt" in warning


@pytest.mark.parametrize("index", [None, 1])
def test_an_empty_shard_is_refused_and_nothing_is_written(
        folder: Path, index: int | None) -> None:
    (folder / "list.txt").write_text("a.png A\nnone B\na.png C\n")
    with pytest.raises(AocrError, match="00001-of-00002|no line of list.txt"):
        writer.write_dataset("list.txt", "out.tfrecords",
                             DatasetOptions(sharding=Sharding(2, index)))
    assert not list(folder.glob("out*"))


@pytest.mark.parametrize(("count", "index", "word"), [
    (None, 0, "--shards"), (4, 4, "0 to 3"), (4, -1, "0 to 3"), (100_000, None, "99999")])
def test_shard_counts_and_indexes_out_of_range_are_refused(count: int | None, index: int | None, word: str
                                           ) -> None:
    with pytest.raises(AocrError, match=word):
        Sharding(count, index)


@pytest.mark.parametrize(("output", "path", "pattern"), [
    ("a/b.tfrecords", "a/b-00001-of-00012.tfrecords", "a/b-*-of-00012.tfrecords"),
    ("gs://b/c.d/e", "gs://b/c.d/e-00001-of-00012", "gs://b/c.d/e-*-of-00012")])
def test_names_of_shards(output: str, path: str, pattern: str) -> None:
    assert Sharding(12).paths(output)[1] == path
    assert Sharding(12, 1).paths(output) == [path]
    assert Sharding(12).pattern(output) == pattern


def test_the_proposed_command_trains_on_all_shards(
        folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "list.txt").write_text("a.png A\n./a.png B\n")
    for more, said in (([], "Dataset is ready: 2 pairs."),
                       (["--shard-index", "1"], "Shard 1 of 2 is ready: 1 pairs")):
        assert main(["dataset", "list.txt", "my words.tfrecords", "--shards", "2", *more]) == 0
        logged = capsys.readouterr().err
        assert said in logged
        assert "aocr train 'my words-*-of-00002.tfrecords' --max-width" in logged
    assert main(["dataset", "list.txt", "--shard-index", "0"]) == 1
