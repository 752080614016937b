"""Accuracy on unseen images after a number of training steps from scratch.

    python -m tests.benchmarks.learning [--only NAME]... [--seeds N...] [--steps N...]
                                       [--output FILE] [FLAG...]

Trains with the defaults of `aocr train` and the given flags (such as `--optimizer adadelta`), once
with each seed, and prints the median. FILE receives one JSON object per training; trainings that it
already holds are not repeated. `tests.benchmarks.learning_curves` plots them.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import images

_DRAW = Path(__file__).resolve().parents[2] / "datasets" / "draw.py"
_LOSS = re.compile(r"\bStep \d+: .* loss: ([\d.]+),")


@dataclass(frozen=True)
class Experiment:
    """A dataset and the steps after which the model is tested.

    Attributes:
        steps: Steps, ascending.
        sizes: Values of `--max-width`, `--max-height` and `--max-prediction`, as `aocr dataset`
            proposes them.
        flags: Further flags of `aocr train`.
        data: Directory name of the set in the shared data; "" for drawn words.
        images: Number of training images; `None` for all.
        length: Number of characters of drawn words.
    """

    steps: tuple[int, ...]
    sizes: tuple[int, int, int]
    flags: tuple[str, ...] = ("--charset", "auto")
    data: str = ""
    images: int | None = None
    length: int = 0


EXPERIMENTS = {
    "captcha-digits": Experiment((70,), (70, 30, 4), data="captcha-digits"),
    "captcha-text": Experiment((130,), (200, 50, 5), data="captcha-text"),
    "captcha-text-200": Experiment((130, 260), (200, 50, 5), data="captcha-text", images=200,
                                   flags=("--charset", "auto", "--augment", "light")),
    "receipt-numbers": Experiment((400, 800), (720, 57, 23), ("--full-ascii",), "receipt-numbers"),
    "receipt-lines": Experiment((1000,), (1800, 79, 40), data="receipt-lines"),
    "fraktur-lines": Experiment((1500,), (3223, 91, 80), data="fraktur-lines"),
    "scene-words": Experiment((1000,), (537, 42, 25), data="scene-words"),
    "drawn-7": Experiment((250,), (400, 48, 7), length=7, images=3000),
    "drawn-12": Experiment((500,), (640, 48, 12), length=12, images=3000),
}


def main(experiments: Mapping[str, Experiment] = EXPERIMENTS, description: str | None = __doc__,
         output: str = "learning.jsonl") -> None:
    """Trains what FILE does not hold, and prints a table.

    Args:
        experiments: The datasets to choose from, by name.
        description: What `--help` says.
        output: FILE if the command line names none.
    """
    parser = argparse.ArgumentParser(description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=experiments, metavar="NAME",
                        help="one dataset; again for more: " + ", ".join(experiments))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", type=Path, default=Path(output), metavar="FILE",
                        help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, nargs="+", metavar="N",
                        help="steps after which the model is tested (default: by dataset)")
    args, flags = parser.parse_known_args()
    trainings = read(args.output)
    for name in args.only or experiments:
        steps = sorted(args.steps or experiments[name].steps)
        for seed in args.seeds:
            if not _select(trainings, name, flags, steps, [seed]):
                metrics = train(experiments[name], seed, flags, steps)
                trainings.append({"name": name, "seed": seed, "flags": flags, **metrics})
                with args.output.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(trainings[-1]) + "\n")
        print(describe(_select(trainings, name, flags, steps, args.seeds), steps), flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    """Returns the trainings that a file holds; none if there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def train(experiment: Experiment, seed: int, flags: Sequence[str], steps: Sequence[int]
          ) -> dict[str, Any]:
    """Trains with one seed, and tests after each of `steps`.

    Returns:
        The loss of every step, and the metrics of `aocr test` by step.
    """
    with images.temporary_directory() as name:
        folder = Path(name)
        training, testing = (_records(experiment, part, folder) for part in ("train", "test"))
        sizes = zip(("--max-width", "--max-height", "--max-prediction"), experiment.sizes,
                    strict=True)
        command = ["train", training, *(str(item) for size in sizes for item in size),
                   *experiment.flags, "--seed", str(seed), *flags]
        losses: list[float] = []
        metrics = {}
        for step in steps:
            log = _aocr(folder, *command, "--max-steps", str(step))
            losses += [float(loss) for loss in _LOSS.findall(log)]
            _aocr(folder, "test", testing, "--json", f"{folder}/test.json")
            metrics[str(step)] = _summary(folder / "test.json")
    return {"losses": losses, "metrics": metrics}


def describe(trainings: Sequence[dict[str, Any]], steps: Sequence[int]) -> str:
    """Returns a line for each of `steps`: medians over the seeds, and each seed's accuracy."""
    lines = []
    for step in steps:
        metrics = [training["metrics"][str(step)] for training in trainings]
        accuracies = [values["word_accuracy"] for values in metrics]
        lines.append(f"{trainings[0]['name']:<18}{step:>6} steps  words "
                     f"{statistics.median(accuracies):7.2%}  CER "
                     f"{statistics.median(values['cer'] for values in metrics):6.2%}  ("
                     + ", ".join(f"{accuracy:.2%}" for accuracy in accuracies) + ")")
    return "\n".join(lines)


def _summary(path: Path) -> dict[str, float]:
    summary = json.loads(path.read_text(encoding="utf-8"))["summary"]
    return {name: summary[name] for name in ("word_accuracy", "cer")}


def _select(trainings: Sequence[dict[str, Any]], name: str, flags: Sequence[str],
            steps: Sequence[int], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Returns one training for each seed that has been tested after all of `steps`."""
    by_seed = {training["seed"]: training for training in trainings
               if (training["name"], training["flags"]) == (name, list(flags))
               and {*map(str, steps)} <= {*training["metrics"]}}
    return [by_seed[seed] for seed in seeds if seed in by_seed]


def _records(experiment: Experiment, part: str, folder: Path) -> str:
    """Writes a part of the data to records, and returns their path."""
    source = images.SHARED / experiment.data if experiment.data else _draw(experiment, folder)
    lines = (source / f"annotations-{part}.txt").read_text(encoding="utf-8").splitlines()
    if part == "train":
        lines = lines[:experiment.images]
    annotations = folder / f"{part}.txt"
    annotations.write_text("".join(f"{source}/{line}\n" for line in lines), encoding="utf-8")
    records = str(folder / f"{part}.tfrecords")
    case = ["--no-force-uppercase"] if experiment.data == "fraktur-lines" else []
    _aocr(folder, "dataset", str(annotations), records, *case)
    return records


def _draw(experiment: Experiment, folder: Path) -> Path:
    """Draws words of random characters, unless the folder has them already."""
    drawn = folder / "drawn"
    if not drawn.exists():
        length = str(experiment.length)
        subprocess.run([sys.executable, str(_DRAW), str(drawn), "--count", str(experiment.images),
                        "--test-count", "300", "--min-length", length, "--max-length", length],
                       check=True, stdout=subprocess.DEVNULL)
        for part in ("train", "test"):
            lines = (drawn / f"annotations-{part}ing.txt").read_text(encoding="utf-8")
            (drawn / f"annotations-{part}.txt").write_text(lines.replace(f"{drawn}/", ""))
    return drawn


def _aocr(folder: Path, command: str, *arguments: str) -> str:
    """Runs a command of aocr, and returns its log."""
    model = [] if command == "dataset" else ["--model-dir", f"{folder}/model"]
    return subprocess.run(
        [sys.executable, "-m", "aocr", command, *arguments, *model, "--log-path", f"{folder}/log"],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True).stderr


if __name__ == "__main__":
    main()
