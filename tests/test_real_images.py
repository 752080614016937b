"""Tests on real labeled images, if they exist beside the checkout; the project has none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from aocr.cli.main import main
from aocr.config import ModelConfig
from aocr.data import stats, writer
from aocr.data.index import build_index, read_records
from aocr.images import header_ops
from aocr.tokenizer import Tokenizer

DATA = Path(__file__).parents[2] / "shared" / "data"
SETS = ("captcha-digits", "captcha-text", "scene-words", "receipt-numbers", "receipt-lines",
        "fraktur-lines")
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real images in {DATA}")


def lines(name: str, part: str) -> list[str]:
    text = (DATA / name / f"annotations-{part}.txt").read_text(encoding="utf-8")
    return text.splitlines()


@pytest.fixture(scope="module", params=SETS)
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
            ) -> tuple[str, Path, stats.DatasetStats]:
    """Writes the records of a set's test part; gives its name, the file and the statistics."""
    name = request.param
    output = tmp_path_factory.mktemp("real") / f"{name}.tfrecords"
    summary = writer.write_dataset(str(DATA / name / "annotations-test.txt"), str(output),
                                   writer.DatasetOptions(force_uppercase=name != "fraktur-lines"))
    return name, output, summary


def test_every_line_becomes_a_record_with_the_bytes_of_the_file(
        dataset: tuple[str, Path, stats.DatasetStats]) -> None:
    name, output, summary = dataset
    expected = lines(name, "test")
    assert (summary.pairs, summary.skipped.total()) == (len(expected), 0)
    proposal = summary.sizes.propose()
    config = ModelConfig(max_width=proposal.max_width, max_height=proposal.max_height,
                         max_prediction=len(summary.longest),
                         alphabet=stats.dataset_alphabet([str(output)]))
    index = build_index([str(output)], config, Tokenizer(config.alphabet))
    assert (len(index), index.skipped) == (len(expected), [])
    for line, record in zip(expected, read_records(index, range(len(index))), strict=True):
        path, label = line.split(" ", 1)
        assert record.image == (DATA / name / path).read_bytes()
        assert record.label == (label if name == "fraktur-lines" else label.upper())


def test_header_ops_give_the_sizes_that_pillow_gives(
        dataset: tuple[str, Path, stats.DatasetStats]) -> None:
    name = dataset[0]
    paths = [DATA / name / line.split(" ", 1)[0] for line in lines(name, "test")]
    heights, widths = header_ops.sizes(tf.constant([path.read_bytes() for path in paths]))
    for path, width, height in zip(paths, widths.numpy(), heights.numpy(), strict=True):
        with Image.open(path) as image:
            assert image.size == (width, height)


def test_every_record_is_either_used_or_skipped_by_default(
        dataset: tuple[str, Path, stats.DatasetStats]) -> None:
    name, output, _ = dataset
    index = build_index([str(output)], ModelConfig(), Tokenizer(ModelConfig().alphabet))
    paths = [line.split(" ", 1)[0] for line in lines(name, "test")]
    wide = [Image.open(DATA / name / path).size[0] > 160 for path in paths]
    assert len(index) + len(index.skipped) == len(paths)
    reasons = [skip.reason for skip in index.skipped]
    assert reasons.count("image too wide") == sum(wide)
    numbers = {skip.record for skip in index.skipped} | set(index.number.tolist())
    assert numbers == set(range(1, len(paths) + 1))
    assert np.all(np.diff(index.offset) > 0)


@pytest.mark.slow
def test_all_commands_run_on_real_lines(tmp_path: Path) -> None:
    name = "receipt-lines"
    annotations = lines(name, "test")[:6]
    (tmp_path / "lines.txt").write_text(
        "\n".join(f"{DATA / name}/{line}" for line in annotations), encoding="utf-8")
    log = ["--log-path", str(tmp_path / "log")]
    model = ["--model-dir", str(tmp_path / "model")]
    records_file = str(tmp_path / "lines.tfrecords")
    assert main(["dataset", str(tmp_path / "lines.txt"), records_file, *log]) == 0
    assert main(["train", records_file, *model, "--max-width", "1440", "--max-height", "200",
                 "--max-prediction", "32", "--charset", "auto", "--max-steps", "1", *log]) == 0
    assert main(["test", records_file, *model, "--json", str(tmp_path / "r.json"), *log]) == 0
    summary = json.loads((tmp_path / "r.json").read_text())["summary"]
    assert (summary["images"], summary["skipped"]) == (6, 0)
    assert main(["export", str(tmp_path / "exported"), *model, *log]) == 0
    assert main(["predict", str(DATA / name / annotations[0].split(" ", 1)[0]), "--model-dir",
                 str(tmp_path / "exported"), *log]) == 0
