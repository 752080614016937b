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
from aocr.training import train
from aocr.training.step import Trainer
from tests.benchmarks import images, machine
from tests.benchmarks.bare import Bare
from tests.benchmarks.timing import Row, Times, interleaved, ratio

_BATCH = 65
_WARM = 3  # steps that do not count: graphs and convolutions are being prepared


def step(rounds: int = 15) -> Row:
    """The whole loop of `aocr train`, against the bare stack on the images of the same step."""
    loop, bare = Times(), Times()
    with images.scratch() as folder, _bare_after_every_step(loop, bare):
        _train(images.DIGITS, Path(folder), TrainConfig(_BATCH, max_steps=rounds + _WARM + 1))
    loop, bare = (Times(each.wall[_WARM:], each.cpu[_WARM:]) for each in (loop, bare))
    found = ratio(loop, bare)
    return Row("training step / bare CNN", found["by_clock"], 1.25, True,
               {**found, "loop": loop.to_json(), "bare": bare.to_json()})


@contextmanager
def _bare_after_every_step(loop: Times, bare: Times) -> Iterator[None]:
    """Lets the bare stack run between the steps; `loop` is all the time that it does not take."""
    stack = Bare()
    take_step = Trainer.take_step
    since: list[float] = []

    def measured(trainer: Trainer, batch: Batch, *rest: Any) -> Any:
        answer = take_step(trainer, batch, *rest)
        now = [time.perf_counter(), time.process_time()]
        if since:
            loop.add(now[0] - since[0], now[1] - since[1])
        (bare if since else Times()).take(lambda: stack.step(batch.images))
        since[:] = [time.perf_counter(), time.process_time()]
        return answer

    with mock.patch.object(Trainer, "take_step", measured):
        yield


def pipeline(rounds: int = 15) -> Row:
    """Steps that wait for their images, against steps on a batch that is there already."""
    with images.scratch() as folder:
        data = images.loaded(images.DIGITS, "train", _BATCH, Path(folder))
        kept = next(data)
        trainer = Trainer(images.DIGITS.config, TrainConfig())
        times = interleaved({"real": lambda: trainer.take_step(*next(data)),
                             "repeated": lambda: trainer.take_step(*kept)}, rounds)
    found = ratio(times["real"], times["repeated"])
    return Row("step with real input / one batch repeated", found["by_clock"], 1.03, True,
               {**found, **{name: each.to_json() for name, each in times.items()}})


def own_width(rounds: int = 8) -> Row:
    """Batches of lines in their own widths, against the same padded to the full width.

    What is learned is the same: padding is masked. Batches differ in their widths: all of them are
    summed up. Each is taken twice in its own widths, of which the first does not count, as
    convolutions are prepared for every new shape: a training has met nearly all of them after an
    epoch.
    """
    config = images.LINES.config
    with images.scratch() as folder:
        data = images.loaded(images.LINES, "train", _BATCH, Path(folder))
        kept = list(itertools.islice(data, rounds))
    trainer = Trainer(config, TrainConfig())
    own, padded, first = Times(), Times(), Times()
    for n, (batch, widths) in enumerate(kept):
        full = _padded(batch, config)
        take = lambda one=batch: trainer.take_step(one, widths)  # noqa: B023, E731
        first.take(take)
        own.take(take)
        with mock.patch.object(packing, "plan", _one_each):
            for times in (padded,) if n else (Times(), padded):
                times.take(lambda: trainer.take_step(full, widths))  # noqa: B023
    found = {"by_clock": sum(padded.wall) / sum(own.wall),
             "by_processor": sum(padded.cpu) / sum(own.cpu)}
    return Row("receipt-lines: own widths / padded, images/s", found["by_clock"], 2.0, False,
               {**found, "own": own.to_json(), "padded": padded.to_json(), "first": first.to_json(),
                "mean_width": float(np.mean(np.concatenate([each[1] for each in kept]))),
                "full_width": config.input_width})


def _padded(batch: Batch, config: ModelConfig) -> Batch:
    """The batch as wide as the widest image may be."""
    beyond = config.input_width - batch.images.shape[2]
    return batch._replace(images=tf.pad(batch.images, [[0, 0], [0, 0], [0, beyond], [0, 0]]))


def _one_each(widths: np.ndarray, devices: int = 1) -> packing.Packing:
    """Every image in a row of its own, as wide as the widest may be."""
    del devices
    length = -(-images.LINES.config.input_width // COLUMN_PIXELS)
    rows = np.arange(len(widths), dtype=np.int32)
    return packing.Packing(rows * length, np.array([len(rows), length], np.int32))


def memory() -> Row:
    """Peak of a training and of the bare step in processes of their own."""
    parts = {name: _part(name) for name in ("training", "bare")}
    return Row("peak memory: training / bare CNN step",
               parts["training"]["peak"] / parts["bare"]["peak"], 1.5, True, parts)


def flat() -> Row:
    """Resident size at step 500 against step 50, in batches of 8."""
    part = _part("flat")
    return Row("resident size at step 500 / step 50", part["at_500"] / part["at_50"], 1.02, True,
               part)


def _part(name: str) -> dict[str, Any]:
    found = subprocess.run([sys.executable, "-m", "tests.benchmarks.training", name],
                           stdout=subprocess.PIPE, check=True, text=True)
    answer: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return answer


def _train(chosen: images.Set, folder: Path, settings: TrainConfig) -> None:
    records = [str(chosen.records("train", folder))]
    train.train(records, str(folder / "model"), chosen.config, settings,
                   train.StartOptions(resume=False), Cluster(tf.distribute.get_strategy()))


def _peak_of_training() -> dict[str, Any]:
    with images.scratch() as folder:
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
    take_step = Trainer.take_step

    def measured(trainer: Trainer, *batch: Any) -> Any:
        answer = take_step(trainer, *batch)
        sizes[f"at_{int(trainer.step)}"] = machine.resident()
        return answer

    with images.scratch() as folder, mock.patch.object(Trainer, "take_step", measured):
        settings = TrainConfig(8, max_steps=500, steps_per_checkpoint=1000)
        _train(images.DIGITS, Path(folder), settings)
    return {name: sizes[name] for name in ("at_50", "at_250", "at_500")}


if __name__ == "__main__":
    _PARTS = {"training": _peak_of_training, "bare": _peak_of_bare, "flat": _flat}
    print(json.dumps(_PARTS[sys.argv[1]]()))
