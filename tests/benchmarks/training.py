"""Rows about `aocr train`."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf

from aocr.config import COLUMN_PIXELS, IMAGE_HEIGHT, ModelConfig, TrainConfig
from aocr.data.pipeline import Batch
from aocr.model import packing
from aocr.runtime.distributed import Cluster
from aocr.training import start, train
from aocr.training.state import TrainingState
from aocr.training.step import StepResult, TrainStep
from tests.benchmarks import images, machine
from tests.benchmarks.bare import Bare
from tests.benchmarks.timing import Row, Times, interleaved, ratio

_BATCH = 65
_WARM_UP = 3  # steps that do not count: graphs are traced, convolutions are prepared


def step(rounds: int = 15) -> Row:
    """The complete loop of `aocr train`, against the bare CNN on the images of the same step."""
    loop, bare = Times(), Times()
    with images.temporary_directory() as folder, _bare_after_every_step(loop, bare):
        _train(images.DIGITS, Path(folder), TrainConfig(_BATCH, max_steps=rounds + _WARM_UP + 1))
    loop, bare = (
        Times(times.wall[_WARM_UP:], times.cpu[_WARM_UP:]) for times in (loop, bare))
    ratios = ratio(loop, bare)
    return Row("training step / bare CNN", ratios["by_clock"], 1.25, True,
               {**ratios, "loop": loop.to_json(), "bare": bare.to_json()})


@contextmanager
def _bare_after_every_step(loop: Times, bare: Times) -> Iterator[None]:
    """Runs the bare CNN between the steps; `loop` is all the time that it does not take."""
    stack = Bare()
    run_step = TrainStep.run
    since: list[float] = []

    def measured(train_step: TrainStep, batch: Batch, widths: np.ndarray) -> StepResult:
        result = run_step(train_step, batch, widths)
        now = [time.perf_counter(), time.process_time()]
        if since:
            loop.add(now[0] - since[0], now[1] - since[1])
        (bare if since else Times()).take(lambda: stack.step(batch.images))
        since[:] = [time.perf_counter(), time.process_time()]
        return result

    with mock.patch.object(TrainStep, "run", measured):
        yield


def make_step(config: ModelConfig, settings: TrainConfig | None = None) -> TrainStep:
    """Returns the training step of a new model on one device."""
    settings = settings or TrainConfig()
    cluster = Cluster(tf.distribute.get_strategy())
    return TrainStep(TrainingState(config, settings, cluster), config, settings, cluster)


def pipeline(rounds: int = 15) -> Row:
    """Steps that wait for their images, against steps on a batch in memory."""
    with images.temporary_directory() as folder:
        data = images.training_batches(images.DIGITS, "train", _BATCH, Path(folder))
        kept = next(data)
        train_step = make_step(images.DIGITS.config)
        times = interleaved({"real": lambda: train_step.run(*next(data)),
                             "repeated": lambda: train_step.run(*kept)}, rounds)
    ratios = ratio(times["real"], times["repeated"])
    return Row("step with real input / one batch repeated", ratios["by_clock"], 1.03, True,
               {**ratios, **{name: measured.to_json() for name, measured in times.items()}})


def augmented(rounds: int = 15) -> Row:
    """Steps with light augmentation against steps without; both wait for their images."""
    train_step = make_step(images.DIGITS.config)
    with images.temporary_directory() as folder:
        light, off = (images.training_batches(images.DIGITS, "train", _BATCH, Path(folder),
                                              augment=level) for level in ("light", "off"))
        times = interleaved({"light": lambda: train_step.run(*next(light)),
                             "off": lambda: train_step.run(*next(off))}, rounds)
    ratios = ratio(times["light"], times["off"])
    return Row("step with light augmentation / without", ratios["by_clock"], 1.06, True,
               {**ratios, **{name: measured.to_json() for name, measured in times.items()}})


def own_width(rounds: int = 8) -> Row:
    """Steps on lines in their own widths, against the same images padded to the full width.

    Both learn the same, as padding is masked. Batches differ in their widths, so that the times of
    all batches are summed. Each batch runs twice in its own widths, and the first time does not
    count: convolutions are prepared for every new shape, and training has met nearly all shapes
    after an epoch.
    """
    config = images.LINES.config
    with images.temporary_directory() as folder:
        data = images.training_batches(images.LINES, "train", _BATCH, Path(folder))
        kept = list(itertools.islice(data, rounds))
    train_step = make_step(config)
    own, padded, first = Times(), Times(), Times()
    for n, (batch, widths) in enumerate(kept):
        full = _pad(batch, config)
        for times in (first, own):
            times.take(lambda: train_step.run(batch, widths))  # noqa: B023
        with mock.patch.object(packing, "first_fit", _one_image_a_row):
            for times in (padded,) if n else (Times(), padded):
                times.take(lambda: train_step.run(full, widths))  # noqa: B023
    ratios = {"by_clock": sum(padded.wall) / sum(own.wall),
              "by_processor": sum(padded.cpu) / sum(own.cpu)}
    return Row("receipt-lines: own widths / padded, images/s", ratios["by_clock"], 2.0, False,
               {**ratios, "own": own.to_json(), "padded": padded.to_json(),
                "first": first.to_json(),
                "mean_width": float(np.mean(np.concatenate([widths for _, widths in kept]))),
                "full_width": config.input_width})


def _pad(batch: Batch, config: ModelConfig) -> Batch:
    """Returns the batch padded to the maximum width."""
    padding = config.input_width - batch.images.shape[2]
    return batch._replace(images=tf.pad(batch.images, [[0, 0], [0, 0], [0, padding], [0, 0]]))


def _one_image_a_row(widths: np.ndarray, replicas: int = 1) -> packing.Packing:
    """Takes the place of `packing.first_fit`: every image has a row of the maximum width."""
    del replicas
    length = -(-images.LINES.config.input_width // COLUMN_PIXELS)
    rows = np.arange(len(widths), dtype=np.int32)
    return packing.Packing(rows * length, np.array([len(rows), length], np.int32))


def memory() -> Row:
    """Peak memory of a training run and of the bare CNN, each in a process of its own."""
    parts = {name: _measure_in_process(name) for name in ("training", "bare")}
    return Row("peak memory: training / bare CNN step",
               parts["training"]["peak"] / parts["bare"]["peak"], 1.5, True, parts)


def flat() -> Row:
    """Resident size at step 500 against step 50, with batches of 8."""
    part = _measure_in_process("flat")
    return Row("resident size at step 500 / step 50", part["at_500"] / part["at_50"], 1.02, True,
               part)


def _measure_in_process(name: str) -> dict[str, Any]:
    completed = subprocess.run([sys.executable, "-m", "tests.benchmarks.training", name],
                               stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, Any] = json.loads(completed.stdout.splitlines()[-1])
    return result


def _train(chosen: images.ImageSet, folder: Path, settings: TrainConfig) -> None:
    records = [str(chosen.records("train", folder))]
    train.train(records, str(folder / "model"), chosen.config.to_json(), settings,
                Cluster(tf.distribute.get_strategy()), start.StartOptions(resume=False))


def _peak_of_training() -> dict[str, Any]:
    with images.temporary_directory() as folder:
        _train(images.DIGITS, Path(folder), TrainConfig(_BATCH, max_steps=8))
    return {"peak": machine.peak()}


def _peak_of_bare() -> dict[str, Any]:
    stack = Bare()
    pixels = tf.zeros([_BATCH, IMAGE_HEIGHT, images.DIGITS.config.input_width, 1])
    for _ in range(8):
        stack.step(pixels)
    return {"peak": machine.peak()}


def _flat() -> dict[str, Any]:
    sizes: dict[str, int] = {}
    run_step = TrainStep.run
    steps = itertools.count(1)

    def measured(train_step: TrainStep, batch: Batch, widths: np.ndarray) -> StepResult:
        result = run_step(train_step, batch, widths)
        sizes[f"at_{next(steps)}"] = machine.resident()
        return result

    with images.temporary_directory() as folder, mock.patch.object(TrainStep, "run", measured):
        settings = TrainConfig(8, max_steps=500, steps_per_checkpoint=1000)
        _train(images.DIGITS, Path(folder), settings)
    return {name: sizes[name] for name in ("at_50", "at_250", "at_500")}


if __name__ == "__main__":
    _PARTS = {"training": _peak_of_training, "bare": _peak_of_bare, "flat": _flat}
    print(json.dumps(_PARTS[sys.argv[1]]()))
