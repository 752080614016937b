"""Writing datasets: from annotation lines to records."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import tensorflow as tf

from aocr.cli.main import main
from aocr.config import PRINTABLE_ASCII, ModelConfig
from aocr.data import writer
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
from tests.records import read

PNG = encoded(word("AB", (50, 20)))


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes an empty working directory with one image."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(PNG)
    return tmp_path


def write(content: str | bytes, options: DatasetOptions | None = None
          ) -> tuple[DatasetStats, list[Record]]:
    """Writes a dataset from annotations; returns its statistics and records."""
    Path("list.txt").write_bytes(content.encode() if isinstance(content, str) else content)
    stats = writer.write_dataset("list.txt", "out.tfrecords", options or DatasetOptions())
    return stats, read()


def labels(content: str | bytes, options: DatasetOptions | None = None) -> list[str]:
    return [record.label for record in write(content, options)[1]]


@pytest.mark.parametrize(("line", "label"), [
    ("a.png AB", "AB"), ("a.png  AB CD ", "AB CD"), ("a.png\tAB", "AB"), ("a.png ", ""),
    ("a.png \t ", ""), ("  a.png AB", "AB"), ("a.png A\tB", "A\tB"), ("a.png ab", "AB"),
    ("a.png straße", "STRASSE"), ("a.png é", "É"), ("a.png e\u0301", "É"), ("a.png ﬁ", "FI"),
    ("a.png \u212b", "Å"), ("a.png 日本 語", "日本 語"), ("a.png \U0001f600", "\U0001f600")])
def test_the_path_ends_at_the_first_white_space_and_the_label_follows(
        line: str, label: str) -> None:
    assert labels(line) == [label]


@pytest.mark.parametrize("content", [
    b"a.png A\na.png B\n", b"a.png A\na.png B", b"a.png A\r\na.png B\r\n", b"a.png A\r\na.png B",
    b"\xef\xbb\xbfa.png A\na.png B\n", b"\xef\xbb\xbfa.png A\r\na.png B"])
def test_byte_order_mark_and_line_endings_are_removed(content: bytes) -> None:
    stats, records = write(content)
    assert [record.label for record in records] == ["A", "B"]
    assert not stats.skipped


def test_only_line_feeds_end_lines() -> None:
    assert labels("a.png A\u2028B\x85C\x0cD\n") == ["A\u2028B\x85C\x0cD"]


def test_labels_are_stored_as_utf8_in_nfc() -> None:
    write("a.png e\u0301\n", DatasetOptions(force_uppercase=False))
    (serialized,) = tf.data.TFRecordDataset("out.tfrecords").as_numpy_iterator()
    features = tf.train.Example.FromString(serialized).features.feature
    assert features["label"].bytes_list.value == ["é".encode()]


@pytest.mark.parametrize(("line", "reason", "detail"), [
    (b"a.png", "no label field", "a.png"), (b"none.png AB", "missing file", "none.png"),
    (b"text.png AB", "unreadable image", "got 19 bytes"), (b"empty.png AB", "unreadable", "empty"),
    (b"cut.png AB", "unreadable image", ""), (b"sub AB", "cannot open the file", "sub"),
    (b"a.png \xff", "not UTF-8", "character 6"), (b"", "blank line", ""),
    (b" \t", "blank line", ""),
    (b"a.png/b AB", "", "a.png/b"), (b"a.png\0b AB", "NUL character", "a.png\\x00b"),
    (b"a\0.png AB", "NUL character", ""), (b"a.png A\0B", "NUL character", "A\\x00B"),
    (b"x" * 100_000 + b" AB", "", "xxx")],
    ids=["no label", "missing", "text", "empty file", "cut", "directory", "not utf-8", "blank",
         "white space", "below a file", "NUL at end", "NUL within", "NUL in label", "long path"])
def test_an_unusable_line_is_skipped_with_number_and_reason(
        directory: Path, caplog: pytest.LogCaptureFixture, line: bytes, reason: str,
        detail: str) -> None:
    (directory / "text.png").write_text("not an image at all")
    (directory / "empty.png").touch()
    (directory / "cut.png").write_bytes(PNG[:20])
    (directory / "sub").mkdir()
    with caplog.at_level(logging.INFO, "aocr"):
        stats, records = write(b"a.png A\n" + line + b"\n./a.png B\n")
    assert [record.label for record in records] == ["A", "B"]
    assert stats.pairs == 2
    ((full_reason, count),) = stats.skipped.items()
    assert count == 1
    assert full_reason.startswith(reason)
    (warning,) = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    assert f"line 2 of list.txt: {full_reason}" in warning
    assert detail in warning


def test_a_very_long_label_is_kept() -> None:
    assert labels("a.png " + "AB " * 40_000) == [("AB " * 40_000).strip()]


def test_every_line_is_either_used_or_skipped() -> None:
    lines = ["a.png A", "", "none.png B", "a.png", "a.png C"] * 130
    stats, records = write("\n".join(lines))
    assert len(records) == stats.pairs == 260
    assert stats.pairs + stats.skipped.total() == len(lines)
    assert stats.skipped == {"blank line": 130, "missing file": 130, "no label field": 130}


@pytest.mark.parametrize("save", [False, True])
def test_images_are_stored_unchanged_and_paths_on_request(directory: Path, save: bool) -> None:
    (directory / "b.jpg").write_bytes(encoded(word("AB"), "JPEG"))
    _, records = write("a.png A\nb.jpg B\n", DatasetOptions(save_filename=save))
    assert [record.image for record in records] == [PNG, (directory / "b.jpg").read_bytes()]
    assert [record.comment for record in records] == (["a.png", "b.jpg"] if save else ["", ""])


@pytest.mark.parametrize("image", [
    encoded(word("AB"), "TIFF"), with_orientation(word("AB"), 6),
    encoded(word("AB", mode="CMYK"), "JPEG"), encoded(word("AB", mode="I;16"))],
    ids=["tiff", "rotated", "cmyk", "16 bits"])
def test_images_that_tensorflow_decodes_wrongly_are_stored_as_png(
        directory: Path, image: bytes) -> None:
    (directory / "b").write_bytes(image)
    stats, (record,) = write("b AB")
    expected, size = transcoding.to_decodable(image)
    assert record.image == expected
    assert record.image.startswith(b"\x89PNG")
    assert (stats.sizes.widths, stats.sizes.heights) == ([size[0]], [size[1]])


def test_paths_are_relative_to_the_working_directory_or_the_annotation_file(
        directory: Path) -> None:
    other = encoded(word("other", (80, 30)))
    data = directory / "data"
    (data / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        (data / name).write_bytes(other)
    (data / "list.txt").write_text(f"a.png A\nsub/b.png B\n{data}/a.png C\n")
    writer.write_dataset("data/list.txt", "out.tfrecords", DatasetOptions())
    assert [record.image for record in read()] == [PNG, other, other]


def test_the_number_of_jobs_does_not_change_the_dataset(directory: Path) -> None:
    lines = []
    for n in range(40):
        (directory / f"{n}").write_bytes(encoded(word("AB", (20 + n, 20)), ("PNG", "TIFF")[n % 2]))
        lines += [f"{n} {n}", "none x"] if n % 7 == 0 else [f"{n} {n}"]
    results = []
    for jobs in (1, 4):
        stats, _ = write("\n".join(lines * 8), DatasetOptions(jobs=jobs))
        results.append((stats, Path("out.tfrecords").read_bytes()))
    assert results[0] == results[1]
    assert stats.pairs == 320


def test_stats_hold_counts_labels_and_sizes(directory: Path) -> None:
    (directory / "b.png").write_bytes(encoded(word("AB", (90, 30))))
    stats, _ = write("a.png ab\na.png AB C\nb.png 日本\na.png\nb.png \n")
    assert stats.pairs == 4
    assert stats.skipped == {"no label field": 1}
    assert stats.longest == "AB C"
    assert stats.characters == {"A": 2, "B": 2, " ": 1, "C": 1, "日": 1, "本": 1}
    assert stats.upper_cased == 1
    assert stats.label_lengths == {0, 2, 4}
    assert stats.sizes.widths == [50, 50, 90, 90]
    assert stats.sizes.heights == [20, 20, 30, 30]


def test_case_is_kept_on_request() -> None:
    stats, records = write("a.png aßB\n", DatasetOptions(force_uppercase=False))
    assert records[0].label == "aßB"
    assert stats.upper_cased == 0


def test_progress_is_logged_every_log_step_pairs(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "aocr"):
        write("".join(f"{'./' * n}a.png A\n" for n in range(7)), DatasetOptions(log_step=3))
    assert [r.getMessage() for r in caplog.records] == ["Processed 3 pairs.", "Processed 6 pairs."]


def test_proposed_flags_use_every_image(directory: Path) -> None:
    sizes = [(20, 50), (300, 20), (64, 64), (500, 10)]
    for n, size in enumerate(sizes):
        (directory / f"{n}.png").write_bytes(encoded(word("A", size)))
    stats, _ = write("".join(f"{n}.png {'A' * n}\n" for n in range(len(sizes))))
    proposal = stats.sizes.propose()
    config = ModelConfig(max_width=proposal.max_width, max_height=proposal.max_height,
                         alphabet=PRINTABLE_ASCII, max_prediction=max(1, len(stats.longest)))
    index = build_index(["out.tfrecords"], config, Tokenizer(config.alphabet))
    assert (len(index), index.skipped) == (len(sizes), [])


@pytest.mark.parametrize(("content", "message"), [
    ("", "empty"), ("\ufeff", "empty"), ("none.png A\n", "missing file"), ("\n\n", "blank line"),
    ("a.png A\n".encode("utf-16"), "not UTF-8")],
    ids=["empty", "bom", "missing", "blank", "utf-16"])
def test_without_a_usable_line_an_existing_output_is_kept(
        directory: Path, content: str | bytes, message: str) -> None:
    (directory / "out.tfrecords").write_bytes(b"before")
    before = sorted([*(path.name for path in directory.iterdir()), "list.txt"])
    with pytest.raises(AocrError, match=message) as caught:
        write(content)
    assert "list.txt" in str(caught.value)
    assert (directory / "out.tfrecords").read_bytes() == b"before"
    assert sorted(path.name for path in directory.iterdir()) == before


def test_after_a_failure_an_existing_output_is_kept(
        directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "out.tfrecords").write_bytes(b"before")
    monkeypatch.setattr("aocr.data.example.encode", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write("a.png A\n")
    assert (directory / "out.tfrecords").read_bytes() == b"before"
    names = sorted(path.name for path in directory.iterdir())
    assert names == ["a.png", "list.txt", "out.tfrecords"]


def test_the_output_is_replaced_and_its_directory_created(directory: Path) -> None:
    (directory / "list.txt").write_text("a.png A\n")
    for _ in range(2):
        writer.write_dataset("list.txt", "new/deep/out", DatasetOptions())
        assert len(read("new/deep/out")) == 1
        assert [path.name for path in (directory / "new/deep").iterdir()] == ["out"]


@pytest.mark.parametrize(("annotations", "output"), [
    ("none.txt", "out"), (".", "out"), ("list.txt", "."), ("list.txt", "a.png/out")])
def test_unusable_paths_of_annotations_and_output_are_named(
        directory: Path, annotations: str, output: str) -> None:
    (directory / "list.txt").write_text("a.png A\n")
    with pytest.raises(AocrError) as caught:
        writer.write_dataset(annotations, output, DatasetOptions())
    assert (output if annotations == "list.txt" else annotations) in str(caught.value)
    assert (directory / "a.png").read_bytes() == PNG


def test_pipes_are_skipped_or_refused_without_waiting(directory: Path) -> None:
    os.mkfifo("pipe")
    (directory / "list.txt").write_text("a.png A\npipe B\n")
    stats, records = write(b"a.png A\npipe B\n")
    assert [record.label for record in records] == ["A"]
    assert stats.skipped == {"cannot open the file": 1}
    with pytest.raises(AocrError, match="pipe is not a regular file"):
        writer.write_dataset("pipe", "out.tfrecords", DatasetOptions())
    with pytest.raises(AocrError, match="pipe is not a regular file"):
        resolve_paths(["pipe"])


@pytest.mark.parametrize(("flags", "skipped"), [
    ([], 1), (["--verify"], 1), (["--no-verify"], 0)])
@pytest.mark.parametrize("jobs", ["1", "3"])
def test_an_image_cut_in_half_is_skipped_and_named(
        directory: Path, capsys: pytest.CaptureFixture[str], flags: list[str], skipped: int,
        jobs: str) -> None:
    jpeg = encoded(word("AB", (50, 20)), "JPEG")
    (directory / "cut.jpg").write_bytes(jpeg[:len(jpeg) // 2 + 200])
    (directory / "list.txt").write_text("a.png A\ncut.jpg B\n./a.png C\n")
    assert main(["dataset", "list.txt", "out.tfrecords", "--jobs", jobs, *flags]) == 0
    logged = capsys.readouterr().err
    assert len(read()) == 3 - skipped
    detail = "cut.jpg: its data cannot be decoded"
    assert logged.count(f"Skipped line 2 of list.txt: unreadable image: {detail}") == skipped
    assert logged.count(f"Skipped: 1 x unreadable image (first: line 2, {detail})") == skipped


def test_images_of_large_datasets_are_decoded_on_request_only(
        directory: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> None:
    monkeypatch.setattr(writer, "VERIFIED_IMAGES", 2)
    (directory / "cut.png").write_bytes(undecodable_png())
    content = "cut.png A\na.png B\n./a.png C\n"
    stats, _ = write(content)
    assert stats.pairs == 3
    assert any("there are more than 2: training skips" in line for line in logged)
    logged.clear()
    assert write(content, DatasetOptions(verify=True))[0].skipped == {"unreadable image": 1}
    assert not any("more than" in line for line in logged)
    assert write(content, DatasetOptions(sharding=Sharding(2, 0)))[0].pairs == 2  # as in one run


def test_outliers_are_named_and_do_not_change_the_proposal(
        directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "wide.png").write_bytes(encoded(word("A", (10_000, 1))))
    lines = [f"{'./' * n}a.png A\n" for n in range(11)]
    (directory / "list.txt").write_text("".join(lines) + "wide.png A\n")
    assert main(["dataset", "list.txt", "out.tfrecords"]) == 0
    logged = capsys.readouterr().err
    assert "--max-width 50 --max-height 20 --max-prediction 1 " in logged
    assert "--max-width skips: 1; the widest: wide.png (10000 x 1)\n" in logged


def test_control_characters_are_logged_as_escapes(
        directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "list.txt").write_text("a.png A\tB\a\n")
    assert main(["dataset", "list.txt", "out.tfrecords"]) == 0
    logged = capsys.readouterr().err
    assert "Longest label (4): A\\tB\\x07\n" in logged
    assert "Characters (4): \\x07:1 \\t:1 A:1 B:1\n" in logged


def test_annotations_are_not_overwritten_by_their_own_records(directory: Path) -> None:
    (directory / "list.txt").write_text("a.png A\n")
    with pytest.raises(AocrError, match=r"list\.txt"):
        writer.write_dataset("list.txt", "list.txt", DatasetOptions())
    assert (directory / "list.txt").read_text() == "a.png A\n"


@pytest.mark.parametrize(("line", "reason"), [
    ("", "blank line"), ("a", "no label field"), ("\udcff a", "not UTF-8")])
def test_parse_line_gives_the_reason(line: str, reason: str) -> None:
    with pytest.raises(SkipError) as caught:
        parse_line(line)
    assert caught.value.reason == reason


def test_a_line_with_an_unreachable_path_is_skipped(directory: Path) -> None:
    stats, _ = write("none://host/my image.png\tA\na.png B\n")
    assert stats.skipped == {"cannot open the file": 1}
    assert stats.pairs == 1
