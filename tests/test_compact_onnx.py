"""Compact models run in ONNX Runtime with the results of TensorFlow."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import aocr
from aocr.checkpoints import built_in, compact, config_file
from aocr.checkpoints.choice import CheckpointChoice
from aocr.config import ModelConfig
from aocr.errors import AocrError
from aocr.inference import recognizer as recognizers
from aocr.inference.onnx_recognizer import CompactRecognizer
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer
from aocr.model import AttentionOCR
from datasets import pack
from tests.test_built_in import WORDS, drawn
from tests.test_onnx import assert_same, noise_images

LATIN = Path(built_in.resolve("latin"))
CONFIG = ModelConfig(max_width=200, max_height=40, color=True, use_gru=True, attn_num_layers=1,
                     attn_num_hidden=16, alphabet="ABCDEFG", temperature=1.5)


def linked(directory: Path, *names: str) -> Path:
    """Links files of the built-in model into a directory, which it returns."""
    for name in names:
        (directory / name).symlink_to(LATIN / name)
    return directory


@pytest.mark.slow
def test_a_packed_model_gives_the_results_of_tensorflow(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compact.save(AttentionOCR(CONFIG), str(tmp_path))
    config_file.save(str(tmp_path), CONFIG)
    target = tmp_path / "packed"
    monkeypatch.setattr(sys, "argv", ["pack", str(tmp_path), str(target), "--trained-on", "none"])
    pack.main()
    actual = aocr.Recognizer.load(target)
    expected = CheckpointRecognizer.load(target)
    assert isinstance(actual, CompactRecognizer)
    assert (actual.source, actual.config) == (expected.source, expected.config)
    images = noise_images(3)
    assert_same(actual.predict(images, attention=True), expected.predict(images, attention=True))


def test_packing_names_missing_packages_before_it_writes(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
        ) -> None:
    target = tmp_path / "packed"
    monkeypatch.setattr(sys, "argv", ["pack", str(LATIN), str(target), "--trained-on", "none"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SystemExit) as stop:
        pack.main()
    assert stop.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "needs tf2onnx, onnx, onnxruntime" in line
    assert not target.exists()


def test_weights_that_do_not_fit_the_graph_are_one_line(tmp_path: Path) -> None:
    linked(tmp_path, "config.json", "graph.onnx")
    arrays = dict(np.load(LATIN / "weights.npz"))
    keys = arrays.pop("decoder/keys")
    for changed in ({}, {"decoder/keys": keys[1:]}, {"decoder/keys": keys, "other": keys}):
        np.savez(tmp_path / "weights.npz", **arrays, **changed)
        with pytest.raises(AocrError, match=r"graph.onnx with weights.npz is not a model that"):
            aocr.Recognizer.load(tmp_path)
    (tmp_path / "weights.npz").write_bytes(b"damaged")
    with pytest.raises(AocrError, match="weights.npz cannot be read"):
        aocr.Recognizer.load(tmp_path)


def test_settings_and_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(AocrError, match="--max-width 10 contradicts"):
        aocr.Recognizer.load(max_width=10)
    with pytest.raises(AocrError, match="leave them out"):
        aocr.Recognizer.load("latin", CheckpointChoice("best"))


def test_the_graph_of_the_built_in_model_fits_its_weights() -> None:
    import onnx

    graph = onnx.load(LATIN / "graph.onnx", load_external_data=False).graph
    expected = {name: array.shape for name, array in compact.read(str(LATIN)).items()
                if array.dtype.kind == "f"}
    external = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer
                if tensor.data_location == onnx.TensorProto.EXTERNAL}
    assert external == {**expected, "temperature": ()}


def test_the_built_in_model_gives_the_results_of_tensorflow_at_any_temperature(
        tmp_path: Path) -> None:
    linked(tmp_path, "graph.onnx", "weights.npz")
    content = json.loads((LATIN / "config.json").read_text("utf-8"))
    content["model"]["temperature"] = 1.7
    (tmp_path / "config.json").write_text(json.dumps(content))
    images = [*map(drawn, WORDS), *noise_images(1)]
    actual = aocr.Recognizer.load(tmp_path)
    assert isinstance(actual, CompactRecognizer)
    assert_same(actual.predict(images, attention=True),
                CheckpointRecognizer.load(tmp_path).predict(images, attention=True))


def predict_from_nothing(directory: Path, *statements: str) -> subprocess.CompletedProcess[str]:
    """Runs `aocr predict hello.png` in an empty directory, after some statements of Python."""
    drawn("Hello").save(directory / "hello.png")
    code = ["import sys", *statements, "from aocr.cli.main import main",
            "sys.exit(main(['predict', 'hello.png', '--format', 'tsv']))"]
    return subprocess.run([sys.executable, "-X", "importtime", "-c", "\n".join(code)],
                          cwd=directory, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


def test_predict_from_nothing_does_not_import_tensorflow(tmp_path: Path) -> None:
    process = predict_from_nothing(tmp_path)
    assert process.returncode == 0
    assert process.stdout.endswith("\tHello\n")
    assert "onnxruntime" in process.stderr
    assert "tensorflow" not in process.stderr


def test_predict_from_nothing_reads_the_same_without_onnx_runtime(tmp_path: Path) -> None:
    process = predict_from_nothing(tmp_path, "sys.modules['onnxruntime'] = None")
    assert process.returncode == 0
    expected = aocr.Recognizer.load().predict(tmp_path / "hello.png")
    assert isinstance(expected, aocr.Result)
    _, probability, text = process.stdout.rstrip("\n").split("\t")
    assert text == expected.text
    assert float(probability) == pytest.approx(expected.probability, abs=1e-4)
    assert "tensorflow" in process.stderr


def test_tensorflow_runs_what_the_graph_cannot() -> None:
    assert not recognizers.needs_tensorflow("latin", "float32", {"beam": None, "max_width": 1})
    assert recognizers.needs_tensorflow("latin", "mixed_bfloat16", {})
    assert recognizers.needs_tensorflow("latin", "float32", {}, gpu=True)
    for options in ({"pattern": "a"}, {"lexicon": "words.txt"}, {"beam": 2}, {"n_best": 1}):
        assert recognizers.needs_tensorflow("latin", "float32", options)
    assert recognizers.needs_tensorflow("gs://bucket/model", "float32", {})


def test_a_model_directory_without_a_graph_needs_tensorflow(tmp_path: Path) -> None:
    model_dir = linked(tmp_path, "config.json", "weights.npz")
    assert recognizers.needs_tensorflow(str(model_dir), "float32", {})
