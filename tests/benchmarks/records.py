"""Compares a training on many small records with one on few: time, memory, mixing of an epoch.

    python -m tests.benchmarks.records DIRECTORY [--many N] [--few N] [--shards N] [--json FILE]

The records are written to DIRECTORY unless they exist (0.7 GB for a million). Each training runs in
a process of its own, and both run the same number of steps, so that any difference is due to the
number of records.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from aocr.data.index import RecordIndex

_WORDS = 1999  # a prime number, so that images are independent of shards
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BATCH_SIZE = 65
_EPOCHS = 3
_BATCHES_READ = 100


class TrainingCost(NamedTuple):
    """Cost of one training process.

    Attributes:
        indexed: Seconds from the start until the records are indexed.
        first_step: Seconds from the start until the first step is done.
        processor: CPU seconds of the whole process.
        resident: Peak resident size in bytes.
    """

    indexed: float
    first_step: float
    processor: float
    resident: int


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints a table, and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--few", type=int, default=1000)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--charset", help="as for `aocr train`")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    result: dict[str, Any] = {}
    for count in (args.few, args.many):
        pattern = write_records(args.directory, count, args.shards)
        result[str(count)] = {"train": _train(pattern, args.charset)._asdict(),
                              "input": _read(pattern)}
    result["mixing"] = mixing(_build_index(pattern))
    for line in _table(result):
        print(line)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def write_records(directory: Path, count: int, shards: int) -> str:
    """Writes records to shards round robin, unless they exist; returns the glob of the shards."""
    import tensorflow as tf

    from aocr.data import example
    from tests.drawing import encoded, word

    paths = [directory / f"{count}-{n:05}-of-{shards:05}.tfrecords" for n in range(shards)]
    if not all(path.exists() for path in paths):
        directory.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(0)
        letters = np.array(list(_LETTERS))
        images = [encoded(word("".join(random.choice(letters, 5)), (int(width), 24), "L"),
                          ("PNG", "JPEG")[n % 2])
                  for n, width in enumerate(random.integers(24, 120, _WORDS))]
        writers = [tf.io.TFRecordWriter(str(path)) for path in paths]
        for n, label in enumerate(random.choice(letters, (count, 5))):
            writers[n % shards].write(example.encode(example.Record(
                images[n * 7 % _WORDS], "".join(label), "")))
        for writer in writers:
            writer.close()
    return str(directory / f"{count}-*-of-{shards:05}.tfrecords")


def _train(pattern: str, charset: str | None) -> TrainingCost:
    """Runs a training of three steps in a process of its own."""
    directory = tempfile.mkdtemp()
    command = [sys.executable, "-m", "aocr", "train", pattern, "--model-dir", f"{directory}/model",
               "--log-path", f"{directory}/log", "--batch-size", str(_BATCH_SIZE), "--max-steps",
               "3", *(["--charset", charset] if charset else [])]
    start = time.perf_counter()
    seconds: dict[str, float] = {}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        for message in ("Using ", "Step 1:"):
            if f"INFO     {message}" in line:
                seconds[message] = time.perf_counter() - start
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} exited with {process.returncode}")
    shutil.rmtree(directory)
    return TrainingCost(seconds["Using "], seconds["Step 1:"], usage.ru_utime + usage.ru_stime,
                        usage.ru_maxrss * 1024)


def _build_index(pattern: str) -> RecordIndex:
    from aocr.config import ModelConfig
    from aocr.data.index import build_index, resolve_paths
    from aocr.tokenizer import Tokenizer

    config = ModelConfig()
    return build_index(resolve_paths([pattern]), config, Tokenizer(config.alphabet))


def _read(pattern: str) -> dict[str, float]:
    """Returns the throughput of the input pipeline in the order of a training epoch."""
    from aocr.config import ModelConfig
    from aocr.data import pipeline
    from aocr.tokenizer import Tokenizer

    index, config = _build_index(pattern), ModelConfig()
    plan = epoch_batches(index, _BATCH_SIZE, 0, 0)[:_BATCHES_READ]
    start = time.perf_counter()
    data = pipeline.make_pipeline(index, plan, Tokenizer(config.alphabet), config)
    images = sum(len(batch.records) for batch in data)
    return {"images_per_second": images / (time.perf_counter() - start)}


def epoch_batches(index: RecordIndex, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Returns the batches of one epoch of a training run."""
    from aocr.data import sampler

    if not len(index):
        return []
    plans = sampler.training_batches(index, batch_size, seed, sampler.Position(epoch, 0))
    return [plan.records for plan in itertools.takewhile(lambda plan: plan.epoch == epoch, plans)]


def mixing(index: RecordIndex, batch_size: int = _BATCH_SIZE) -> dict[str, float]:
    """Compares the order of an epoch with a uniform shuffle, over a few epochs.

    Returns:
        `chi_square`: summed statistic of the shard counts of the batches, as standard deviations
        from its expectation under sampling without replacement. `rank_correlation`: between
        position in the files and position in the epoch, in standard deviations. `same_shard`: share
        of neighbors in a batch that come from one shard, and `expected_same_shard`. Each is the
        most extreme value of the epochs.
    """
    statistics = []
    for epoch in range(_EPOCHS):
        batches = epoch_batches(index, batch_size, 0, epoch)
        statistics.append((_chi_square(index.file, batches), _rank_correlation(batches),
                           _same_shard(index.file, batches)))
    chi_square, correlation, same_shard = (
        max(values, key=abs) for values in zip(*statistics, strict=True))
    shares = np.bincount(index.file) / len(index)
    return {"chi_square": chi_square, "rank_correlation": correlation, "same_shard": same_shard,
            "expected_same_shard": float((shares ** 2).sum())}


def _chi_square(shards: np.ndarray, batches: Sequence[np.ndarray]) -> float:
    """Returns the sum over the batches, as standard deviations from its expectation."""
    sizes = np.bincount(shards)
    statistic = expectation = 0.0
    for batch in batches:
        expected = sizes * len(batch) / len(shards)
        counts = np.bincount(shards[batch], minlength=len(sizes))
        statistic += float(((counts - expected) ** 2 / expected).sum())
        expectation += (len(sizes) - 1) * (len(shards) - len(batch)) / (len(shards) - 1)
    return (statistic - expectation) / float(np.sqrt(2 * expectation))


def _rank_correlation(batches: Sequence[np.ndarray]) -> float:
    """Returns Spearman's correlation of record and batch number, in standard deviations."""
    records = np.concatenate(batches)
    numbers = np.repeat(np.arange(len(batches)), [len(batch) for batch in batches])
    return float(np.corrcoef(records, numbers)[0, 1] * np.sqrt(len(records) - 1))


def _same_shard(shards: np.ndarray, batches: Sequence[np.ndarray]) -> float:
    """Returns the share of neighbors within the batches that come from one shard."""
    neighbors = [np.diff(shards[batch]) == 0 for batch in batches]
    return float(np.concatenate(neighbors).mean())


def _table(result: dict[str, Any]) -> list[str]:
    lines = [f"{'records':>10}  {'indexed':>8}  {'first step':>10}  {'CPU time':>9}  "
             f"{'peak resident':>13}  images/s read"]
    for count, costs in result.items():
        if count == "mixing":
            continue
        train = costs["train"]
        lines.append(f"{count:>10}  {train['indexed']:6.1f} s  {train['first_step']:8.1f} s  "
                     f"{train['processor']:7.1f} s  "
                     f"{train['resident'] / 2**20:9.0f} MiB  "
                     f"{costs['input']['images_per_second']:13.0f}")
    mixed = result["mixing"]
    lines.append(f"shards in a batch against a uniform shuffle: chi-square "
                 f"{mixed['chi_square']:+.1f} standard deviations, rank correlation "
                 f"{mixed['rank_correlation']:+.1f}, neighbors from one shard "
                 f"{mixed['same_shard']:.2%} (expected {mixed['expected_same_shard']:.2%})")
    return lines


if __name__ == "__main__":
    main()
