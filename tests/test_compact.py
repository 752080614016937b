"""Compact models: reading, warm starts, refusals, and the names of built-in models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aocr.checkpoints import built_in, compact, config_file, loader, warm_start
from aocr.checkpoints.choice import DEFAULT_CHOICE, CheckpointChoice
from aocr.config import ModelConfig
from aocr.errors import AocrError
from aocr.inference.recognizer import Recognizer
from aocr.model import AttentionOCR
from aocr.model.layers import Initializer
from tests.conftest import World

CONFIG = ModelConfig(60, 32, 3, "cab", attn_num_hidden=6, target_embedding_size=4)


@pytest.fixture
def model() -> AttentionOCR:
    network = AttentionOCR(CONFIG, Initializer(5))
    network.decoder.output.bias.assign_add(np.linspace(0.1, 0.7, 6, dtype=np.float32))
    return network


@pytest.fixture
def model_dir(model: AttentionOCR, tmp_path: Path) -> Path:
    compact.save(model, str(tmp_path))
    config_file.save(str(tmp_path), CONFIG)
    return tmp_path


def test_matrices_are_rounded_to_float16_and_vectors_are_kept(
        model: AttentionOCR, model_dir: Path) -> None:
    loaded = loader.load(str(model_dir))
    assert loaded.config == CONFIG
    assert loaded.path == str(model_dir / "weights.npz")
    for before, after in zip(model.variables, loaded.model.variables, strict=True):
        expected = before.numpy()
        if expected.ndim > 1:
            expected = expected.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(after.numpy(), expected)


def test_weights_beyond_the_range_of_float16_are_kept(
        model: AttentionOCR, model_dir: Path) -> None:
    kernel = model.decoder.keys
    kernel.assign_add(np.full(kernel.shape, 1e5, np.float32))
    compact.save(model, str(model_dir))
    np.testing.assert_array_equal(loader.load(str(model_dir)).model.decoder.keys, kernel)


def test_a_recognizer_reads_with_a_compact_model(model_dir: Path, world: World) -> None:
    recognizer = Recognizer.load(model_dir)
    result = recognizer.predict(str(world.images[0]))
    assert recognizer.config == CONFIG
    assert not isinstance(result, list)
    assert 0 <= result.probability <= 1


def test_training_starts_from_a_compact_model_but_not_in_its_directory(
        model: AttentionOCR, model_dir: Path) -> None:
    old, config = warm_start.load(str(model_dir), {"alphabet": "abd"}, DEFAULT_CHOICE)
    new = AttentionOCR(config, Initializer(1))
    warm_start.copy(old, new, config)
    np.testing.assert_array_equal(
        new.decoder.output.bias.numpy()[3:5], model.decoder.output.bias.numpy()[[4, 5]])
    with pytest.raises(AocrError, match="holds a compact model"):
        loader.check_trainable(str(model_dir), resume=True)


@pytest.mark.parametrize("choice", [CheckpointChoice("best"), CheckpointChoice(debias=True)])
def test_a_choice_of_checkpoint_is_refused(model_dir: Path, choice: CheckpointChoice) -> None:
    with pytest.raises(AocrError, match="leave them out"):
        loader.load(str(model_dir), choice=choice)


def _without_a_weight(path: Path) -> None:
    arrays = dict(np.load(path))
    del arrays["decoder/keys"]
    np.savez(path, **arrays)


def _with_another_shape(path: Path) -> None:
    np.savez(path, **{**np.load(path), "decoder/keys": np.zeros([2, 2])})


def _with_objects(path: Path) -> None:
    np.savez(path, **{"decoder/keys": np.array([None], object)})  # type: ignore[arg-type]


@pytest.mark.parametrize(("damage", "message"), [
    (lambda path: path.write_bytes(b"PK\3\4"), "cannot be read"),
    (lambda path: path.write_bytes(path.read_bytes()[:-100]), "cannot be read"),
    (lambda path: path.write_bytes(b""), "cannot be read"),
    (_with_objects, "cannot be read"),
    (_without_a_weight, "for decoder/keys, got nothing"),
    (_with_another_shape, r"for decoder/keys, got shape \[2, 2\]")])
def test_damaged_weights_are_one_line(
        model_dir: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(model_dir / "weights.npz")
    with pytest.raises(AocrError, match=message):
        loader.load(str(model_dir))


def test_a_built_in_model_is_found_by_its_name(
        model_dir: Path, tmp_path_factory: pytest.TempPathFactory,
        monkeypatch: pytest.MonkeyPatch) -> None:
    models = tmp_path_factory.mktemp("models")
    model_dir.rename(models / "small")
    monkeypatch.setattr(built_in, "_MODELS", models)
    monkeypatch.chdir(tmp_path_factory.mktemp("work"))
    assert built_in.names() == ["small"]
    assert loader.load("small").path == str(models / "small" / "weights.npz")
    assert built_in.resolve("./small") == "./small"
    Path("small").mkdir()
    assert built_in.resolve("small") == "small"
