"""LiteRT models give the results of the checkpoint."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from aocr.errors import AocrError
from aocr.inference import export, lite_export
from aocr.inference.exported_model import sample_images
from aocr.inference.graph import RecognitionGraph
from aocr.inference.recognizer import Result
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer
from tests.conftest import Command, World, messages

pytest.importorskip("ai_edge_litert",
                    reason="ai-edge-litert is missing: pip install 'aocr[lite]'")


def test_a_lite_model_gives_the_results_of_the_checkpoint(world: World, tmp_path: Path) -> None:
    loaded = CheckpointRecognizer.load(world.model_dir)
    config = dataclasses.replace(loaded.config, temperature=1.5)
    recognizer = CheckpointRecognizer(loaded.source, RecognitionGraph(config, loaded.graph.model))
    export.export(recognizer, str(tmp_path / "out"), "tflite")
    images = [*map(Path.read_bytes, world.images[:2]), *sample_images(1)]
    expected = recognizer.predict(images, attention=True)
    actual = lite_export.load(str(tmp_path / "out")).predict(images, attention=True)
    assert isinstance(actual, list)
    assert isinstance(expected, list)
    for result, other in zip(actual, expected, strict=True):
        assert (result.text, result.width) == (other.text, other.width)
        assert result.probability == pytest.approx(other.probability, abs=1e-4)
        assert result.attention is not None
        assert other.attention is not None
        np.testing.assert_allclose(result.attention, other.attention, atol=1e-4)
    with pytest.raises(AocrError, match="image too large"):
        lite_export.load(str(tmp_path / "out"), max_pixels=100).predict(images)


def test_a_quantized_lite_model_is_a_quarter_of_the_size(world: World, tmp_path: Path,
                                                         command: Command) -> None:
    code, logged = command("export", tmp_path / "out", "--format", "tflite", "--quantize", "int8",
                           "--calibrate", world.records)
    assert code == 0
    assert ", in int8: " in messages(logged)[-1]
    recognizer = CheckpointRecognizer.load(world.model_dir)
    weights = sum(variable.shape.num_elements() for variable in recognizer.graph.model.variables)
    assert (tmp_path / "out" / "model.tflite").stat().st_size < 0.3 * 4 * weights
    expected, actual = (model.predict(world.images[0]) for model in (
        recognizer, lite_export.load(str(tmp_path / "out"))))
    assert isinstance(actual, Result)
    assert isinstance(expected, Result)
    assert actual.probability == pytest.approx(expected.probability, abs=0.05)


def test_the_missing_package_is_named(world: World, tmp_path: Path,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AocrError, match="needs ai-edge-litert"):
        export.export(CheckpointRecognizer.load(world.model_dir), str(tmp_path / "out"), "tflite")
    assert not (tmp_path / "out").exists()
