"""Rows about `aocr dataset`, and about costs that must not grow with the size of the dataset."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from aocr.config import ModelConfig, TrainConfig
from aocr.data import example, writer
from aocr.data.example import Record
from aocr.evaluation import evaluate
from aocr.runtime.distributed import Cluster
from aocr.training import start, train
from tests import drawing
from tests.benchmarks import images, machine
from tests.benchmarks.reading import recognizer
from tests.benchmarks.timing import Row, interleaved, ratio

_SIZES = (1_000, 10_000, 100_000)
_STEPS = 100
_TINY = ModelConfig(8, 32, 2, "AB")


def one_job(rounds: int = 5) -> Row:
    """Compares `aocr dataset` with a plain loop that reads the files and writes the records."""
    return _jobs(1, 0.7, rounds)


def two_jobs(rounds: int = 5) -> Row:
    """Compares `aocr dataset --jobs 2` with the same loop."""
    return _jobs(2, 1.2, rounds)


def _jobs(jobs: int, goal: float, rounds: int) -> Row:
    with images.temporary_directory() as name:
        directory = Path(name)
        annotations = images.DIGITS.annotations("train", directory)
        options = writer.DatasetOptions(force_uppercase=False, jobs=jobs, verify=False)
        times = interleaved({
            "loop": lambda: _plain_loop(annotations, directory / "loop.tfrecords"),
            "dataset": lambda: writer.write_dataset(
                str(annotations), str(directory / "dataset.tfrecords"), options)}, rounds)
    ratios = ratio(times["loop"], times["dataset"])
    return Row(f"aocr dataset --jobs {jobs} / plain loop, images/s", ratios["by_clock"], goal,
               False, {**ratios, **{name: time.to_json() for name, time in times.items()}})


def _plain_loop(annotations: Path, output: Path) -> None:
    with tf.io.TFRecordWriter(str(output)) as writer:
        for line in annotations.read_text(encoding="utf-8").splitlines():
            path, label = line.split(" ", 1)
            encoded = (annotations.parent / path).read_bytes()
            writer.write(example.encode(Record(encoded, label, "")))


def growth(sizes: tuple[int, ...] = _SIZES) -> Row:
    """Measures cost per image of `dataset` and `test`, cost per training step, and memory.

    The images are tiny, so that everything but the network dominates. The figure is the largest
    cost, divided by the cost at the smallest size.
    """
    costs = {size: _costs_in_subprocess(size) for size in sizes}
    smallest = costs[sizes[0]]
    ratios = {name: max(cost[name] for cost in costs.values()) / smallest[name]
              for name in smallest}
    largest = max(value for name, value in ratios.items() if not name.endswith("bytes"))
    return Row("cost per image as datasets grow (largest)", largest, 1.1, True, {
        "ratios": ratios, "sizes": {str(size): cost for size, cost in costs.items()}})


def _costs_in_subprocess(size: int) -> dict[str, float]:
    process = subprocess.run([sys.executable, "-m", "tests.benchmarks.datasets", str(size)],
                             stdout=subprocess.PIPE, check=True, text=True)
    costs: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return costs


def _costs(size: int) -> dict[str, float]:
    """Returns CPU seconds per image and per step, and bytes of memory, for a dataset of a size."""
    with images.temporary_directory() as name:
        directory = Path(name)
        for n, text in enumerate("AB"):
            image = drawing.encoded(drawing.word(text, (8, 32), "L"))
            (directory / f"{n}.png").write_bytes(image)
        annotations = directory / "annotations.txt"
        annotations.write_text("".join(f"{n % 2}.png {'AB'[n % 2]}\n" for n in range(size)),
                               encoding="utf-8")
        output = str(directory / "dataset.tfrecords")
        costs = {"dataset": _cpu_seconds(lambda: writer.write_dataset(
            str(annotations), output, writer.DatasetOptions(verify=False))) / size}
        costs["dataset_bytes"] = machine.peak()
        model = recognizer(_TINY)
        cluster = Cluster(tf.distribute.get_strategy())
        evaluate.evaluate([output], model, evaluate.EvaluationOptions(), cluster)  # warm-up
        costs["test"] = _cpu_seconds(lambda: evaluate.evaluate(
            [output], model, evaluate.EvaluationOptions(), cluster)) / size
        costs["test_bytes"] = machine.resident()
        settings = TrainConfig(max_steps=_STEPS)
        costs["train"] = _cpu_seconds(lambda: train.train(
            [output], str(directory / "model"), _TINY.to_json(), settings, cluster,
            start.StartOptions(resume=False))) / _STEPS
        costs["train_bytes"] = machine.resident()
    return costs


def _cpu_seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


if __name__ == "__main__":
    print(json.dumps(_costs(int(sys.argv[1]))))
