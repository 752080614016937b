"""Time to accuracy: what a training from scratch takes until it reads unseen images."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import images
from tests.benchmarks.timing import Row

_GOAL = 98.0
_FLAGS = {
    "captcha-digits": ["--max-width", "70", "--max-height", "30", "--max-prediction", "4"],
    "captcha-text": ["--max-width", "200", "--max-height", "50", "--max-prediction", "5"]}
_VALIDATION = re.compile(r"Validation at step (\d+)\..* word accuracy: ([\d.]+)%")


def digits() -> Row:
    """captcha-digits from scratch."""
    return _row("captcha-digits", 500, 25)


def text() -> Row:
    """captcha-text from scratch."""
    return _row("captcha-text", 800, 50)


def _row(name: str, most: int, every: int) -> Row:
    found = until_read(name, most, every)
    last = found["course"][-1]
    return Row(f"{name}: steps until 98 % of the words are read", last["step"], most, True, found)


def until_read(name: str, most: int, every: int, *more: str) -> dict[str, Any]:
    """Trains with the defaults and validates on the test images until 98 % of them are read.

    Args:
        name: The set.
        most: Steps after which it is given up.
        every: Steps between two validations.
        more: Flags.

    Returns:
        Whether they are read, and steps, word accuracy and seconds of every validation; the
        seconds hold the start of the process and the validations.
    """
    with images.scratch() as folder:
        chosen = images.Set(name, images.DIGITS.config, 70, 70, 30)
        paths = {part: str(chosen.records(part, Path(folder))) for part in ("train", "test")}
        command = [sys.executable, "-m", "aocr", "train", paths["train"], "--val", paths["test"],
                   "--model-dir", f"{folder}/model", "--charset", "auto", "--max-steps",
                   str(most), "--steps-per-checkpoint", str(every), "--log-path",
                   f"{folder}/log", *_FLAGS[name], *more]
        return _watched(command, time.perf_counter())


def _watched(command: list[str], begun: float) -> dict[str, Any]:
    course = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            found = _VALIDATION.search(line)
            if found is None:
                continue
            step, accuracy = int(found[1]), float(found[2])
            course.append({"step": step, "word_accuracy": accuracy,
                           "seconds": time.perf_counter() - begun})
            if accuracy >= _GOAL:
                process.terminate()
                break
        process.stderr.read()
    return {"reached": bool(course) and course[-1]["word_accuracy"] >= _GOAL, "course": course}
