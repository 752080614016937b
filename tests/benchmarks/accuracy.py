"""Time to accuracy: steps and seconds of training from scratch until unseen images are read."""

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


def _row(name: str, max_steps: int, steps_per_validation: int) -> Row:
    result = train_to_goal(name, max_steps, steps_per_validation)
    last = result["course"][-1]
    return Row(f"{name}: steps until 98 % of the words are read", last["step"], max_steps, True,
               result)


def train_to_goal(name: str, max_steps: int, steps_per_validation: int, *flags: str
                  ) -> dict[str, Any]:
    """Trains with the defaults, and validates on the test images until 98 % of them are read.

    Args:
        name: Name of the dataset.
        max_steps: Steps after which training stops in any case.
        steps_per_validation: Steps between two validations.
        flags: Further flags of `aocr train`.

    Returns:
        Whether the goal was reached, and step, word accuracy and seconds of every validation. The
        seconds include the start of the process and the validations.
    """
    with images.temporary_directory() as folder:
        chosen = images.ImageSet(name, images.DIGITS.config, 70, 70, 30)
        paths = {part: str(chosen.records(part, Path(folder))) for part in ("train", "test")}
        command = [sys.executable, "-m", "aocr", "train", paths["train"], "--val", paths["test"],
                   "--model-dir", f"{folder}/model", "--charset", "auto", "--max-steps",
                   str(max_steps), "--steps-per-checkpoint", str(steps_per_validation),
                   "--log-path", f"{folder}/log", *_FLAGS[name], *flags]
        return _run(command, time.perf_counter())


def _run(command: list[str], start: float) -> dict[str, Any]:
    course = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            match = _VALIDATION.search(line)
            if match is None:
                continue
            step, accuracy = int(match[1]), float(match[2])
            course.append({"step": step, "word_accuracy": accuracy,
                           "seconds": time.perf_counter() - start})
            if accuracy >= _GOAL:
                process.terminate()
                break
        process.stderr.read()
    return {"reached": bool(course) and course[-1]["word_accuracy"] >= _GOAL, "course": course}
