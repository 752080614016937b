"""Fuzz test of everything that reads files: `python -m tests.fuzz`.

The cases run in subprocesses, so that a crash of native code, a hang and memory above the limit are
found as well. A fault is reported with the numbers of its cases; the same number gives the same
file.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from aocr.checkpoints import config_file, model_files
from aocr.config import ModelConfig
from aocr.data import pipeline, sampler, writer
from aocr.data.index import build_index
from aocr.errors import AocrError, SkipError
from aocr.images import header_ops, preprocessing
from aocr.inference.graph import RecognitionGraph
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer
from aocr.model import AttentionOCR
from aocr.tokenizer import Tokenizer
from tests import mutations
from tests.drawing import encoded, word

KINDS = ("records", "images", "annotations", "configs")  # the slowest first
MAX_GROWTH = 500  # MiB
WORKER = ("-m", "tests.fuzz", "--worker")
_GROUP_SIZE = 25
_TIMEOUT = 120.0  # seconds without a line from a worker
_MAX_PIXELS = 1 << 20  # low, so that the limit is tested as well
_CONFIG = ModelConfig(max_width=300, max_height=60, alphabet="AB", attn_num_hidden=8,
                      attn_num_layers=1)


@dataclass
class Report:
    """Result of a run.

    Attributes:
        cases: Number of cases by kind.
        outcomes: Number of cases by kind and outcome.
        faults: Crashes, hangs, tracebacks and excessive memory, each with its cases.
        growth: Largest growth of memory by kind, in MiB.
    """

    cases: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    growth: dict[str, int] = field(default_factory=dict)

    def add(self, other: Report) -> None:
        """Adds the report of other kinds."""
        self.cases += other.cases
        self.outcomes += other.outcomes
        self.faults += other.faults
        self.growth |= other.growth

    def lines(self) -> Iterator[str]:
        """Returns the report as text."""
        for kind, number in self.cases.items():
            outcomes = {name.split(": ", 1)[1]: count
                        for name, count in self.outcomes.most_common()
                        if name.startswith(f"{kind}: ")}
            text = ", ".join(f"{count} x {name}" for name, count in outcomes.items())
            yield f"{kind}: {number} cases, memory +{self.growth.get(kind, 0)} MiB; {text}"
        yield f"faults: {len(self.faults)}"
        yield from self.faults


def images(first: int, last: int, seed: int) -> Iterator[tuple[int, Counter[str]]]:
    """Runs damaged images through `predict_each`, and through a graph like those of exports."""
    graph = RecognitionGraph(_CONFIG, AttentionOCR(_CONFIG), _MAX_PIXELS)
    recognizer = CheckpointRecognizer("initial weights", graph)
    signature = [tf.TensorSpec([None], tf.string)]
    exported = tf.function(lambda encoded: preprocessing.preprocess_batch(
        header_ops.refuse_oversized(encoded, _MAX_PIXELS), _CONFIG),
                           autograph=False, input_signature=signature)
    originals = mutations.images()
    recognizer.predict(originals[:_GROUP_SIZE])
    yield 0, Counter()
    for start in range(first, last, _GROUP_SIZE):
        files: list[bytes] = []
        for n in range(start, min(start + _GROUP_SIZE, last)):
            chance = random.Random(f"image {seed} {n}")
            files.append(mutations.damaged(chance.choice(originals), originals, chance))
        outcomes: Counter[str] = Counter()
        for result in recognizer.predict_each(files):
            outcomes[result.reason if isinstance(result, SkipError) else "read"] += 1
        for file in files:
            try:
                exported([file])
                outcomes["read by the graph"] += 1
            except tf.errors.InvalidArgumentError:
                outcomes["refused by the graph"] += 1
        yield len(files), outcomes


def record_files(first: int, last: int, seed: int) -> Iterator[tuple[int, Counter[str]]]:
    """Indexes damaged TFRecords files, and reads them in batches."""
    tokenizer = Tokenizer(_CONFIG.alphabet)
    originals = [file for file in mutations.images() if len(file) < 3000]
    with tempfile.TemporaryDirectory() as folder:
        yield 0, Counter()
        for start in range(first, last, _GROUP_SIZE):
            paths = []
            for n in range(start, min(start + _GROUP_SIZE, last)):
                paths.append(f"{folder}/{n}")
                Path(paths[-1]).write_bytes(mutations.record_file(n, seed, originals))
            yield len(paths), _read_records(paths, tokenizer)
            for path in Path(folder).iterdir():
                path.unlink()


def _read_records(paths: list[str], tokenizer: Tokenizer) -> Counter[str]:
    """Reads several files together, without those that are refused."""
    outcomes: Counter[str] = Counter()
    while paths:
        try:
            index = build_index(paths, _CONFIG, tokenizer, _MAX_PIXELS)
        except AocrError as error:
            refused = [path for path in paths if path in re.split("[;: ]+", str(error))]
            assert len(refused) == 1, error
            assert "\n" not in str(error), error
            paths = [path for path in paths if path != refused[0]]
            outcomes["refused"] += 1
            continue
        outcomes["indexed"] += len(paths)
        plan = sampler.bucketed_batches(index, 8)
        data = pipeline.make_pipeline(index, plan, tokenizer, _CONFIG)
        for numbers, batch in zip(plan, data, strict=True):
            undecoded = pipeline.undecoded(numbers, batch)
            assert len(batch.records) + len(undecoded) == len(numbers)
            outcomes["records read"] += len(batch.records)
            outcomes["records undecodable"] += len(undecoded)
        outcomes["records skipped"] += len(index.skipped)
        break
    return outcomes


def annotation_files(first: int, last: int, seed: int) -> Iterator[tuple[int, Counter[str]]]:
    """Writes datasets of damaged annotations."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.png").write_bytes(encoded(word("A", (24, 12))))
        yield 0, Counter()
        for n in range(first, last):
            outcomes: Counter[str] = Counter()
            Path(folder, "list").write_bytes(mutations.annotation_file(n, seed))
            try:
                stats = writer.write_dataset(f"{folder}/list", f"{folder}/out",
                                             writer.DatasetOptions())
                assert stats.pairs + stats.skipped.total() == stats.lines
                outcomes["written"] += 1
            except AocrError as error:
                assert "\n" not in str(error), error
                outcomes["refused"] += 1
            yield 1, outcomes


def configs(first: int, last: int, seed: int) -> Iterator[tuple[int, Counter[str]]]:
    """Loads damaged `config.json` files."""
    with tempfile.TemporaryDirectory() as folder:
        config_file.save(folder, ModelConfig())
        path = Path(folder, model_files.CONFIG_FILE)
        original = path.read_bytes()
        yield 0, Counter()
        for n in range(first, last):
            outcomes: Counter[str] = Counter()
            path.write_bytes(mutations.config(n, seed, original))
            try:
                config_file.load(folder)
                outcomes["read"] += 1
            except AocrError as error:
                assert "\n" not in str(error), error
                assert str(path) in str(error), error
                outcomes["refused"] += 1
            yield 1, outcomes


_CASES: dict[str, Callable[[int, int, int], Iterator[tuple[int, Counter[str]]]]] = {
    "images": images, "records": record_files, "annotations": annotation_files,
    "configs": configs}


def _work(kind: str, first: int, last: int, seed: int) -> None:
    """Runs cases in a worker; prints a line for each group, with the memory used so far."""
    for number, outcomes in _CASES[kind](first, last, seed):
        text = "\t".join(f"{name}={count}" for name, count in outcomes.items())
        print(f"done {number}\t{peak_memory()}\t{text}", flush=True)


def peak_memory() -> int:
    """Returns the peak memory of this process in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) >> 10
    return 0


def run(numbers: Mapping[str, int], seed: int) -> Report:
    """Runs the given number of cases of each kind, one kind per processor at a time."""
    start = time.monotonic()

    def run_kind(kind: str) -> Report:
        report = _run_kind(kind, numbers[kind], seed)
        text = "; ".join(report.lines())
        print(f"{time.monotonic() - start:.0f} s: {text}", flush=True)
        return report

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        total = Report()
        for report in pool.map(run_kind, numbers):
            total.add(report)
        return total


def _run_kind(kind: str, number: int, seed: int) -> Report:
    """Runs all cases of a kind; a worker that ends early is replaced."""
    first, report = 0, Report()
    while first < number:
        first = _watch(kind, first, number, seed, report)
    return report


def _watch(kind: str, first: int, last: int, seed: int, report: Report) -> int:
    """Runs a worker; returns the case to continue with."""
    command = [sys.executable, *WORKER, kind, str(first), str(last), str(seed)]
    with tempfile.TemporaryFile("w+") as errors, subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True,
            cwd=Path(__file__).parents[1]) as worker:
        initial, reason = 0, "ended"
        for line in _read_lines(worker):
            head, peak, *outcomes = line.rstrip("\n").split("\t")
            done, memory = int(head.removeprefix("done ")), int(peak)
            initial = initial or memory
            first += done
            report.cases[kind] += done
            report.growth[kind] = max(report.growth.get(kind, 0), memory - initial)
            for outcome in filter(None, outcomes):
                name, count = outcome.rsplit("=", 1)
                report.outcomes[f"{kind}: {name}"] += int(count)
        try:
            code = worker.wait(10)
        except subprocess.TimeoutExpired:
            reason = "hung"
            worker.kill()
            code = worker.wait()
        errors.seek(0)
        last_line = errors.read().strip().splitlines()[-1:]
    if report.growth.get(kind, 0) > MAX_GROWTH:
        report.faults.append(f"{kind} before {first}: memory +{report.growth[kind]} MiB")
    if first < last:
        report.faults.append(f"{kind} from {first}: worker {reason} with {code}: {last_line}")
        report.cases[kind] += min(_GROUP_SIZE, last - first)
        first += _GROUP_SIZE
    return first


def _read_lines(worker: subprocess.Popen[str]) -> Iterator[str]:
    """Yields the lines of a worker, until it ends or writes nothing for too long."""
    assert worker.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(worker.stdout, selectors.EVENT_READ)
        while selector.select(_TIMEOUT):
            line = worker.stdout.readline()
            if not line:
                return
            yield line


def main() -> int:
    """Runs the fuzz test; the exit code is 1 if there is a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    for kind, number in zip(KINDS, (20_000, 20_000, 5_000, 5_000), strict=True):
        parser.add_argument(f"--{kind}", type=int, default=number, metavar="N")
    args = parser.parse_args()
    report = run({kind: getattr(args, kind) for kind in KINDS}, args.seed)
    print("\n".join(report.lines()), flush=True)
    return 1 if report.faults else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        _work(sys.argv[2], *map(int, sys.argv[3:6]))
    else:
        sys.exit(main())
