"""Rows about `--precision`."""

from __future__ import annotations

from pathlib import Path

from aocr.config import PRECISIONS, TrainConfig
from tests.benchmarks import images
from tests.benchmarks.reading import batches_against_one
from tests.benchmarks.timing import Row, interleaved, ratio
from tests.benchmarks.training import make_step

_FLOAT32, _BFLOAT16, _ = PRECISIONS


def steps(rounds: int = 7) -> Row:
    """Training steps in bfloat16, against float32."""
    with images.temporary_directory() as folder:
        kept = next(images.training_batches(images.DIGITS, "train", 65, Path(folder), 65))
    train_steps = {name: make_step(images.DIGITS.config, TrainConfig(precision=name))
                   for name in (_FLOAT32, _BFLOAT16)}
    times = interleaved({name: lambda train_step=train_step: train_step.run(*kept)  # type: ignore[misc]
                         for name, train_step in train_steps.items()}, rounds)
    ratios = ratio(times[_FLOAT32], times[_BFLOAT16])
    return Row("training, bfloat16 / float32, images/s", ratios["by_clock"], 1.5, False,
               {**ratios, **{name: measured.to_json() for name, measured in times.items()}})


def in_batches(rounds: int = 3) -> Row:
    """`aocr test --precision mixed_bfloat16` in batches, against float32 image by image."""
    return batches_against_one(rounds, _BFLOAT16, 6.0)
