"""Records and their index: encoding, skipping, reading, damaged files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from aocr.config import ModelConfig
from aocr.data import example, scan, skipping, stats, tfrecord
from aocr.data.example import Record
from aocr.data.index import build_index, read_records, resolve_paths
from aocr.errors import AocrError
from aocr.tokenizer import Tokenizer
from tests.drawing import encoded, png_promising, word
from tests.records import example_of, write

CONFIG = ModelConfig(max_width=100, max_height=32, max_prediction=4, alphabet="abcé ")
TOKENIZER = Tokenizer(CONFIG.alphabet)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
GOOD = encoded(word("ab", (40, 20)))


def test_records_of_several_files_are_read_in_any_order(tmp_path: Path) -> None:
    labels = [["a", "", "abc"], ["b", "bb"], ["c", "é a"]]
    paths = [write(tmp_path / f"{n}", [
        example.encode(Record(encoded(word("x", (10 + 10 * k, 20))), label, f"{n}-{k}"))
        for k, label in enumerate(file)]) for n, file in enumerate(labels)]
    index = build_index(paths, CONFIG, TOKENIZER)
    assert len(index) == 7
    assert index.skipped == []
    assert [file.path for file in index.files] == paths
    assert index.file.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert index.number.tolist() == [1, 2, 3, 1, 2, 1, 2]
    assert index.width.tolist() == [16, 32, 48, 16, 32, 16, 32]
    order = [6, 0, 3, 3, 5, 1, 2, 4, 0]
    records = list(read_records(index, order))
    stored = [(label, f"{n}-{k}") for n, file in enumerate(labels) for k, label in enumerate(file)]
    assert [(record.label, record.comment) for record in records] == [stored[n] for n in order]


SKIPPED = {
    "too wide": (encoded(word("a", (101, 20))), "a", "image too wide", "101"),
    "too long": (GOOD, "ababa", "label too long", "5 characters"),
    "unknown": (GOOD, "aXb", "unknown character", "'X'"),
    "not an image": (b"text", "a", "unreadable image", "not PNG"),
    "no bytes": (b"", "a", "unreadable image", "not PNG"),
    "tiff": (encoded(word("a", (40, 20)), "TIFF"), "a", "unreadable image", "not PNG"),
    "huge": (png_promising(2**31 - 1, 3), "a", "image too large", str(2**31 - 1)),
}


@pytest.mark.parametrize(("image", "label", "reason", "detail"), SKIPPED.values(), ids=SKIPPED)
def test_unusable_records_are_skipped_with_number_reason_and_detail(
        tmp_path: Path, image: bytes, label: str, reason: str, detail: str) -> None:
    good = example.encode(Record(GOOD, "ab", ""))
    path = write(tmp_path / "data", [good, example.encode(Record(image, label, "")), good])
    index = build_index([path], CONFIG, TOKENIZER)
    assert index.number.tolist() == [1, 3]
    (skip,) = index.skipped
    assert (skip.path, skip.record, skip.reason) == (path, 2, reason)
    assert detail in skip.detail
    assert [record.label for record in read_records(index, [1, 0])] == ["ab", "ab"]
    assert index.skip(1, "x", "y") == skipping.SkippedRecord(path, 3, "x", "y")


def test_every_record_is_either_used_or_skipped(tmp_path: Path) -> None:
    kinds = [(GOOD, "ab"), *((image, label) for image, label, *_ in SKIPPED.values())]
    chosen = np.random.default_rng(0).integers(0, len(kinds), 600)
    path = write(tmp_path / "data", [
        example.encode(Record(kinds[n][0], kinds[n][1], "")) for n in chosen])
    index = build_index([path], CONFIG, TOKENIZER)
    numbers = [*index.number.tolist(), *(skip.record for skip in index.skipped)]
    assert sorted(numbers) == list(range(1, 601))
    assert len(index) == (chosen == 0).sum()
    assert sum(skipping.count_by_reason(index.skipped).values()) == (chosen > 0).sum()


def test_records_at_the_limits_are_used(tmp_path: Path) -> None:
    path = write(tmp_path / "data", [
        example.encode(Record(encoded(word("a", (100, 9))), "abca", ""))])
    assert len(build_index([path], CONFIG, TOKENIZER)) == 1


def test_oversize_shrink_uses_wide_images_at_the_maximum_input_width(tmp_path: Path) -> None:
    path = write(tmp_path / "data", [
        example.encode(Record(encoded(word("a", (900, 20))), "a", ""))])
    shrink = ModelConfig(**{**CONFIG.to_json(), "oversize": "shrink"})  # type: ignore[arg-type]
    index = build_index([path], shrink, TOKENIZER)
    assert index.width.tolist() == [shrink.input_width] == [100]


def test_labels_of_the_original_are_indexed_as_latin1(tmp_path: Path) -> None:
    path = write(tmp_path / "data", [example_of(image=GOOD, label=b"\xe9")])
    index = build_index([path], CONFIG, TOKENIZER)
    assert next(read_records(index, [0])).label == "é"


def test_records_without_an_image_are_skipped_and_those_without_a_label_used(
        tmp_path: Path) -> None:
    path = write(tmp_path / "data", [example_of(label=b"a"), example_of(image=GOOD), example_of()])
    index = build_index([path], CONFIG, TOKENIZER)
    assert index.number.tolist() == [2]
    assert [skip.record for skip in index.skipped] == [1, 3]


@pytest.mark.parametrize("serialized", [
    example_of(image=GOOD,
               label=[5]), b"no example at all", b"\x0a\xff\xff", example_of(image=[1])],
    ids=["label of numbers", "text", "truncated", "image of numbers"])
def test_records_that_are_not_examples_are_skipped(tmp_path: Path, serialized: bytes) -> None:
    good = example_of(image=GOOD, label=b"ab")
    path = write(tmp_path / "data", [good, serialized, good])
    index = build_index([path], CONFIG, TOKENIZER)
    assert index.number.tolist() == [1, 3]
    assert [(skip.record, skip.reason) for skip in index.skipped] == [
        (2, "not an image with a label")]
    assert [record.label for record in read_records(index, [0, 1])] == ["ab", "ab"]
    assert stats.dataset_alphabet([path]) == "ab"


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


def _with_length(length: bytes) -> bytes:
    """Returns an example whose image declares a length, in protobuf's encoding of integers."""
    feature = _field(1, b"\x0a" + length + b"x" * 20)
    return _field(1, _field(1, _field(1, b"image") + _field(2, feature)))


@pytest.mark.parametrize("serialized", [
    example_of(image=GOOD, label=b"ab", other=b"x").replace(b"other", b"oth\xffr"),
    _with_length(b"\xff\xff\xff\xff\x0f"), _with_length(b"\xe2\xff\xff\xd8\x0f"),
    _with_length(b"\x80\x80\x80\x80\x08"), _with_length(b"\xff" * 9 + b"\x01")],
    ids=["not UTF-8", "-1", "negative", "smallest", "64 bits"])
def test_records_that_protobuf_rejects_are_skipped(tmp_path: Path, serialized: bytes) -> None:
    good = example_of(image=GOOD, label=b"ab")
    path = write(tmp_path / "data", [good, serialized, good])
    index = build_index([path], CONFIG, TOKENIZER)
    assert index.number.tolist() == [1, 3]
    assert [skip.record for skip in index.skipped] == [2]
    assert [record.label for record in read_records(index, range(2))] == ["ab", "ab"]


def file_of_three(path: Path) -> bytes:
    write(path, [example.encode(Record(GOOD, label, "")) for label in ("a", "b", "c")])
    return path.read_bytes()


@pytest.mark.parametrize("position", [0, 0.5, -1])
def test_a_flipped_byte_is_an_error_that_names_the_file(
        tmp_path: Path, position: float) -> None:
    path = tmp_path / "flipped.tfrecords"
    content = bytearray(file_of_three(path))
    content[int(position * len(content)) if position == 0.5 else int(position)] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(AocrError, match=r"flipped\.tfrecords"):
        build_index([str(path)], CONFIG, TOKENIZER)


@pytest.mark.parametrize("intact", [0, 1])
@pytest.mark.parametrize("remainder", [5, 12, -1])
def test_a_file_truncated_within_a_record_is_an_error_that_names_it(
        tmp_path: Path, intact: int, remainder: int) -> None:
    path = tmp_path / "cut.tfrecords"
    content = file_of_three(path)
    length = len(content) // 3
    path.write_bytes(content[:intact * length + remainder % length])
    with pytest.raises(AocrError, match=r"cut\.tfrecords"):
        build_index([str(path)], CONFIG, TOKENIZER)


@pytest.mark.parametrize("difference", [-1, 1])
def test_a_file_that_changes_while_it_is_indexed_is_an_error_that_names_it(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, difference: int) -> None:
    path = str(tmp_path / "moving.tfrecords")
    file_of_three(Path(path))
    (file,) = tfrecord.validate_tfrecords([path], 1 << 20)
    monkeypatch.setattr(tfrecord, "validate_tfrecords",
                        lambda *_: [file._replace(records=3 + difference)])
    with pytest.raises(AocrError, match=r"moving\.tfrecords: a file changed"):
        build_index([path], CONFIG, TOKENIZER)


def test_the_alphabet_of_a_damaged_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "cut.tfrecords"
    path.write_bytes(file_of_three(path)[:100])
    with pytest.raises(AocrError, match=r"cut\.tfrecords"):
        stats.dataset_alphabet([str(path)])


@pytest.mark.parametrize("content", [GOOD, b"a.png AB\n" * 9, b""], ids=["png", "text", "empty"])
def test_files_of_other_formats_are_an_error_that_names_them(
        tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.tfrecords"
    path.write_bytes(content)
    with pytest.raises(AocrError, match=r"other\.tfrecords"):
        build_index([str(path)], CONFIG, TOKENIZER)


def test_resolve_paths_keeps_the_given_order_and_lists_each_file_once(tmp_path: Path) -> None:
    for name in ("b1", "b2", "a1", "[x]"):
        (tmp_path / name).touch()
    patterns = [f"{tmp_path}/{pattern}" for pattern in ("b*", "a1", "?1")]
    assert resolve_paths(patterns) == [f"{tmp_path}/{name}" for name in ("b1", "b2", "a1")]
    assert resolve_paths([f"{tmp_path}/[x]"]) == [f"{tmp_path}/[x]"]


@pytest.mark.parametrize("pattern", ["none.tfrecords", "none-*", ""])
def test_resolve_paths_names_a_pattern_without_matches(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AocrError, match="no such dataset") as caught:
        resolve_paths([pattern])
    assert pattern in str(caught.value)


def test_resolve_paths_refuses_a_directory(tmp_path: Path) -> None:
    with pytest.raises(AocrError, match="is a directory"):
        resolve_paths([str(tmp_path)])


def test_the_alphabet_holds_the_characters_of_all_labels_in_code_point_order(
        tmp_path: Path) -> None:
    paths = [write(tmp_path / "1", [example_of(image=b"", label="bé".encode()),
                                    example_of(image=b"", label=b"b\xe8")]),
             write(tmp_path / "2", [example_of(image=b"", label=b"a b"), example_of(image=GOOD)])]
    assert stats.dataset_alphabet(paths) == " abèé"


def test_skipped_records_are_listed_in_the_order_of_files_and_records(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_BATCH_RECORDS", 3)
    random = np.random.default_rng(1)
    usable = [random.random(int(count)) < 0.5 for count in random.integers(1, 30, 9)]
    paths = [write(tmp_path / f"{n}", [
        example.encode(Record(GOOD, "ab" if is_usable else "X", f"{n}-{k}"))
        for k, is_usable in enumerate(file)]) for n, file in enumerate(usable)]
    index = build_index(paths, CONFIG, TOKENIZER)
    records = [(n, k) for n, file in enumerate(usable) for k in range(len(file))]
    assert [(skip.path, skip.record) for skip in index.skipped] == [
        (paths[n], k + 1) for n, k in records if not usable[n][k]]
    kept = [(n, k) for n, k in records if usable[n][k]]
    assert list(zip(index.file, index.number - 1, strict=True)) == kept
    assert [record.comment for record in read_records(index, range(len(index)))] == [
        f"{n}-{k}" for n, k in kept]


@pytest.mark.parametrize("fault", ["removed", "truncated", "damaged"])
def test_a_record_that_was_removed_or_changed_is_named(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "later.tfrecords"
    content = file_of_three(path)
    index = build_index([str(path)], CONFIG, TOKENIZER)
    if fault == "removed":
        path.unlink()
    else:
        path.write_bytes(content[:-9] + (b"" if fault == "truncated" else bytes(9)))
    number = 1 if fault == "removed" else 3
    with pytest.raises(AocrError, match=rf"record {number} of .*later\.tfrecords"):
        list(read_records(index, [0, 1, 2]))


def test_the_index_takes_26_bytes_per_record(tmp_path: Path) -> None:
    path = tmp_path / "data"
    file_of_three(path)
    index = build_index([str(path)], CONFIG, TOKENIZER)
    columns = (index.file, index.number, index.offset, index.length, index.width, index.bucket)
    assert sum(column.itemsize for column in columns) == 26
