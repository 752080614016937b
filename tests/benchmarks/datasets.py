"""Rows about `aocr dataset`, and about costs that must not grow with the number of images."""

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
from aocr.training import train
from tests import drawing
from tests.benchmarks import images, machine
from tests.benchmarks.reading import recognizer
from tests.benchmarks.timing import Row, interleaved, ratio

_SIZES = (1_000, 10_000, 100_000)
_STEPS = 100
_TINY = ModelConfig(8, 32, 2, "AB")


def one_job(rounds: int = 5) -> Row:
    """`aocr dataset` against a bare loop that reads the same files and writes the records."""
    return _jobs(1, 0.7, rounds)


def two_jobs(rounds: int = 5) -> Row:
    """The same with `--jobs 2`."""
    return _jobs(2, 1.2, rounds)


def _jobs(jobs: int, goal: float, rounds: int) -> Row:
    with images.scratch() as name:
        folder = Path(name)
        annotations = images.DIGITS.annotations("train", folder)
        options = writer.DatasetOptions(force_uppercase=False, jobs=jobs, verify=False)
        times = interleaved({
            "bare": lambda: _bare_loop(annotations, folder / "bare.tfrecords"),
            "dataset": lambda: writer.write_dataset(
                str(annotations), str(folder / "checked.tfrecords"), options)}, rounds)
    found = ratio(times["bare"], times["dataset"])
    return Row(f"aocr dataset --jobs {jobs} / bare loop, images/s", found["by_clock"], goal, False,
               {**found, **{name: each.to_json() for name, each in times.items()}})


def _bare_loop(annotations: Path, output: Path) -> None:
    with tf.io.TFRecordWriter(str(output)) as writer:
        for line in annotations.read_text(encoding="utf-8").splitlines():
            path, label = line.split(" ", 1)
            encoded = (annotations.parent / path).read_bytes()
            writer.write(example.encode(Record(encoded, label, "")))


def growth(sizes: tuple[int, ...] = _SIZES) -> Row:
    """Cost an image of `dataset` and `test`, and of a number of training steps, and the memory.

    The images are tiny, so that what is around the network counts. The figure is the greatest
    cost divided by that at the smallest size.
    """
    found = {size: _part(size) for size in sizes}
    first = found[sizes[0]]
    shares = {name: max(part[name] for part in found.values()) / first[name] for name in first}
    worst = max(value for name, value in shares.items() if not name.endswith("bytes"))
    return Row("cost an image as sets grow (worst)", worst, 1.1, True, {
        "shares": shares, "sizes": {str(size): part for size, part in found.items()}})


def _part(size: int) -> dict[str, float]:
    found = subprocess.run([sys.executable, "-m", "tests.benchmarks.datasets", str(size)],
                           stdout=subprocess.PIPE, check=True, text=True)
    answer: dict[str, float] = json.loads(found.stdout.splitlines()[-1])
    return answer


def _costs(size: int) -> dict[str, float]:
    """Seconds of the processor an image, or a step, and bytes, each with the set of this size."""
    with images.scratch() as name:
        folder = Path(name)
        files = [drawing.encoded(drawing.word(text, (8, 32), "L")) for text in ("A", "B")]
        for n, file in enumerate(files):
            (folder / f"{n}.png").write_bytes(file)
        annotations = folder / "annotations.txt"
        annotations.write_text("".join(f"{n % 2}.png {'AB'[n % 2]}\n" for n in range(size)),
                               encoding="utf-8")
        output = str(folder / "set.tfrecords")
        costs = {"dataset": _cpu(lambda: writer.write_dataset(
            str(annotations), output, writer.DatasetOptions(verify=False))) / size}
        costs["dataset_bytes"] = machine.peak()
        model = recognizer(_TINY)
        alone = Cluster(tf.distribute.get_strategy())
        evaluate.evaluate([output], model, evaluate.EvaluationOptions(), alone)
        costs["test"] = _cpu(lambda: evaluate.evaluate(
            [output], model, evaluate.EvaluationOptions(), alone)) / size
        costs["test_bytes"] = machine.resident()
        settings = TrainConfig(max_steps=_STEPS)
        costs["train"] = _cpu(lambda: train.train(
            [output], str(folder / "model"), _TINY.to_json(), settings, alone,
            train.StartOptions(resume=False))) / _STEPS
        costs["train_bytes"] = machine.resident()
    return costs


def _cpu(call: Callable[[], object]) -> float:
    since = time.process_time()
    call()
    return time.process_time() - since


if __name__ == "__main__":
    print(json.dumps(_costs(int(sys.argv[1]))))
