"""Properties that only a trained model shows: drawn words, a few minutes on two cores."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from aocr.cli.main import main
from aocr.data import pipeline
from aocr.data.index import build_index, read_records
from aocr.evaluation import attention
from aocr.images import preprocessing
from aocr.inference.graph import RecognitionGraph
from aocr.inference.recognizer import Recognizer
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer
from aocr.model.layers import BatchNorm
from tests import draw_script
from tests.conftest import World

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
STEPS = 50


@dataclass(frozen=True)
class Trained:
    """A model of drawn digits, and drawn digits that it was not trained on."""

    model_dir: Path
    testing: Path
    images: list[Path]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    root = tmp_path_factory.mktemp("trained")
    assert draw_script.load().main([str(root), "--count", "900", "--test-count", "60", "--charset",
                      "0123456789", "--min-length", "2", "--max-length", "3"]) == 0
    log = ["--log-path", str(root / "log")]
    for name in ("training", "testing"):
        assert main(["dataset", str(root / f"annotations-{name}.txt"),
                     str(root / f"{name}.tfrecords"), *log]) == 0
    assert main(["train", str(root / "training.tfrecords"), "--model-dir", str(root / "model"),
                 "--max-width", "250", "--max-height", "120", "--charset", "auto",
                 "--batch-size", "32", "--max-steps", str(STEPS), *log]) == 0
    lines = (root / "annotations-testing.txt").read_text(encoding="utf-8").splitlines()
    images = [Path(line.split(" ", 1)[0]) for line in lines]
    return Trained(root / "model", root / "testing.tfrecords", images)


def test_unseen_words_are_read(trained: Trained, tmp_path: Path) -> None:
    assert main(["test", str(trained.testing), "--model-dir", str(trained.model_dir), "--json",
                 str(tmp_path / "result.json"), "--log-path", str(tmp_path / "log")]) == 0
    summary = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["summary"]
    assert summary["images"] == 60
    assert summary["word_accuracy"] >= 0.8


def test_attention_moves_from_left_to_right_over_the_word(trained: Trained) -> None:
    results = Recognizer.load(trained.model_dir).predict(trained.images, attention=True)
    assert isinstance(results, list)
    rising = spread = 0
    for result in results:
        assert result.attention is not None
        centers = attention.centers(result.attention, result.width)
        rising += bool(np.all(np.diff(centers) > 0))
        spread += bool(centers[-1] - centers[0] > 0.3)
    # Attention is learned, not built in: nearly all words must show this, but not every one.
    assert rising >= 0.9 * len(results)
    assert spread >= 0.9 * len(results)


def test_saved_statistics_read_as_well_as_batch_statistics(trained: Trained) -> None:
    restored = CheckpointRecognizer.load(trained.model_dir)
    graph = restored.graph
    index = build_index([str(trained.testing)], graph.config, graph.tokenizer)
    plan = [np.arange(len(index))]
    batch = next(iter(pipeline.make_pipeline(index, plan, graph.tokenizer, graph.config)))
    labels = [record.label for record in read_records(index, batch.records.numpy())]
    saved = [result.text for result, _ in restored.score(batch)]
    by_batch = _read_with_batch_statistics(graph, batch.images, batch.widths)

    def word_accuracy(texts: list[str]) -> float:
        return float(np.mean([text == label for text, label in zip(texts, labels, strict=True)]))

    assert abs(word_accuracy(saved) - word_accuracy(by_batch)) <= 0.05


def test_an_image_has_the_same_logits_alone_and_in_a_mixed_batch(trained: Trained) -> None:
    graph = CheckpointRecognizer.load(trained.model_dir).graph
    model = graph.model
    encoded = tf.constant([path.read_bytes() for path in trained.images[:12]])
    wide = dataclasses.replace(graph.config, max_height=40)  # no image is squeezed
    images, widths = preprocessing.preprocess_batch(encoded, wide)
    assert len(set(widths.numpy().tolist())) > 3
    batched = model.greedy(model.encode(images, widths), until_eos=False)
    for n in range(12):
        alone = model.greedy(
            model.encode(images[n:n + 1, :, :int(widths[n])], widths[n:n + 1]),
            until_eos=False)
        np.testing.assert_allclose(alone.logits[0], batched.logits[n], atol=1e-4)


def test_the_quickstart_runs_with_few_images(tmp_path: Path, world: World) -> None:
    del world  # its fixture has set TensorFlow up for this machine
    environment = {**os.environ,
                   "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    completed = subprocess.run(
        ["sh", str(ROOT / "datasets" / "quickstart.sh"), "quick", "120", "4"], cwd=tmp_path,
        env=environment, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    drawn, *predictions = completed.stdout.splitlines()
    assert "200 to test on" in drawn
    assert len(predictions) == 5
    assert (tmp_path / "quick" / "exported" / "1" / "saved_model.pb").exists()
    summary = json.loads((tmp_path / "quick" / "results.json").read_text())["summary"]
    assert summary["images"] + summary["skipped"] == 200


def _read_with_batch_statistics(graph: RecognitionGraph, images: tf.Tensor, widths: tf.Tensor
                                ) -> list[str]:
    """Reads with the statistics of the batch, which changes the saved ones of this copy."""
    model = graph.model
    mask = tf.sequence_mask(widths, images.shape[2])
    features, lengths = model.cnn(images, mask, BatchNorm.training), -(-widths // 4)
    values, last = model.encoder(features, lengths)
    memory = model.decoder.attend_over(values, lengths, last)
    prediction = graph._predict(graph.decode(memory), widths)
    return [text.decode() for text in prediction.output.numpy()]
