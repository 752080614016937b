"""Formats of annotations, from files as other programs write them to path and label."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import tensorflow as tf

from aocr.cli.main import parser
from aocr.data import example
from aocr.data.annotation_formats import AnnotationOptions
from aocr.data.annotations import READERS
from aocr.data.stats import DatasetStats
from aocr.data.writer import DatasetOptions, write_dataset
from aocr.errors import AocrError
from tests.drawing import encoded, word

IMAGE = encoded(word("AB", (50, 20)))


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a test, with three images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    for name in ("0.png", "1.png", "images/2 3.png"):
        (tmp_path / name).write_bytes(IMAGE)
    return tmp_path


def read(name: str, content: str | bytes, **options: str) -> tuple[list[tuple[str, str]],
                                                                   DatasetStats]:
    """Returns path and label of each record of an annotation file, and the statistics."""
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return records_of(name, **options)


def records_of(annotations: str, **options: str) -> tuple[list[tuple[str, str]], DatasetStats]:
    stats = write_dataset(annotations, "out.tfrecords", DatasetOptions(
        force_uppercase=False, save_filename=True, annotations=AnnotationOptions(**options)))
    records = map(example.decode, tf.data.TFRecordDataset("out.tfrecords").as_numpy_iterator())
    return [(record.comment, record.label) for record in records], stats


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("name", "lines"), [
    ("list.txt", ["0.png A B", "1.png C"]), ("list.csv", ["file,text", "0.png,A B", "1.png,C"]),
    ("list.jsonl", ['{"file": "0.png", "text": "A B"}', '{"file": "1.png", "text": "C"}'])])
def test_lines_end_as_on_any_system(name: str, lines: list[str], end: str) -> None:
    for content in (end.join(lines), end.join(lines) + end):
        assert read(name, content)[0] == [("0.png", "A B"), ("1.png", "C")]


def test_control_characters_in_labels_are_used_reported_and_counted(
        caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "aocr"):
        pairs, stats = read("list.txt", "0.png A\n1.png B\x07C\n0.png D\x1b[0m\n")
    assert [label for _, label in pairs] == ["A", "B\x07C", "D\x1b[0m"]
    assert stats.control_characters == 2
    (warning,) = [record.getMessage() for record in caplog.records
                  if "control" in record.getMessage()]
    assert "Line 2 of list.txt" in warning
    assert "\x07" not in warning


@pytest.mark.parametrize(("line", "pair"), [
    ("images/2 3.png\tA B", ("images/2 3.png", "A B")), ("0.png\tA\tB", ("0.png", "A\tB")),
    ("0.png A\tB", ("0.png", "A\tB")), ("images/2 3.png \t A", ("images/2 3.png", "A")),
    ('"images/2 3.png" A B', ("images/2 3.png", "A B")), ("'0.png' A", ("0.png", "A")),
    ('"0.png"\tA', ("0.png", "A")), ("images\\2 3.png\tA", ("images/2 3.png", "A")),
    ('"images\\2 3.png" A', ("images/2 3.png", "A")), (".\\0.png A\\B", ("./0.png", "A\\B"))])
def test_tabs_quotes_and_backslashes_are_read_as_they_are_meant(
        line: str, pair: tuple[str, str]) -> None:
    assert read("list.txt", line + "\n1.png B\n")[0] == [pair, ("1.png", "B")]


def test_a_file_with_quotes_or_backslashes_in_its_name_is_preferred(directory: Path) -> None:
    for name in ('"0.png"', ".\\1.png"):
        (directory / name).write_bytes(IMAGE)
    assert read("list.txt", '"0.png" A\n.\\1.png B\n')[0] == [('"0.png"', "A"), (".\\1.png", "B")]


def test_a_missing_file_is_named_in_all_forms_that_were_tried() -> None:
    _, stats = read("list.txt", '0.png A\n"a b.png" B\nc\\d.png C\n')
    assert stats.skipped == {"missing file": 2}
    assert stats.first_skipped["missing file"] == (2, '"a or a b.png')


@pytest.mark.parametrize(("name", "content"), [
    ("words.csv", "filename,words\n0.png,A B\n1.png,C\n"),
    ("words.txt", "filename,words\n0.png,A B\n1.png,C\n"),
    ("words.csv", '"File Name";"Text"\r\n0.png;"A B"\r\n1.png;C\r\n'),
    ("words.tsv", "label\tsource\timage_path\nA B\tx\t0.png\nC\ty\t1.png\n"),
    ("a.jsonl", '{"file_name": "0.png", "text": "A B"}\n{"text": "C", "file_name": "1.png"}\n'),
    ("labels", '{"image": "0.png", "transcription": "A B"}\n{"image": "1.png", "label": "C"}\n'),
    ("words.csv", "\ufeff\nfilename,words\n0.png,A B\n1.png,C\n")])
def test_tables_and_json_lines_are_detected(name: str, content: str) -> None:
    pairs, stats = read(name, content)
    assert pairs == [("0.png", "A B"), ("1.png", "C")]
    assert not stats.skipped


def test_columns_may_be_named() -> None:
    pairs, _ = read("a.csv", "id,photo,text,reading\n1,0.png,x,A\n", path_column="photo",
                    label_column="reading")
    assert pairs == [("0.png", "A")]
    pairs, _ = read("a.jsonl", '{"photo": "0.png", "text": "A"}\n', path_column="photo")
    assert pairs == [("0.png", "A")]


def test_rows_may_hold_quotes_and_delimiters(directory: Path) -> None:
    (directory / "a,b.png").write_bytes(IMAGE)
    pairs, stats = read("a.csv", 'file,text\n"a,b.png","say ""A"", B"\n0.png,5" C\n1.png,E\n')
    assert pairs == [("a,b.png", 'say "A", B'), ("0.png", '5" C'), ("1.png", "E")]
    assert not stats.skipped


def test_a_quote_without_its_end_takes_in_no_other_line() -> None:
    pairs, stats = read("a.tsv", 'file\ttext\n0.png\t"A\n1.png\tB\n0.png\t"C" D\n1.png\t"E"\n')
    assert pairs == [("1.png", "B"), ("1.png", "E")]
    assert stats.skipped == {"malformed row": 2}


def test_the_reason_of_a_malformed_row_is_printable() -> None:
    _, stats = read("a.csv", b'file,text\n0.png,"\xca\n1.png,B\n')
    assert stats.skipped == {"malformed row": 1}
    assert "\\udcca" in stats.first_skipped["malformed row"][1]


@pytest.mark.parametrize(("name", "content", "line", "skip_reason"), [
    ("a.csv", "file,text\n0.png,A\n1.png\n", 3, "missing column"),
    ("a.csv", "file,text\n0.png,A\n\n", 3, "blank line"),
    ("a.csv", b"file,text\n0.png,A\n1.png,\xff\n", 3, "not UTF-8"),
    ("a.csv", "file,text\n0.png,A\n1.png,B\0\n", 3, "NUL character"),
    ("a.csv", "file,text\n0.png,A\n1.png," + "B" * 200_000 + "\n", 3, "malformed row"),
    ("a.csv", "file,text\nnone.png,A\n1.png,B\n", 2, "missing file"),
    ("a.jsonl", '{"file": "0.png", "text": "A"}\n{"file": "1.png", "te\n', 2, "not JSON"),
    ("a.jsonl", '{"file": "0.png", "text": "A"}\n["1.png", "B"]\n', 2, "not a JSON object"),
    ("a.jsonl", '{"file": "0.png", "text": "A"}\n{"file": "1.png"}\n', 2, "missing key"),
    ("a.jsonl", '{"file": "0.png", "text": "A"}\n{"file": "1.png", "text": 7}\n', 2, "not text"),
    ("a.jsonl", '{"file": "0.png", "text": "A"}\n{"file": "1.png", "text": "\\ud800"}\n', 2,
     "not UTF-8"),
    ("a.jsonl", '{"file": "0.png", "text": "A"}\n' + "[" * 100_000 + "\n", 2, "not JSON")])
def test_a_bad_row_is_skipped_with_line_and_reason(name: str, content: str | bytes, line: int,
                                                   skip_reason: str) -> None:
    pairs, stats = read(name, content)
    assert len(pairs) == 1
    assert stats.skipped == {skip_reason: 1}
    assert stats.first_skipped[skip_reason][0] == line


def test_label_files_beside_images_are_read(directory: Path) -> None:
    folder = directory / "ground-truth"
    folder.mkdir()
    for name in ("a.png", "b.TIF", "c.bin.png", "d.png", "._a.png"):
        (folder / name).write_bytes(IMAGE)
    for name, text in (("a", "A B\n"), ("b", "\ufeffÄ"), ("c", "C\r\n"), ("e", "E"), ("f", "F\nG")):
        (folder / f"{name}.gt.txt").write_text(text, encoding="utf-8")
    shutil.copy(folder / "a.png", folder / "f.png")
    (folder / "notes.txt").write_text("not a label")
    pairs, stats = records_of("ground-truth")
    assert [(Path(path).name, label) for path, label in pairs] == [
        ("a.png", "A B"), ("b.TIF", "Ä"), ("c.bin.png", "C")]
    assert stats.skipped == {"no label file": 1, "several lines": 1, "missing file": 1}
    assert stats.lines == 6


@pytest.mark.parametrize(("name", "content", "options", "expected"), [
    ("a.csv", "0.png,A\n1.png,B\n", {}, "must name the columns"),
    ("a.csv", "file,text\n0.png,A\n", {"path_column": "photo"}, "--path-column"),
    ("a.txt", "0.png A\n", {"format": "csv"}, "must name the columns"),
    ("a.txt", "0.png A\n", {"format": "gt"}, "needs a directory"),
    ("a.txt", "0.png A\n", {"format": "jsonl"}, "no line of a.txt can be used"),
    ("a.csv", "file,text\n0.png,A\n", {"format": "text"}, "no line of a.csv can be used")])
def test_a_format_that_does_not_fit_is_an_error(name: str, content: str, options: dict[str, str],
                                                expected: str) -> None:
    with pytest.raises(AocrError, match=expected):
        read(name, content, **options)


@pytest.mark.parametrize(("annotation_format", "expected"), [
    ("auto", r"images is a directory without \.gt\.txt files"), ("csv", "needs a file")])
def test_a_directory_without_label_files_is_an_error(annotation_format: str, expected: str) -> None:
    with pytest.raises(AocrError, match=expected):
        records_of("images", format=annotation_format)


def test_the_command_offers_all_formats() -> None:
    for name in ("auto", *READERS):
        assert parser().parse_args(["dataset", "list.txt", "--format", name]).format == name


@pytest.mark.parametrize("first", ["{a}.png A", "file.png text", "a,b.png A", ""])
def test_other_first_lines_are_text(directory: Path, first: str) -> None:
    for name in ("{a}.png", "file.png", "a,b.png"):
        (directory / name).write_bytes(IMAGE)
    assert read("list.txt", f"{first}\n0.png B\n")[0][-1] == ("0.png", "B")
