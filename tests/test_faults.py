"""Damaged and hostile input of every kind; `tests/README.md` lists what is tested."""

from __future__ import annotations

import gzip
import io
import logging
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from aocr.cli.main import main
from aocr.config import MAX_PIXELS, ModelConfig
from aocr.data import example, stats, writer
from aocr.data.index import build_index, read_records
from aocr.errors import AocrError, SkipError
from aocr.images import header_ops, headers, transcoding
from aocr.inference.recognizer import Recognizer
from aocr.tokenizer import Tokenizer
from tests import fuzz, mutations
from tests.conftest import World
from tests.drawing import encoded, png_promising, word

ROOT = Path(__file__).parents[1]
CONFIG = ModelConfig(alphabet="AB")
TOKENIZER = Tokenizer(CONFIG.alphabet)
SIZE = (60, 24)
GOOD = encoded(word("AB", SIZE))


def _bomb(name: str) -> bytes:
    """Returns a file of 60 x 24 pixels whose header declares 50,000 x 50,000."""
    file = bytearray(encoded(word("AB", SIZE), name))
    if name == "JPEG":
        header = re.search(rb"\xff\xc0..\x08", bytes(file), re.DOTALL)
        assert header is not None
        file[header.end():header.end() + 4] = struct.pack(">2H", 50_000, 50_000)
    elif name == "GIF":
        file[6:10] = struct.pack("<2H", 50_000, 50_000)
    elif name == "BMP":
        file[18:26] = struct.pack("<2i", 50_000, 50_000)
    return bytes(file)


BOMBS = {"png": png_promising(50_000, 50_000), "jpeg": _bomb("JPEG"),
         "gif": _bomb("GIF"), "bmp": _bomb("BMP")}


def gif(frames: int) -> bytes:
    """Returns an animation."""
    return encoded(word("AB", SIZE), "GIF", save_all=True,
                   append_images=[word(f"{n}", SIZE) for n in range(1, frames)])


def record_file(path: Path, images: list[bytes]) -> str:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for file in images:
            writer.write(example.encode(example.Record(file, "AB", "")))
    return str(path)


def declared_pixels(file: bytes) -> int:
    return int(header_ops.decoded_sizes(tf.constant([file]))[2][0])


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_bombs_are_recognized_by_their_headers_and_refused(bomb: bytes) -> None:
    assert declared_pixels(bomb) == 50_000**2
    with pytest.raises(tf.errors.InvalidArgumentError, match=headers.TOO_LARGE):
        header_ops.refuse_oversized(tf.constant([GOOD, bomb]), MAX_PIXELS)
    assert header_ops.refuse_oversized(tf.constant([GOOD]), 60 * 24).numpy().tolist() == [GOOD]
    with pytest.raises(SkipError, match=rf"(50000 x|2500000000).*{MAX_PIXELS} are read .--max-pix"):
        transcoding.to_decodable(bomb)


def test_all_frames_of_a_gif_count() -> None:
    one, two, five = (declared_pixels(gif(n)) for n in (1, 2, 5))
    assert one == 60 * 24 < two < five  # frames may be smaller than the canvas


def test_files_with_unknown_headers_are_not_decoded() -> None:
    animated = encoded(word("AB", SIZE), "WEBP", save_all=True, append_images=[word("x", SIZE)])
    files = tf.constant([animated, b"text" * 20, b"\xff\xd8\xff\x00" + bytes(60)])
    assert header_ops.refuse_oversized(files, MAX_PIXELS).numpy().tolist() == [b""] * 3


def test_a_webp_file_that_only_its_flags_call_animated_is_refused(world: World) -> None:
    file = bytearray(encoded(word("AB", SIZE, "RGBA"), "WEBP"))
    file[20] |= 2  # Pillow counts the frames, of which there are none
    recognizer = Recognizer.load(world.model_dir)
    outcome, other = recognizer.predict_each([bytes(file), world.images[0]])
    assert isinstance(outcome, SkipError)
    assert not isinstance(other, SkipError)


@pytest.mark.parametrize("between", [b"\xff\x01", b"\xff\xd3", b"\xff\xff\xff"])
def test_markers_without_a_length_hide_no_jpeg_header(between: bytes) -> None:
    bomb = BOMBS["jpeg"]
    assert declared_pixels(bomb[:2] + between + bomb[2:]) == 50_000**2


def test_bombs_in_records_are_skipped_and_named(tmp_path: Path) -> None:
    path = record_file(tmp_path / "bombs", [GOOD, *BOMBS.values(), GOOD])
    index = build_index([path], CONFIG, TOKENIZER)
    assert index.number.tolist() == [1, 6]
    assert [skip.reason for skip in index.skipped] == [headers.TOO_LARGE] * 4
    assert all("--max-pixels" in skip.detail for skip in index.skipped)
    assert len(build_index([path], CONFIG, TOKENIZER, 60 * 24)) == 2
    assert len(build_index([path], CONFIG, TOKENIZER, 60 * 24 - 1)) == 0


@pytest.mark.slow
def test_an_exported_model_refuses_bombs(world: World, tmp_path: Path) -> None:
    log = ["--log-path", str(tmp_path / "log")]
    assert main(["export", str(tmp_path / "out"), "--model-dir", str(world.model_dir),
                 "--max-pixels", "50000", *log]) == 0
    served = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"]
    for bomb in BOMBS.values():
        with pytest.raises(tf.errors.InvalidArgumentError, match=headers.TOO_LARGE):
            served(input=tf.constant(bomb))
    recognizer = Recognizer.load(tmp_path / "out")
    large, small = recognizer.predict_each([Image.new("L", (300, 300)), world.images[0]])
    assert isinstance(large, SkipError)
    assert (large.reason, "--max-pixels" in large.detail) == (headers.TOO_LARGE, True)
    assert not isinstance(small, SkipError)


def test_32_bit_integers_are_reduced_to_8_bits() -> None:
    pixels = np.arange(256, dtype=np.int32).reshape(16, 16)
    for image in (Image.fromarray(pixels), Image.fromarray(pixels * 257)):
        stored = Image.open(io.BytesIO(transcoding.from_pillow(image)))
        np.testing.assert_array_equal(np.asarray(stored), pixels)


def test_files_longer_than_their_pixels_need_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "long.png").write_bytes(GOOD + bytes(1 << 21))
    with pytest.raises(SkipError, match="image too large"):
        transcoding.to_decodable((tmp_path / "long.png").read_bytes(), 60 * 24)


def test_gzip_records_read(tmp_path: Path) -> None:
    path = record_file(tmp_path / "plain", [GOOD, GOOD])
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(Path(path).read_bytes()))
    index = build_index([str(packed), path], CONFIG, TOKENIZER)
    assert [file.path for file in index.files] == [str(packed), path]
    assert [record.image for record in read_records(index, [3, 0, 1])] == [GOOD] * 3
    copy = index.files[0].readable_path
    assert Path(copy).exists()
    del index
    assert not Path(copy).exists()


@pytest.mark.parametrize("cut", [20, -10])
def test_a_truncated_gzip_file_is_an_error_that_names_it(tmp_path: Path, cut: int) -> None:
    compressed = gzip.compress(Path(record_file(tmp_path / "plain", [GOOD] * 9)).read_bytes())
    (tmp_path / "cut.gz").write_bytes(compressed[:cut])
    with pytest.raises(AocrError, match=r"cut\.gz is damaged"):
        build_index([str(tmp_path / "cut.gz")], CONFIG, TOKENIZER)


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(1 << 24)))
    with pytest.raises(AocrError, match=r"bomb\.gz is not a TFRecords file"):
        build_index([str(tmp_path / "bomb.gz")], CONFIG, TOKENIZER)


@pytest.mark.parametrize("length", [1 << 30, 1 << 40, (1 << 64) - 8])
@pytest.mark.parametrize("before", [0, 1])
def test_a_record_that_declares_too_great_a_length_is_an_error(
        tmp_path: Path, before: int, length: int) -> None:
    path = record_file(tmp_path / "records", [GOOD] * before)
    head = struct.pack("<Q", length)
    with Path(path).open("ab") as file:
        file.write(head + struct.pack("<I", mutations.checksum(head)) + GOOD)
    with pytest.raises(AocrError, match="declares" if before else "not a TFRecords file"):
        build_index([path], CONFIG, TOKENIZER)


def test_a_long_line_is_skipped_and_abbreviated_in_the_log(tmp_path: Path,
                                                  caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.png").write_bytes(GOOD)
    (tmp_path / "list").write_bytes(b"a.png A\n" + b"x" * (3 << 20) + b"\na.png B\na.png C")
    with caplog.at_level(logging.WARNING, "aocr"):
        summary = writer.write_dataset(str(tmp_path / "list"), str(tmp_path / "out"),
                                   writer.DatasetOptions())
    assert (summary.pairs, summary.lines, summary.repeated) == (3, 4, 2)
    assert summary.skipped == {"line too long": 1}
    first, second = (record.getMessage() for record in caplog.records)
    assert "Skipped line 2" in first
    assert "Line 3" in second
    assert "repeats the path" in second
    assert max(map(len, caplog.messages)) < 600


def test_charset_auto_refuses_a_dataset_of_empty_labels(tmp_path: Path) -> None:
    with tf.io.TFRecordWriter(str(tmp_path / "empty")) as writer:
        writer.write(example.encode(example.Record(GOOD, "", "")))
    with pytest.raises(AocrError, match="empty"):
        stats.dataset_alphabet([str(tmp_path / "empty")])


def run_failing(directory: Path, *arguments: object) -> str:
    """Runs a command that must end with exit code 1; returns the last line of its log."""
    log = directory / "run.log"
    assert main([*map(str, arguments), "--log-path", str(log)]) == 1
    return log.read_text(encoding="utf-8").splitlines()[-1]


@pytest.mark.parametrize("name", ["saved_model.pb", "frozen_graph.pb", "12/saved_model.pb"])
def test_training_into_the_directory_of_an_export_is_refused(
        world: World, tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    assert "directory of checkpoints" in run_failing(
        tmp_path, "train", world.records, "--model-dir", tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_a_file_in_place_of_a_model_directory_is_an_error(world: World, tmp_path: Path) -> None:
    assert "is a file" in run_failing(tmp_path, "predict", world.images[0], "--model-dir",
                               world.images[0])


@pytest.mark.parametrize("name", ["model.ckpt-2.index", "model.ckpt-2.data-00000-of-00001",
                                  "checkpoint", "config.json"])
@pytest.mark.parametrize("content", [b"", pytest.param(b"\xff" * 300, marks=pytest.mark.slow)],
                         ids=["empty", "garbage"])
def test_damaged_model_files_are_named(world: World, tmp_path: Path, name: str, content: bytes
                                       ) -> None:
    shutil.copytree(world.model_dir, tmp_path / "model")
    (tmp_path / "model" / name).write_bytes(content)
    line = run_failing(tmp_path, "predict", world.images[0], "--model-dir", tmp_path / "model",
                "--strict")
    assert name.split(".index")[0].split(".data")[0] in line


def test_a_config_of_a_newer_version_is_an_error_that_says_so(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.model_dir, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    assert "newer" in run_failing(tmp_path, "predict", world.images[0], "--model-dir",
                           tmp_path / "model")


def test_some_damaged_configs_and_annotations() -> None:
    for cases in (fuzz.configs(0, 150, 7), fuzz.annotation_files(0, 30, 7)):
        assert sum(number for number, _ in cases) in (150, 30)


@pytest.mark.slow
def test_damaged_files_of_every_kind() -> None:
    divisor = 1 if os.environ.get("AOCR_FULL") else 20
    full = {"records": 20_000, "images": 20_000, "annotations": 5_000, "configs": 5_000}
    numbers = {kind: number // divisor for kind, number in full.items()}
    report = fuzz.run(numbers, 1)
    print("\n".join(report.lines()))
    assert dict(report.cases) == numbers
    assert report.faults == []


def test_a_crash_of_a_worker_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    crash = r"import os; print('done 0\t1', flush=True); os.abort()"
    monkeypatch.setattr(fuzz, "WORKER", ("-c", crash))
    report = fuzz.run({"configs": 10}, 0)
    assert ["-6" in fault for fault in report.faults] == [True]


@pytest.mark.slow
def test_bombs_take_no_memory() -> None:
    code = ("import tests.test_faults as t, tests.fuzz as f\n"
            "from aocr.inference.graph import RecognitionGraph\n"
            "from aocr.inference.tensorflow_recognizer import CheckpointRecognizer\n"
            "from aocr.model import AttentionOCR\n"
            "import tensorflow as tf\n"
            "graph = RecognitionGraph(t.CONFIG, AttentionOCR(t.CONFIG))\n"
            "read = tf.function(graph.read, autograph=False,\n"
            "                   input_signature=[tf.TensorSpec([None], tf.string)])\n"
            "recognizer = CheckpointRecognizer('', graph)\n"
            "recognizer.predict([t.GOOD] * 8)\n"
            "read(tf.constant([t.GOOD] * 8))\n"
            "before = f.peak_memory()\n"
            "recognizer.predict_each(list(t.BOMBS.values()))\n"
            "for bomb in t.BOMBS.values():\n"
            "    try: read(tf.constant([bomb]))\n"
            "    except tf.errors.InvalidArgumentError: pass\n"
            "recognizer.predict(t.encoded(t.Image.new('RGB', (4096, 3072))))\n"
            "print('growth', f.peak_memory() - before)")
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                             check=True)
    assert int(process.stdout.split("growth ")[1]) <= fuzz.MAX_GROWTH


def _rows() -> list[str]:
    """Returns the names of tests in the last columns of the tables in `tests/README.md`."""
    lines = (ROOT / "tests" / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    return [name for row in rows for name in re.findall(r"`(test_\w+)`", row.split("|")[-2])]


def test_every_test_that_the_readme_names_exists() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*.py"))
    names = _rows()
    assert len(names) > 20
    assert [name for name in names if f"def {name}(" not in sources] == []
