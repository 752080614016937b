"""Warm start: training that starts from the weights of another model."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from aocr.checkpoints import built_in, config_file, loader, warm_start
from aocr.checkpoints.choice import DEFAULT_CHOICE
from aocr.checkpoints.warm_start import _for_channels
from aocr.cli.main import main
from aocr.config import DIGITS_AND_CAPITALS, PRINTABLE_ASCII, ModelConfig
from aocr.data import pipeline
from aocr.data.index import build_index
from aocr.errors import AocrError
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer
from aocr.model import AttentionOCR
from aocr.model.layers import BatchNorm, Initializer
from aocr.tokenizer import Tokenizer
from tests import originals, reference
from tests.conftest import World
from tests.originals import OriginalModel

SMALL: dict[str, Any] = {"max_width": 60, "max_height": 32, "max_prediction": 3,
                         "attn_num_hidden": 6, "target_embedding_size": 4}
LIMITS = {name: SMALL[name] for name in ("max_width", "max_height", "max_prediction")}
FLAGS = ["--max-width", "60", "--max-height", "32", "--max-prediction", "3"]
# Axis of the characters in each weight that has one.
CHARACTER_AXES = {"embedding": 0, "output/kernel": 1, "output/bias": 0}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of the original, with batch-norm averages unlike those of drawn words."""
    return originals.write(tmp_path_factory.mktemp("warm_start") / "original",
                           originals.variables(OriginalModel(step=300)))


@pytest.fixture(scope="module")
def current(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of this aocr, with counted batch-norm updates and random averages."""
    model_dir = tmp_path_factory.mktemp("warm_start") / "current"
    config = ModelConfig(**SMALL, alphabet="cab")
    model = AttentionOCR(config, Initializer(5))
    for conv in model.cnn.convs:
        if conv.norm is not None:
            conv.norm.updates.assign(1000)
            conv.norm.moving_mean.assign_add(tf.ones_like(conv.norm.moving_mean))
    content = tf.train.Checkpoint(model=model)
    tf.train.CheckpointManager(content, str(model_dir), 1, checkpoint_name="model.ckpt").save(3)
    config_file.save(str(model_dir), config)
    return model_dir


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, world: World) -> Path:
    """Records of the session's images with shorter labels."""
    root = tmp_path_factory.mktemp("words")
    lines = [f"{path} {word}" for path, word in zip(world.images, "ABCDEFGH", strict=True)]
    (root / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    assert main(["dataset", str(root / "a.txt"), str(root / "a.tfrecords"), "--log-path",
                 str(root / "log")]) == 0
    return root / "a.tfrecords"


def warm_started(model_dir: Path, **given: object
                 ) -> tuple[AttentionOCR, AttentionOCR, AttentionOCR]:
    """Returns the old network, the new one, and the new one before the weights were copied."""
    old, config = warm_start.load(str(model_dir), given, DEFAULT_CHOICE)
    model = AttentionOCR(config, Initializer(1))
    warm_start.copy(old, model, config)
    return old.model, model, AttentionOCR(config, Initializer(1))


def test_the_same_alphabet_keeps_every_weight(current: Path, original: Path, logged: list[str]
                                              ) -> None:
    for model_dir, given, number in ((current, {}, 3), (original, LIMITS, 36)):
        old, new, _ = warm_started(model_dir, **given)
        before, after = reference.collect(old), reference.collect(new)
        assert before.keys() == after.keys()
        for name, value in before.items():
            np.testing.assert_array_equal(after[name], value, name)
        assert f"{number} characters keep their weights, 0 get new ones, 0 are no longer" in (
            logged[-1])
        assert str(model_dir) in logged[-1]


@pytest.mark.parametrize(("source", "alphabet", "counts"), [
    ("current", "bxca", (3, 1, 0)), ("current", "xyz", (0, 3, 3)), ("current", "b", (1, 0, 2)),
    ("original", PRINTABLE_ASCII, (36, 59, 0)), ("original", "ÄZ0", (2, 1, 34))])
def test_shared_characters_keep_their_rows_and_others_start_anew(
        request: pytest.FixtureRequest, logged: list[str], source: str, alphabet: str,
        counts: tuple[int, int, int]) -> None:
    model_dir: Path = request.getfixturevalue(source)
    before = "cab" if source == "current" else DIGITS_AND_CAPITALS
    given = SMALL if source == "current" else LIMITS
    old, new, fresh = map(reference.collect, warm_started(model_dir, **given, alphabet=alphabet))
    for name, value in new.items():
        if name not in CHARACTER_AXES:
            np.testing.assert_array_equal(value, old[name], name)
            continue
        rows, old_rows, fresh_rows = (np.moveaxis(weights[name], CHARACTER_AXES[name], 0)
                                      for weights in (new, old, fresh))
        assert len(rows) == 3 + len(alphabet)
        np.testing.assert_array_equal(rows[:3], old_rows[:3], name)
        for n, character in enumerate(alphabet, start=3):
            expected = (old_rows[before.index(character) + 3] if character in before
                        else fresh_rows[n])
            np.testing.assert_array_equal(rows[n], expected, name)
    kept, added, removed = counts
    assert logged[-1].endswith(f"{kept} characters keep their weights, {added} get new ones, "
                               f"{removed} are no longer used.")


def test_limits_can_be_changed_and_other_settings_are_kept(current: Path, original: Path) -> None:
    given = {"max_width": 90, "oversize": "shrink"}
    _, config = warm_start.load(str(current), given, DEFAULT_CHOICE)
    assert config == ModelConfig(**{**SMALL, "max_width": 90}, alphabet="cab", oversize="shrink")
    _, config = warm_start.load(str(original), LIMITS, DEFAULT_CHOICE)
    assert config == ModelConfig(**SMALL, layout="padded", kernel="bicubic-tf1")
    latin = built_in.resolve("latin")
    assert config_file.load(latin).oversize == "shrink"
    assert warm_start.load(latin, {}, DEFAULT_CHOICE)[1].oversize == "skip"


@pytest.mark.parametrize("source", ["current", "original"])
@pytest.mark.parametrize(("given", "named"), [
    ({"attn_num_hidden": 64}, "--attn-num-hidden 64"), ({"use_gru": True}, "--use-gru"),
    ({"attn_num_layers": 3}, "--attn-num-layers 3"),
    ({"target_embedding_size": 9}, "--target-embedding-size 9")])
def test_other_sizes_are_refused(request: pytest.FixtureRequest, source: str,
                                  given: dict[str, object], named: str) -> None:
    model_dir: Path = request.getfixturevalue(source)
    with pytest.raises(AocrError, match=named) as caught:
        warm_start.load(str(model_dir), given, DEFAULT_CHOICE)
    assert str(model_dir) in str(caught.value)
    assert (source == "original") != (
        "train another model with it, without --init-from" in str(caught.value))


def test_a_model_for_color_computes_what_the_old_one_does_in_gray(current: Path) -> None:
    gray_model, color_model, _ = warm_started(current, color=True)
    colors = np.random.default_rng(0).uniform(-1, 1, (2, 32, 24, 3)).astype(np.float32)
    gray = 0.299 * colors[..., :1] + 0.587 * colors[..., 1:2] + 0.114 * colors[..., 2:]
    features = gray_model.cnn(gray, None, BatchNorm.inference)
    np.testing.assert_allclose(color_model.cnn(colors, None, BatchNorm.inference), features,
                               atol=1e-5 * np.abs(features).max())
    back = _for_channels(color_model.cnn.convs[0].kernel.numpy(), 1)
    np.testing.assert_allclose(back, gray_model.cnn.convs[0].kernel.numpy(), rtol=1e-6)


def test_batch_norm_averages_follow_the_new_data_from_the_first_step(current: Path) -> None:
    _, new, _ = warm_started(current)
    assert [int(conv.norm.updates) for conv in new.cnn.convs if conv.norm is not None] == [0] * 3


@pytest.mark.parametrize("file", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("length", [0, 200, 10**6])
def test_damaged_files_are_a_one_line_error(current: Path, tmp_path: Path, file: str,
                                                length: int) -> None:
    shutil.copytree(current, tmp_path / "copy")
    path = tmp_path / "copy" / f"model.ckpt-3.{file}"
    content = path.read_bytes()
    path.write_bytes(content[:min(length, len(content) - 1)])
    with pytest.raises(AocrError, match=r"cannot read the checkpoint .*model\.ckpt-3") as caught:
        loader.load(str(tmp_path / "copy"))
    assert "\n" not in str(caught.value)


def test_a_flipped_byte_is_an_error(current: Path, tmp_path: Path) -> None:
    shutil.copytree(current, tmp_path / "copy")
    path = tmp_path / "copy" / "model.ckpt-3.data-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(AocrError, match=r"ckpt-3: TensorBundle .*Checksum does not match"):
        loader.load(str(tmp_path / "copy"))


@pytest.mark.parametrize("missing", ["nowhere", "empty"])
def test_init_from_needs_a_model(tmp_path: Path, words: Path, missing: str) -> None:
    (tmp_path / "empty").mkdir()
    log = tmp_path / "log"
    assert main(["train", str(words), "--model-dir", str(tmp_path / "new"), "--init-from",
                 str(tmp_path / missing), "--log-path", str(log)]) == 1
    assert str(tmp_path / missing) in log.read_text(encoding="utf-8")
    assert not (tmp_path / "new").exists()


@dataclass(frozen=True)
class FineTuned:
    """A model trained from a model of the original.

    Attributes:
        model_dir: Its model directory.
        lines: What training logged.
        original_unchanged: Whether the directory of the original is as it was.
    """

    model_dir: Path
    lines: list[str]
    original_unchanged: bool


@pytest.fixture(scope="module")
def tuned(original: Path, words: Path, tmp_path_factory: pytest.TempPathFactory) -> FineTuned:
    """Trains for twelve steps on the complete dataset as one batch."""
    root = tmp_path_factory.mktemp("tuned")
    before = originals.hashes(original)
    assert main(["train", str(words), "--model-dir", str(root / "new"), "--init-from",
                 str(original), *FLAGS, "--optimizer", "adadelta", "--initial-learning-rate",
                 "0.01", "--max-steps", "12", "--log-path", str(root / "log")]) == 0
    lines = (root / "log").read_text(encoding="utf-8").splitlines()
    return FineTuned(root / "new", lines, originals.hashes(original) == before)


@pytest.mark.slow
def test_training_from_an_original_writes_a_directory_of_this_aocr(tuned: FineTuned, world: World,
                                                              tmp_path: Path) -> None:
    assert tuned.original_unchanged
    assert sum("is a model of the original aocr" in line for line in tuned.lines) == 1
    assert sum("contain their start value" in line for line in tuned.lines) == 1
    assert sum("36 characters keep their weights" in line for line in tuned.lines) == 1
    config = json.loads((tuned.model_dir / "config.json").read_text(encoding="utf-8"))["model"]
    assert (config["layout"], config["kernel"], config["alpha"]) == (
        "padded", "bicubic-tf1", "composite")
    log = tmp_path / "log"
    assert main(["predict", str(world.images[7]), "--model-dir", str(tuned.model_dir),
                 "--log-path", str(log)]) == 0
    assert "Result: OK." in log.read_text(encoding="utf-8")


@pytest.mark.slow
def test_resumed_training_ignores_init_from(tuned: FineTuned, words: Path, tmp_path: Path) -> None:
    shutil.copytree(tuned.model_dir, tmp_path / "new")
    log = tmp_path / "log"
    assert main(["train", str(words), "--model-dir", str(tmp_path / "new"), "--init-from",
                 str(tmp_path / "nowhere"), "--max-steps", "13", "--log-path", str(log)]) == 0
    text = log.read_text(encoding="utf-8")
    assert "--init-from: not used, as" in text
    assert "Resuming at step 12" in text
    assert "keep their weights" not in text


@pytest.mark.slow
def test_saved_statistics_are_those_of_the_new_data_after_a_few_steps(
        tuned: FineTuned, words: Path, original: Path) -> None:
    """The averages of the old model have no weight any more."""
    graph = CheckpointRecognizer.load(tuned.model_dir).graph
    model, config = graph.model, graph.config
    tokenizer = Tokenizer(config.alphabet)
    index = build_index([str(words)], config, tokenizer)
    batch = next(iter(pipeline.make_pipeline(index, [np.arange(len(index))], tokenizer, config)))
    norms = [conv.norm for conv in model.cnn.convs if conv.norm is not None]
    saved = [norm.moving_variance.numpy() for norm in norms]
    for norm in norms:
        norm.updates.assign(0)  # the next batch's statistics become the averages
    inside = tf.sequence_mask(batch.widths, batch.images.shape[2])
    model.cnn(batch.images, inside, BatchNorm.training)
    before = [conv.norm.moving_variance.numpy() for conv in loader.load(
        str(original), LIMITS).model.cnn.convs if conv.norm is not None]
    for new, norm, old in zip(saved, norms, before, strict=True):
        variance = norm.moving_variance.numpy()
        assert np.median(np.abs(np.log(new / variance))) < 0.1
        assert np.median(np.abs(np.log(old / variance))) > 0.5
