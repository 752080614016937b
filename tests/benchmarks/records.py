"""Many small records: time to the first step, memory, and how well an epoch is mixed.

    python -m tests.benchmarks.records FOLDER [--many N] [--few N] [--shards N] [--json FILE]

FOLDER takes the records, which are made when they are not there (0.7 GB for a million). Every
training is a process of its own; both take the same steps, so that what they differ by is what
the number of records costs.
"""

from __future__ import annotations

import argparse
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

_WORDS = 1999  # a prime, so that images and shards have nothing to do with each other
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BATCH = 65
_EPOCHS = 3
_READ_BATCHES = 100


class Part(NamedTuple):
    """What one process told: seconds to lines of its log, those of all its threads, most bytes."""

    indexed: float
    first_step: float
    processor: float
    resident: int


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints a table, and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--few", type=int, default=1000)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--charset", help="as for `aocr train`")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    result: dict[str, Any] = {}
    for number in (args.few, args.many):
        pattern = made(args.folder, number, args.shards)
        result[str(number)] = {"train": _train(pattern, args.charset)._asdict(),
                               "input": _reading(pattern)}
    result["mixing"] = mixing(_index(pattern))
    for line in _table(result):
        print(line)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def made(folder: Path, number: int, shards: int) -> str:
    """A glob of shards with this many records in all, dealt round robin."""
    import tensorflow as tf

    from aocr.data import example
    from tests.drawing import encoded, word

    paths = [folder / f"{number}-{n:05}-of-{shards:05}.tfrecords" for n in range(shards)]
    if not all(path.exists() for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(0)
        letters = np.array(list(_LETTERS))
        images = [encoded(word("".join(random.choice(letters, 5)), (int(width), 24), "L"),
                          ("PNG", "JPEG")[n % 2])
                  for n, width in enumerate(random.integers(24, 120, _WORDS))]
        writers = [tf.io.TFRecordWriter(str(path)) for path in paths]
        for n, label in enumerate(random.choice(letters, (number, 5))):
            writers[n % shards].write(example.encode(example.Record(
                images[n * 7 % _WORDS], "".join(label), "")))
        for writer in writers:
            writer.close()
    return str(folder / f"{number}-*-of-{shards:05}.tfrecords")


def _train(pattern: str, charset: str | None) -> Part:
    """A training of three steps, in a process of its own."""
    folder = tempfile.mkdtemp()
    command = [sys.executable, "-m", "aocr", "train", pattern, "--model-dir", f"{folder}/model",
               "--log-path", f"{folder}/log", "--batch-size", str(_BATCH), "--max-steps", "3",
               *(["--charset", charset] if charset else [])]
    begun = time.perf_counter()
    seen: dict[str, float] = {}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        for mark in ("Using ", "Step 1:"):
            if f"INFO     {mark}" in line:
                seen[mark] = time.perf_counter() - begun
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    shutil.rmtree(folder)
    return Part(seen["Using "], seen["Step 1:"], used.ru_utime + used.ru_stime,
                used.ru_maxrss * 1024)


def _index(pattern: str) -> RecordIndex:
    from aocr.config import ModelConfig
    from aocr.data.index import build_index, resolve_paths
    from aocr.tokenizer import Tokenizer

    config = ModelConfig()
    return build_index(resolve_paths([pattern]), config, Tokenizer(config.alphabet))


def _reading(pattern: str) -> dict[str, float]:
    """Images a second from the records to the network's door, in the order of an epoch."""
    from aocr.config import ModelConfig
    from aocr.data import pipeline, sampler
    from aocr.tokenizer import Tokenizer

    index, config = _index(pattern), ModelConfig()
    plan = sampler.shuffled_batches(index, _BATCH, 0, 0)[:_READ_BATCHES]
    begun = time.perf_counter()
    data = pipeline.make_pipeline(index, plan, Tokenizer(config.alphabet), config)
    images = sum(len(batch.records) for batch in data)
    return {"images_per_second": images / (time.perf_counter() - begun)}


def mixing(index: RecordIndex, batch_size: int = _BATCH) -> dict[str, float]:
    """How the order of an epoch compares with a uniform shuffle.

    Returns:
        `chi_square`: of the shards' counts in the batches, summed up, in standard deviations from
        what drawing without replacement gives. `rank_correlation`: of place in the files and
        place in the order, in standard deviations. `same_shard`: share of neighbours in a batch
        from one shard, and `expected_same_shard`. The numbers are the worst of a few epochs.
    """
    from aocr.data import sampler

    found = []
    for epoch in range(_EPOCHS):
        plan = sampler.shuffled_batches(index, batch_size, 0, epoch)
        found.append((_chi_square(index.file, plan), _rank_correlation(plan),
                      _same_shard(index.file, plan)))
    chi_square, correlation, same = (max(column, key=abs) for column in zip(*found, strict=True))
    shares = np.bincount(index.file) / len(index)
    return {"chi_square": chi_square, "rank_correlation": correlation, "same_shard": same,
            "expected_same_shard": float((shares ** 2).sum())}


def _chi_square(shards: np.ndarray, plan: Sequence[np.ndarray]) -> float:
    """Sum over the batches, in standard deviations from its expectation."""
    sizes = np.bincount(shards)
    statistic = 0.0
    expected = 0.0
    for batch in plan:
        wanted = sizes * len(batch) / len(shards)
        counts = np.bincount(shards[batch], minlength=len(sizes))
        statistic += float(((counts - wanted) ** 2 / wanted).sum())
        expected += (len(sizes) - 1) * (len(shards) - len(batch)) / (len(shards) - 1)
    return (statistic - expected) / float(np.sqrt(2 * expected))


def _rank_correlation(plan: Sequence[np.ndarray]) -> float:
    """Spearman's, of place in the files and number of the batch, in standard deviations."""
    order = np.concatenate(plan)
    places = np.repeat(np.arange(len(plan)), [len(batch) for batch in plan])
    return float(np.corrcoef(order, places)[0, 1] * np.sqrt(len(order) - 1))


def _same_shard(shards: np.ndarray, plan: Sequence[np.ndarray]) -> float:
    """Share of pairs within the batches, in their order, that come from one shard."""
    pairs = [np.diff(shards[batch]) == 0 for batch in plan]
    return float(np.concatenate(pairs).mean())


def _table(result: dict[str, Any]) -> list[str]:
    lines = [f"{'records':>10}  {'indexed':>8}  {'first step':>10}  {'processor':>9}  "
             f"{'peak resident':>13}  images/s read"]
    for number, found in result.items():
        if number == "mixing":
            continue
        train = found["train"]
        lines.append(f"{number:>10}  {train['indexed']:6.1f} s  {train['first_step']:8.1f} s  "
                     f"{train['processor']:7.1f} s  "
                     f"{train['resident'] / 2**20:9.0f} MiB  "
                     f"{found['input']['images_per_second']:13.0f}")
    mixed = result["mixing"]
    lines.append(f"shards in a batch against a uniform shuffle: chi-square "
                 f"{mixed['chi_square']:+.1f} standard deviations, rank correlation "
                 f"{mixed['rank_correlation']:+.1f}, neighbours from one shard "
                 f"{mixed['same_shard']:.2%} (expected {mixed['expected_same_shard']:.2%})")
    return lines


if __name__ == "__main__":
    main()
