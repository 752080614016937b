"""Rows about `aocr test`, `aocr predict` and exported models."""

from __future__ import annotations

import dataclasses
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from aocr.checkpoints import config_file, saver
from aocr.config import PRECISIONS, ModelConfig, TrainConfig
from aocr.data import example
from aocr.data.index import build_index, read_records
from aocr.evaluation import evaluate
from aocr.images import preprocessing
from aocr.inference import export
from aocr.inference.graph import RecognitionGraph
from aocr.inference.recognizer import CheckpointRecognizer
from aocr.model import AttentionOCR
from aocr.runtime.distributed import Cluster
from aocr.tokenizer import Tokenizer
from aocr.training.state import TrainingState
from tests.benchmarks import images
from tests.benchmarks.bare import Bare
from tests.benchmarks.timing import Row, Times, interleaved, ratio

_MIXED = 32
_TESTED = 975


def recognizer(config: ModelConfig, precision: str = PRECISIONS[0]) -> CheckpointRecognizer:
    """A network at its start values: it never meets EOS, and decodes as long as may be."""
    graph = RecognitionGraph(config, AttentionOCR(config), precision=precision)
    return CheckpointRecognizer("start values", graph)


def _ending(config: ModelConfig, found: Sequence[example.Record]) -> ModelConfig:
    """Settings under which decoding ends with the longest text, as that of a trained model does."""
    longest = max(len(record.label) for record in found)
    return dataclasses.replace(config, max_prediction=longest - 1)


def in_batches(rounds: int = 3) -> Row:
    """`aocr test` in its batches, against itself one image at a time."""
    return batches_against_one(rounds, PRECISIONS[0], 4.0)


def batches_against_one(rounds: int, precision: str, goal: float) -> Row:
    """The same, the batches in another precision; one at a time is float32 always."""
    config = images.DIGITS.config
    with images.temporary_directory() as folder:
        path = str(images.DIGITS.records("train", Path(folder), _TESTED))
        slow, fast = recognizer(config), recognizer(config, precision)

        alone = Cluster(tf.distribute.get_strategy())

        def run(model: CheckpointRecognizer, batch_size: int) -> None:
            evaluate.evaluate([path], model, evaluate.EvaluationOptions(batch_size), alone)

        times = interleaved({"one": lambda: run(slow, 1), "batches": lambda: run(fast, 65)}, rounds)
    found = ratio(times["one"], times["batches"])
    return Row(f"aocr test, {precision}: batches / one at a time, images/s", found["by_clock"],
               goal, False, {**found, **{name: each.to_json() for name, each in times.items()}})


def one(rounds: int = 60) -> Row:
    """`Recognizer.predict` of one image, against the bare stack on it."""
    config = images.DIGITS.config
    with images.temporary_directory() as folder:
        path = str(images.DIGITS.records("test", Path(folder), rounds))
        index = build_index([path], config, Tokenizer(config.alphabet))
        chosen = list(read_records(index, range(len(index))))
    files = [record.image for record in chosen]
    model, stack = recognizer(_ending(config, chosen)), Bare()
    predict, bare = Times(), Times()
    for n, file in enumerate([*files[:5], *files]):
        pixels = preprocessing.preprocess(tf.constant(file), config)[None]
        for times, call in ((predict, lambda file=file: model.predict(file)),
                            (bare, lambda pixels=pixels: stack.forward(pixels))):
            (times if n >= 5 else Times()).take(call)
    found = ratio(predict, bare)
    return Row("one image, warm predict / bare CNN", found["by_clock"], 1.8, True,
               {**found, "predict": predict.to_json(), "bare": bare.to_json()})


def exported(rounds: int = 9) -> Row:
    """An exported SavedModel on 32 images of mixed widths, against the bare stack on the same."""
    config = images.WORDS.config
    with images.temporary_directory() as folder:
        path = str(images.WORDS.records("test", Path(folder), _MIXED))
        index = build_index([path], config, Tokenizer(config.alphabet))
        chosen = list(read_records(index, range(len(index))))
        model = recognizer(_ending(config, chosen))
        target = export.export(model, f"{folder}/exported", "savedmodel")
        read = tf.saved_model.load(target).signatures["serving_default"]
        encoded = tf.constant([record.image for record in chosen])
        pixels, widths = preprocessing.preprocess_batch(encoded, config)
        stack = Bare()
        times = interleaved({
            "bare": lambda: stack.forward(pixels),
            "exported": lambda: read(input=encoded)["output"].numpy()}, rounds)
    ratios = ratio(times["bare"], times["exported"])
    return Row("exported, 32 images of mixed widths / bare CNN, images/s", ratios["by_clock"],
               0.8, False, {**ratios, "widths": sorted(widths.numpy().tolist()),
                            **{name: each.to_json() for name, each in times.items()}})


def cold(rounds: int = 5) -> Row:
    """`aocr predict` of one image from the start of the process, against importing TensorFlow."""
    config = images.DIGITS.config
    with images.temporary_directory() as name:
        folder = Path(name)
        model_dir = folder / "model"
        model_dir.mkdir()
        config_file.save(str(model_dir), config)
        state = TrainingState(config, TrainConfig(), Cluster(tf.distribute.get_strategy()))
        saver.CheckpointSaver(state.saved(), str(model_dir), config, 1).save()
        path = images.DIGITS.annotations("test", folder)
        file = path.parent / path.read_text(encoding="utf-8").split()[0]
        predict = [sys.executable, "-m", "aocr", "predict", str(file), "--model-dir",
                   str(model_dir), "--log-path", str(folder / "log")]
        bare = [sys.executable, "-c", "import tensorflow"]
        times = {"predict": Times(), "import": Times()}
        for n in range(rounds + 1):
            for each, command in (("predict", predict), ("import", bare)):
                (times[each] if n else Times()).add(*_run(command))
    found = ratio(times["predict"], times["import"])
    return Row("cold predict / import tensorflow", found["by_clock"], 1.6, True,
               {**found, **{name: each.to_json() for name, each in times.items()}})


def _run(command: list[str]) -> tuple[float, float]:
    """Seconds of a process by the clock, and of the processor."""
    def used() -> float:
        usage: Any = resource.getrusage(resource.RUSAGE_CHILDREN)
        return float(usage.ru_utime + usage.ru_stime)

    wall, cpu = time.perf_counter(), used()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - wall, used() - cpu


def labels(rounds: int = 3) -> Row:
    """Building the graphs of training and reading for labels of 600 characters and of 8."""
    def build(longest: int) -> int:
        config = ModelConfig(max_prediction=longest)
        model = RecognitionGraph(config, AttentionOCR(config))
        read = tf.function(model.read, autograph=False, input_signature=[
            tf.TensorSpec([None], tf.string)])
        graph = read.get_concrete_function().graph.as_graph_def()
        return int(graph.ByteSize())

    times = interleaved({"long": lambda: build(600), "short": lambda: build(8)}, rounds)
    found = ratio(times["long"], times["short"])
    size = build(600) / build(8)
    return Row("graph for 600 characters / for 8", max(found["by_processor"], size), 1.2, True,
               {**found, "size": size, **{name: each.to_json() for name, each in times.items()}})

