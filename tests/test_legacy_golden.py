"""A trained checkpoint of the original: its logits, texts and probabilities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from aocr.checkpoints import loader
from aocr.checkpoints.choice import CheckpointChoice
from aocr.config import DIGITS_AND_CAPITALS
from aocr.inference.recognizer import Recognizer
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer
from aocr.model import Decoded
from tests import originals, reference
from tests.networks import decode_all

GOLDEN = Path(__file__).parents[2] / "shared" / "original"
IMAGES = GOLDEN.parent / "data"


@pytest.fixture(scope="module")
def golden() -> tuple[list[dict[str, Any]], Decoded, Recognizer]:
    """The rows of the golden file, the decoding of all steps, and the recognizer."""
    if not GOLDEN.is_dir() or not IMAGES.is_dir():
        pytest.skip(f"no model of the original in {GOLDEN}, or no images in {IMAGES}")
    rows = json.loads((GOLDEN / "golden.json").read_text(encoding="utf-8"))
    recognizer = CheckpointRecognizer.load(GOLDEN / "model")
    files = [(IMAGES / row["image"]).read_bytes() for row in rows]
    return rows, decode_all(recognizer.graph.model, files, recognizer.config), recognizer


def test_logits_and_attention_equal_those_of_the_original(
        golden: tuple[list[dict[str, Any]], Decoded, Recognizer]) -> None:
    expected = np.load(GOLDEN / "golden.npz")
    np.testing.assert_allclose(golden[1].logits, expected["logits"], atol=1e-4)
    np.testing.assert_allclose(golden[1].attention, expected["attention"], atol=1e-5)


def test_text_and_probability_equal_those_of_the_original(
        golden: tuple[list[dict[str, Any]], Decoded, Recognizer]) -> None:
    rows, decoded, recognizer = golden
    results = recognizer.predict([IMAGES / row["image"] for row in rows])
    assert isinstance(results, list)
    for row, ids, logits, result in zip(rows, decoded.ids.numpy(), decoded.logits.numpy(),
                                        results, strict=True):
        assert result.text == row["text"] == originals.text(ids, DIGITS_AND_CAPITALS)
        probabilities = reference.softmax(logits.astype(np.float64)).max(-1)
        assert np.prod(probabilities) == pytest.approx(row["probability_all_steps"], abs=1e-5)
        length = [*ids.tolist(), reference.EOS].index(reference.EOS) + 1
        assert result.probability == pytest.approx(np.prod(probabilities[:length]), abs=1e-5)
        assert result.probability >= row["probability_all_steps"] - 1e-6


def test_debias_restores_predictions_that_the_start_value_changed(
        golden: tuple[list[dict[str, Any]], Decoded, Recognizer], tmp_path: Path) -> None:
    """The averages are those that the original would have had at step 200."""
    rows, decoded, recognizer = golden
    reader = tf.train.load_checkpoint(str(GOLDEN / "model" / "model.ckpt-900"))
    values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    share = 0.99**200
    for name in [name for name in values if "/moving_" in name]:
        values[name] = np.float32((1 - share) * values[name] + share * name.endswith("variance"))
    values["Variable"] = np.array(200, np.int32)
    originals.write(tmp_path, values)
    files = [(IMAGES / row["image"]).read_bytes() for row in rows[:8]]
    expected = decoded.ids.numpy()[:8]
    for debias, same in ((False, False), (True, True)):
        model = loader.load(str(tmp_path), choice=CheckpointChoice(debias=debias)).model
        redecoded = decode_all(model, files, recognizer.config)
        assert np.array_equal(redecoded.ids, expected) is same
        assert np.allclose(redecoded.logits, decoded.logits[:8], atol=0.02) is same
