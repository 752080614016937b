"""Records: encoding and decoding, features and labels of the original."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from aocr.checkpoints import config_file
from aocr.cli.main import main
from aocr.data import example
from aocr.data.example import Record
from tests.drawing import encoded, word
from tests.records import example_of, write

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
GOOD = encoded(word("ab", (40, 20)))


@settings(deadline=None)
@given(st.binary(max_size=50), TEXT, TEXT)
def test_encoded_records_are_decoded_with_their_label_in_nfc(
        image: bytes, label: str, comment: str) -> None:
    decoded = example.decode(example.encode(Record(image, label, comment)))
    assert decoded == Record(image, unicodedata.normalize("NFC", label), comment)


def test_features_are_serialized_in_the_order_of_their_names() -> None:
    """By default, protobuf's order differs from process to process, and so would the shards."""
    for comment, names in (("", [b"image", b"label"]), ("a.png", [b"comment", b"image", b"label"])):
        serialized = example.encode(Record(b"\x89P", "A", comment))
        offsets = [serialized.index(name) for name in names]
        assert offsets == sorted(offsets)


def test_features_have_the_names_and_types_of_the_original() -> None:
    for comment, names in (("", {"image", "label"}), ("a.png", {"image", "label", "comment"})):
        features = tf.train.Example.FromString(
            example.encode(Record(b"\x89P", "é", comment))).features.feature
        assert set(features) == names
        assert all(features[name].WhichOneof("kind") == "bytes_list" for name in names)
        assert features["label"].bytes_list.value == ["é".encode()]


@pytest.mark.parametrize("comment", ["", "a/b.png"])
def test_records_can_be_read_in_the_way_of_the_original(comment: str) -> None:
    names = ("image", "label", "comment")
    parsed = tf.io.parse_single_example(
        example.encode(Record(GOOD, "Ab 9!", comment)),
        {name: tf.io.FixedLenFeature([], tf.string, default_value="") for name in names})
    assert [parsed[name].numpy() for name in names] == [GOOD, b"Ab 9!", comment.encode()]


@pytest.mark.slow
def test_records_of_the_original_can_be_trained_and_tested_on(tmp_path: Path) -> None:
    path = write(tmp_path / "old.tfrecords", [
        example_of(image=GOOD, label=b"\xc9t\xe9", comment=b"a.png"),
        example_of(image=GOOD, label=b"na\xefv"), example_of(image=GOOD, label=b"AB")])
    paths = ["--model-dir", str(tmp_path / "model"), "--log-path", str(tmp_path / "log")]
    assert main(["train", path, "--charset", "auto", "--max-steps", "1", "--max-width", "40",
                 "--max-height", "20", "--attn-num-hidden", "8", *paths]) == 0
    assert config_file.load(str(tmp_path / "model")).alphabet == "ABantvÉéï"
    assert main(["test", path, "--json", str(tmp_path / "r.json"), *paths]) == 0
    result = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert [row["label"] for row in result["images"]] == ["Été", "naïv", "AB"]
    assert result["summary"]["skipped"] == 0


@pytest.mark.parametrize(("stored", "text"), [
    (b"ABC", "ABC"), ("é".encode(), "é"), (b"caf\xe9", "café"), (b"\xff", "ÿ"),
    ("e\u0301".encode(), "é"), (b"", ""), ("日本".encode(), "日本")])
def test_labels_are_utf8_or_else_latin1(stored: bytes, text: str) -> None:
    assert example.decode_label(stored) == text
    assert example.decode(example_of(image=b"x", label=stored)).label == text


def test_missing_features_are_empty() -> None:
    assert example.decode(example_of()) == Record(b"", "", "")
    assert example.decode(example_of(other=b"x", label=b"a")) == Record(b"", "a", "")
