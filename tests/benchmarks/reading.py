"""Benchmarks of `aocr test`, `aocr predict` and exported models."""

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
from aocr.config import FLOAT32, ModelConfig, TrainConfig
from aocr.data import example
from aocr.data.index import build_index, read_records
from aocr.evaluation import evaluate
from aocr.images import preprocessing
from aocr.inference import export
from aocr.inference.graph import RecognitionGraph
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer
from aocr.model import AttentionOCR
from aocr.runtime.distributed import Cluster
from aocr.tokenizer import Tokenizer
from aocr.training.state import TrainingState
from tests.benchmarks import images
from tests.benchmarks.bare import Bare
from tests.benchmarks.timing import Row, Times, interleaved, ratio

_MIXED_IMAGES = 32
_TEST_IMAGES = 975


def recognizer(config: ModelConfig, precision: str = FLOAT32) -> CheckpointRecognizer:
    """Returns an untrained network, which never predicts EOS and decodes all steps."""
    graph = RecognitionGraph(config, AttentionOCR(config), precision=precision)
    return CheckpointRecognizer("start values", graph)


def _with_decode_steps_of(records: Sequence[example.Record], config: ModelConfig) -> ModelConfig:
    """Returns settings that limit decoding to the longest label, as EOS does in a trained model."""
    longest = max(len(record.label) for record in records)
    return dataclasses.replace(config, max_prediction=longest - 1)


def in_batches(rounds: int = 3) -> Row:
    """Compares `aocr test` in batches with `aocr test` one image at a time."""
    return batches_against_one(rounds, FLOAT32, 4.0)


def batches_against_one(rounds: int, precision: str, goal: float) -> Row:
    """Like `in_batches`, with batches in any precision; one at a time is always float32."""
    config = images.DIGITS.config
    with images.temporary_directory() as directory:
        path = str(images.DIGITS.records("train", Path(directory), _TEST_IMAGES))
        single, batched = recognizer(config), recognizer(config, precision)
        cluster = Cluster(tf.distribute.get_strategy())

        def run(model: CheckpointRecognizer, batch_size: int) -> None:
            evaluate.evaluate([path], model, evaluate.EvaluationOptions(batch_size), cluster)

        times = interleaved({"one": lambda: run(single, 1),
                             "batches": lambda: run(batched, 65)}, rounds)
    ratios = ratio(times["one"], times["batches"])
    return Row(f"aocr test, {precision}: batches / one at a time, images/s", ratios["by_clock"],
               goal, False, {**ratios, **{name: value.to_json() for name, value in times.items()}})


def one(rounds: int = 60) -> Row:
    """Compares `Recognizer.predict` of one image with the bare CNN."""
    config = images.DIGITS.config
    with images.temporary_directory() as directory:
        path = str(images.DIGITS.records("test", Path(directory), rounds))
        index = build_index([path], config, Tokenizer(config.alphabet))
        records = list(read_records(index, range(len(index))))
    files = [record.image for record in records]
    model, stack = recognizer(_with_decode_steps_of(records, config)), Bare()
    predict, bare = Times(), Times()
    for n, file in enumerate([*files[:5], *files]):
        pixels = preprocessing.preprocess(tf.constant(file), config)[None]
        for times, call in ((predict, lambda file=file: model.predict(file)),
                            (bare, lambda pixels=pixels: stack.forward(pixels))):
            (times if n >= 5 else Times()).take(call)
    ratios = ratio(predict, bare)
    return Row("one image, warm predict / bare CNN", ratios["by_clock"], 1.8, True,
               {**ratios, "predict": predict.to_json(), "bare": bare.to_json()})


def exported(rounds: int = 9) -> Row:
    """Compares an exported SavedModel with the bare CNN on 32 images of mixed widths."""
    config = images.WORDS.config
    with images.temporary_directory() as directory:
        path = str(images.WORDS.records("test", Path(directory), _MIXED_IMAGES))
        index = build_index([path], config, Tokenizer(config.alphabet))
        records = list(read_records(index, range(len(index))))
        model = recognizer(_with_decode_steps_of(records, config))
        target = export.export(model, f"{directory}/exported", "savedmodel")
        read = tf.saved_model.load(target).signatures["serving_default"]
        encoded = tf.constant([record.image for record in records])
        pixels, widths = preprocessing.preprocess_batch(encoded, config)
        stack = Bare()
        times = interleaved({
            "bare": lambda: stack.forward(pixels),
            "exported": lambda: read(input=encoded)["output"].numpy()}, rounds)
    ratios = ratio(times["bare"], times["exported"])
    return Row("exported, 32 images of mixed widths / bare CNN, images/s", ratios["by_clock"],
               0.8, False, {**ratios, "widths": sorted(widths.numpy().tolist()),
                            **{name: value.to_json() for name, value in times.items()}})


def cold(rounds: int = 5) -> Row:
    """Compares `aocr predict` of one image, as a new process, with importing TensorFlow."""
    config = images.DIGITS.config
    with images.temporary_directory() as name:
        directory = Path(name)
        model_dir = directory / "model"
        model_dir.mkdir()
        config_file.save(str(model_dir), config)
        state = TrainingState(config, TrainConfig(), Cluster(tf.distribute.get_strategy()))
        saver.CheckpointSaver(state.saved(), str(model_dir), config, 1).save()
        path = images.DIGITS.annotations("test", directory)
        file = path.parent / path.read_text(encoding="utf-8").split()[0]
        predict = [sys.executable, "-m", "aocr", "predict", str(file), "--model-dir",
                   str(model_dir), "--log-path", str(directory / "log")]
        bare = [sys.executable, "-c", "import tensorflow"]
        times = {"predict": Times(), "import": Times()}
        for n in range(rounds + 1):
            for key, command in (("predict", predict), ("import", bare)):
                (times[key] if n else Times()).add(*_run(command))
    ratios = ratio(times["predict"], times["import"])
    return Row("cold predict / import tensorflow", ratios["by_clock"], 1.6, True,
               {**ratios, **{name: value.to_json() for name, value in times.items()}})


def _run(command: list[str]) -> tuple[float, float]:
    """Runs a command; returns its wall time and its CPU time in seconds."""
    def used() -> float:
        usage: Any = resource.getrusage(resource.RUSAGE_CHILDREN)
        return float(usage.ru_utime + usage.ru_stime)

    wall, cpu = time.perf_counter(), used()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - wall, used() - cpu


def labels(rounds: int = 3) -> Row:
    """Compares building the recognition graph for labels of 600 characters and of 8."""
    def build(max_prediction: int) -> int:
        config = ModelConfig(max_prediction=max_prediction)
        recognition = RecognitionGraph(config, AttentionOCR(config))
        read = tf.function(recognition.read, autograph=False, input_signature=[
            tf.TensorSpec([None], tf.string)])
        graph = read.get_concrete_function().graph.as_graph_def()
        return int(graph.ByteSize())

    times = interleaved({"long": lambda: build(600), "short": lambda: build(8)}, rounds)
    ratios = ratio(times["long"], times["short"])
    size = build(600) / build(8)
    return Row("graph for 600 characters / for 8", max(ratios["by_processor"], size), 1.2, True,
               {**ratios, "size": size, **{name: value.to_json() for name, value in times.items()}})

