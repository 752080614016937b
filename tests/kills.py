"""Kills a training process again and again, and compares its losses with an uninterrupted run.

`python -m tests.kills 20` kills twenty times.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

import aocr
from aocr.data import example
from aocr.data.example import Record
from tests.drawing import encoded, undecodable_png, word

STEPS = 12
_STEP = re.compile(r" Step \d+: [\d.]+s, loss: ([\d.]+),")
_RESUMED = re.compile(r" Resuming at step (\d+),")


class Outcome(NamedTuple):
    """Result of a series of kills.

    Attributes:
        kills: Number of kills.
        within_checkpoint: How many of them happened while a checkpoint was being written.
        largest: Largest difference between a loss and that of the uninterrupted run.
        steps: Number of steps that were compared, including repeated ones.
    """

    kills: int
    within_checkpoint: int
    largest: float
    steps: int


def dataset(directory: Path) -> Path:
    """Writes records of twenty words of several widths, two of them undecodable."""
    path = directory / "words.tfrecords"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for n in range(20):
            image = (undecodable_png() if n % 10 == 5 else
                     encoded(word("ABCDE"[:1 + n % 5], (14 + 9 * (n % 5), 24))))
            writer.write(example.encode(Record(image, "ABCDE"[:1 + n % 5], "")))
    return path


def losses(log: Path) -> dict[int, float]:
    """Returns the loss of each step in the log of one process."""
    by_step: dict[int, float] = {}
    step = 0
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        resumed, stepped = _RESUMED.search(line), _STEP.search(line)
        if resumed:
            step = int(resumed[1])
        if stepped:
            step += 1
            by_step[step] = float(stepped[1])
    return by_step


def start(data: Path, model_dir: Path, log: Path, *flags: str) -> subprocess.Popen[bytes]:
    """Starts a training process.

    Args:
        data: The records.
        model_dir: The model directory.
        log: The log file.
        flags: Further flags, which take precedence.
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(aocr.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-m", "aocr", "train", str(data), "--model-dir", str(model_dir),
         "--batch-size", "3", "--max-steps", str(STEPS), "--steps-per-checkpoint", "2", "--val",
         str(data), "--augment", "strong", "--log-path", str(log), *flags],
        env=environment, stderr=subprocess.DEVNULL)


def kill_when(process: subprocess.Popen[bytes], is_due: Callable[[], bool]) -> bool:
    """Kills a process as soon as it is due; returns whether it was before the process ended."""
    while process.poll() is None:
        if is_due():
            process.kill()
            process.wait()
            return True
        time.sleep(0.001)
    return False


def is_saving(model_dir: Path) -> bool:
    """Returns whether a checkpoint is being written."""
    return any(model_dir.glob("*_temp"))


def after(log: Path | None, seconds: float) -> Callable[[], bool]:
    """Returns a function that is true some seconds after the first step in a log, or after now."""
    start = time.monotonic() if log is None else None

    def is_due() -> bool:
        nonlocal start
        if start is None and log is not None and losses(log):
            start = time.monotonic()
        return start is not None and time.monotonic() - start > seconds

    return is_due


def run(count: int, seed: int = 0) -> Outcome:
    """Kills training a number of times, every second time while a checkpoint is being written."""
    random_numbers = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        data, log, model_dir = dataset(directory), directory / "log", directory / "killed"
        assert start(data, directory / "uninterrupted", log).wait() == 0
        expected = losses(log)
        assert sorted(expected) == list(range(1, STEPS + 1))
        kills = within_checkpoint = compared = 0
        largest = 0.0
        while kills < count:
            log = directory / f"{kills}.log"
            process = start(data, model_dir, log)
            if kills % 2:
                killed = kill_when(process, partial(is_saving, model_dir))
                within_checkpoint += killed
            else:
                # From the start of the process, or from its first step, where most time is spent.
                since = log if random_numbers.random() < 0.8 else None
                killed = kill_when(process, after(since, random_numbers.uniform(0, 4)))
            kills += killed
            largest, compared = compare(expected, losses(log), largest, compared)
            if not killed:  # training has finished: start again
                assert process.returncode == 0
                shutil.rmtree(model_dir)
        log = directory / "last.log"
        assert start(data, model_dir, log).wait() == 0
        largest, compared = compare(expected, losses(log), largest, compared)
        return Outcome(kills, within_checkpoint, largest, compared)


def compare(expected: dict[int, float], actual: dict[int, float], largest: float, compared: int
            ) -> tuple[float, int]:
    """Returns the largest difference so far, and the number of losses compared so far."""
    differences = [abs(expected[step] - loss) for step, loss in actual.items()]
    return max([largest, *differences]), compared + len(differences)


if __name__ == "__main__":
    print(run(int(sys.argv[1])))
