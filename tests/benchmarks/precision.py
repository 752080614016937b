"""Rows about `--precision`."""

from __future__ import annotations

from pathlib import Path

from aocr.config import PRECISIONS, TrainConfig
from aocr.training.step import Trainer
from tests.benchmarks import images
from tests.benchmarks.reading import batches_against_one
from tests.benchmarks.timing import Row, interleaved, ratio

_FLOAT32, _BFLOAT16, _ = PRECISIONS


def steps(rounds: int = 7) -> Row:
    """Training steps in bfloat16 against float32."""
    with images.scratch() as folder:
        kept = next(images.loaded(images.DIGITS, "train", 65, Path(folder), 65))
    trainers = {name: Trainer(images.DIGITS.config, TrainConfig(precision=name))
                for name in (_FLOAT32, _BFLOAT16)}
    times = interleaved({name: lambda trainer=trainer: trainer.take_step(*kept)  # type: ignore[misc]
                         for name, trainer in trainers.items()}, rounds)
    found = ratio(times[_FLOAT32], times[_BFLOAT16])
    return Row("training, bfloat16 / float32, images/s", found["by_clock"], 1.5, False,
               {**found, **{name: each.to_json() for name, each in times.items()}})


def in_batches(rounds: int = 3) -> Row:
    """`aocr test --precision mixed_bfloat16` against float32 one image at a time."""
    return batches_against_one(rounds, _BFLOAT16, 6.0)
