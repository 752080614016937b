"""Directories and versions to export to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aocr.errors import AocrError
from aocr.inference import export
from aocr.inference.graph import RecognitionGraph
from aocr.inference.saved_model import MAX_VERSION
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer
from tests.conftest import World


@pytest.fixture(scope="module")
def recognizer(world: World) -> CheckpointRecognizer:
    return CheckpointRecognizer.load(world.model_dir)


@pytest.mark.slow
def test_a_version_is_not_overwritten(recognizer: CheckpointRecognizer, tmp_path: Path) -> None:
    target = str(tmp_path / "served")
    assert export.export(recognizer, target, "savedmodel", 4) == f"{target}/4"
    assert sorted(path.name for path in (tmp_path / "served").iterdir()) == ["4"]
    with pytest.raises(AocrError, match="--model-version 5"):
        export.export(recognizer, target, "savedmodel", 4)


def test_a_bucket_without_a_folder_is_refused(recognizer: CheckpointRecognizer) -> None:
    for target in ("ram://bucket", "ram://bucket/"):
        with pytest.raises(AocrError, match="a folder; name one in it, such as ram://bucket/exp"):
            export.export(recognizer, target, "savedmodel")


@pytest.mark.parametrize("version", [1 << 63, 1 << 70])
def test_a_version_that_cannot_be_served_is_refused(
        recognizer: CheckpointRecognizer, tmp_path: Path, version: int) -> None:
    with pytest.raises(AocrError, match=f"--model-version {version} .* at most {MAX_VERSION}"):
        export.export(recognizer, str(tmp_path / "served"), "savedmodel", version)
    assert not (tmp_path / "served").exists()


@pytest.mark.slow
def test_a_frozen_graph_beside_a_saved_model_keeps_the_files_of_the_saved_model(
        recognizer: CheckpointRecognizer, tmp_path: Path) -> None:
    both = str(tmp_path / "both")
    export.export(recognizer, both, "savedmodel")
    requests = tmp_path / "both" / "assets.extra" / "tf_serving_warmup_requests"
    before = requests.read_bytes()
    export.export(recognizer, both, "frozengraph")
    assert requests.read_bytes() == before
    graph = recognizer.graph
    other = CheckpointRecognizer(recognizer.source, RecognitionGraph(
        replace(graph.config, max_prediction=3), graph.model))
    with pytest.raises(AocrError, match="other settings"):
        export.export(other, both, "frozengraph")
