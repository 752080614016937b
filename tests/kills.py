"""Kills a real training again and again, and holds what is left against one that was let alone.

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
    """What the kills have led to.

    Attributes:
        kills: How many there were.
        within_checkpoint: How many of them came while a checkpoint was being written.
        largest: The largest difference of a loss to the uninterrupted run's.
        steps: Steps that were compared, repeated ones included.
    """

    kills: int
    within_checkpoint: int
    largest: float
    steps: int


def dataset(folder: Path) -> Path:
    """Records of twenty words of several widths, two of which cannot be decoded."""
    path = folder / "words.tfrecords"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for n in range(20):
            image = (undecodable_png() if n % 10 == 5 else
                     encoded(word("ABCDE"[:1 + n % 5], (14 + 9 * (n % 5), 24))))
            writer.write(example.encode(Record(image, "ABCDE"[:1 + n % 5], "")))
    return path


def losses(log: Path) -> dict[int, float]:
    """The loss of each step in the log of one process."""
    found: dict[int, float] = {}
    step = 0
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        resumed, stepped = _RESUMED.search(line), _STEP.search(line)
        if resumed:
            step = int(resumed[1])
        if stepped:
            step += 1
            found[step] = float(stepped[1])
    return found


def start(data: Path, model_dir: Path, log: Path) -> subprocess.Popen[bytes]:
    """One training process; the same command every time."""
    environment = {**os.environ, "PYTHONPATH": str(Path(aocr.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-m", "aocr", "train", str(data), "--model-dir", str(model_dir),
         "--batch-size", "3", "--max-steps", str(STEPS), "--steps-per-checkpoint", "2", "--val",
         str(data), "--log-path", str(log)], env=environment, stderr=subprocess.DEVNULL)


def kill_when(process: subprocess.Popen[bytes], due: Callable[[], bool]) -> bool:
    """Kills at the first moment that is due; returns whether there was one."""
    while process.poll() is None:
        if due():
            process.kill()
            process.wait()
            return True
        time.sleep(0.001)
    return False


def is_saving(model_dir: Path) -> bool:
    """Whether a checkpoint is being written."""
    return any(model_dir.glob("*_temp"))


def later(log: Path | None, seconds: float) -> Callable[[], bool]:
    """True some time after the log's first step, or after now if there is no log to watch."""
    begun = time.monotonic() if log is None else None

    def due() -> bool:
        nonlocal begun
        if begun is None and log is not None and losses(log):
            begun = time.monotonic()
        return begun is not None and time.monotonic() - begun > seconds

    return due


def run(kills: int, seed: int = 0) -> Outcome:
    """Kills a training so many times, every second time within the writing of a checkpoint."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, alone, model_dir = dataset(folder), folder / "alone.log", folder / "killed"
        assert start(data, folder / "alone", alone).wait() == 0
        truth = losses(alone)
        assert sorted(truth) == list(range(1, STEPS + 1))
        done = within = compared = 0
        largest = 0.0
        while done < kills:
            log = folder / f"{done}.log"
            process = start(data, model_dir, log)
            if done % 2:
                killed = kill_when(process, partial(is_saving, model_dir))
                within += killed
            else:
                # On from the start of the process, or from its first step, where most time goes.
                since = log if chance.random() < 0.8 else None
                killed = kill_when(process, later(since, chance.uniform(0, 4)))
            done += killed
            largest, compared = compare(truth, losses(log), largest, compared)
            if not killed:  # it came to its end: begin again
                assert process.returncode == 0
                shutil.rmtree(model_dir)
        log = folder / "last.log"
        assert start(data, model_dir, log).wait() == 0
        largest, compared = compare(truth, losses(log), largest, compared)
        return Outcome(done, within, largest, compared)


def compare(truth: dict[int, float], found: dict[int, float], largest: float, compared: int
            ) -> tuple[float, int]:
    """The largest difference so far, and how many losses it is of."""
    differences = [abs(truth[step] - loss) for step, loss in found.items()]
    return max([largest, *differences]), compared + len(differences)


if __name__ == "__main__":
    print(run(int(sys.argv[1])))
