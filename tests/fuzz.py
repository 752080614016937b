"""Feeds damaged files to everything that reads files: `python -m tests.fuzz`.

The work is done in processes of their own, so that a crash of native code, a hang and memory
above the limit are found like anything else. What is found is told with the number of its case:
the same number makes the same file.
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

from aocr.checkpoints import config_file
from aocr.config import ModelConfig
from aocr.data import pipeline, sampler, writer
from aocr.data.index import build_index
from aocr.errors import AocrError, SkipError
from aocr.images import header_ops, preprocessing
from aocr.inference.graph import RecognitionGraph
from aocr.inference.recognizer import CheckpointRecognizer
from aocr.model import AttentionOCR
from aocr.tokenizer import Tokenizer
from tests import mutations
from tests.drawing import encoded, word

KINDS = ("records", "images", "annotations", "configs")  # the longest first
MAX_GROWTH = 500  # MiB
WORKER = ("-m", "tests.fuzz", "--worker")
_GROUP = 25
_PATIENCE = 120.0  # seconds without a word from a worker
_LIMIT = 1 << 20  # pixels: what is refused above the limit is refused below it in the same way
_CONFIG = ModelConfig(max_width=300, max_height=60, alphabet="AB", attn_num_hidden=8,
                      attn_num_layers=1)


@dataclass
class Found:
    """What a run has met.

    Attributes:
        ran: Cases by kind.
        outcomes: How they ended, by kind.
        faults: Crashes, hangs, tracebacks and memory, each with its cases.
        growth: Most memory beyond the normal size by kind, in MiB.
    """

    ran: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    growth: dict[str, int] = field(default_factory=dict)

    def add(self, other: Found) -> None:
        """Adds what another run, of other kinds, has met."""
        self.ran += other.ran
        self.outcomes += other.outcomes
        self.faults += other.faults
        self.growth |= other.growth

    def lines(self) -> Iterator[str]:
        """For people."""
        for kind, number in self.ran.items():
            ends = {name.split(": ", 1)[1]: count for name, count in self.outcomes.most_common()
                    if name.startswith(f"{kind}: ")}
            told = ", ".join(f"{count} x {name}" for name, count in ends.items())
            yield f"{kind}: {number} ran, at most {self.growth.get(kind, 0)} MiB more; {told}"
        yield f"faults: {len(self.faults)}"
        yield from self.faults


def images(first: int, last: int, seed: int) -> Iterator[tuple[int, Counter[str]]]:
    """Damaged images through `predict_each`, and through a graph as servers have it."""
    graph = RecognitionGraph(_CONFIG, AttentionOCR(_CONFIG), _LIMIT)
    recognizer = CheckpointRecognizer("start values", graph)
    signature = [tf.TensorSpec([None], tf.string)]
    served = tf.function(lambda given: preprocessing.preprocess_batch(
        header_ops.refuse_oversized(given, _LIMIT), _CONFIG),
                         autograph=False, input_signature=signature)
    whole = mutations.images()
    recognizer.predict(whole[:_GROUP])
    yield 0, Counter()
    for start in range(first, last, _GROUP):
        files: list[bytes] = []
        for n in range(start, min(start + _GROUP, last)):
            chance = random.Random(f"image {seed} {n}")
            files.append(mutations.damaged(chance.choice(whole), whole, chance))
        ends: Counter[str] = Counter()
        for answer in recognizer.predict_each(files):
            ends[answer.reason if isinstance(answer, SkipError) else "read"] += 1
        for file in files:
            try:
                served([file])
                ends["served"] += 1
            except tf.errors.InvalidArgumentError:
                ends["refused by the graph"] += 1
        yield len(files), ends


def record_files(first: int, last: int, seed: int) -> Iterator[tuple[int, Counter[str]]]:
    """Damaged files of records through index, read and batches."""
    tokenizer = Tokenizer(_CONFIG.alphabet)
    whole = [file for file in mutations.images() if len(file) < 3000]
    with tempfile.TemporaryDirectory() as folder:
        yield 0, Counter()
        for start in range(first, last, _GROUP):
            paths = []
            for n in range(start, min(start + _GROUP, last)):
                paths.append(f"{folder}/{n}")
                Path(paths[-1]).write_bytes(mutations.record_file(n, seed, whole))
            yield len(paths), _read_records(paths, tokenizer)
            for path in Path(folder).iterdir():
                path.unlink()


def _read_records(paths: list[str], tokenizer: Tokenizer) -> Counter[str]:
    """Reads several files at once, without those that are refused."""
    ends: Counter[str] = Counter()
    while paths:
        try:
            index = build_index(paths, _CONFIG, tokenizer, _LIMIT)
        except AocrError as error:
            refused = [path for path in paths if path in re.split("[;: ]+", str(error))]
            assert len(refused) == 1, error
            assert "\n" not in str(error), error
            paths = [path for path in paths if path != refused[0]]
            ends["refused"] += 1
            continue
        ends["indexed"] += len(paths)
        plan = sampler.bucketed_batches(index, 8)
        data = pipeline.make_pipeline(index, plan, tokenizer, _CONFIG)
        for numbers, batch in zip(plan, data, strict=True):
            lost = pipeline.undecoded(numbers, batch)
            assert len(batch.records) + len(lost) == len(numbers)
            ends["records read"] += len(batch.records)
            ends["records undecodable"] += len(lost)
        ends["records skipped"] += len(index.skipped)
        break
    return ends


def annotation_files(first: int, last: int, seed: int) -> Iterator[tuple[int, Counter[str]]]:
    """Damaged annotations through the `dataset` command."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.png").write_bytes(encoded(word("A", (24, 12))))
        yield 0, Counter()
        for n in range(first, last):
            ends: Counter[str] = Counter()
            Path(folder, "list").write_bytes(mutations.annotation_file(n, seed))
            try:
                summary = writer.write_dataset(f"{folder}/list", f"{folder}/out",
                                               writer.DatasetOptions())
                assert summary.pairs + summary.skipped.total() == summary.lines
                ends["written"] += 1
            except AocrError as error:
                assert "\n" not in str(error), error
                ends["refused"] += 1
            yield 1, ends


def configs(first: int, last: int, seed: int) -> Iterator[tuple[int, Counter[str]]]:
    """Damaged `config.json` files."""
    with tempfile.TemporaryDirectory() as folder:
        config_file.save(folder, ModelConfig())
        path = Path(folder, config_file.NAME)
        whole = path.read_bytes()
        yield 0, Counter()
        for n in range(first, last):
            ends: Counter[str] = Counter()
            path.write_bytes(mutations.config(n, seed, whole))
            try:
                config_file.load(folder)
                ends["read"] += 1
            except AocrError as error:
                assert "\n" not in str(error), error
                assert str(path) in str(error), error
                ends["refused"] += 1
            yield 1, ends


_WORK: dict[str, Callable[[int, int, int], Iterator[tuple[int, Counter[str]]]]] = {
    "images": images, "records": record_files, "annotations": annotation_files,
    "configs": configs}


def _work(kind: str, first: int, last: int, seed: int) -> None:
    """The worker: a line for each group of cases, with the memory it has taken so far."""
    for number, ends in _WORK[kind](first, last, seed):
        told = "\t".join(f"{name}={count}" for name, count in ends.items())
        print(f"done {number}\t{_most_memory()}\t{told}", flush=True)


def _most_memory() -> int:
    """Most memory that this process has had, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) >> 10
    return 0


def run(numbers: Mapping[str, int], seed: int) -> Found:
    """So many cases of each kind, as many kinds at a time as there are processors."""
    begun = time.monotonic()

    def one(kind: str) -> Found:
        found = _run_kind(kind, numbers[kind], seed)
        told = "; ".join(found.lines())
        print(f"{time.monotonic() - begun:.0f} s: {told}", flush=True)
        return found

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        whole = Found()
        for found in pool.map(one, numbers):
            whole.add(found)
        return whole


def _run_kind(kind: str, number: int, seed: int) -> Found:
    """All cases of a kind; a worker that has died is followed by another one."""
    first, found = 0, Found()
    while first < number:
        first = _watch(kind, first, number, seed, found)
    return found


def _watch(kind: str, first: int, last: int, seed: int, found: Found) -> int:
    """Runs a worker; returns the case to go on with."""
    words = [sys.executable, *WORKER, kind, str(first), str(last), str(seed)]
    with tempfile.TemporaryFile("w+") as errors, subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=errors, text=True,
            cwd=Path(__file__).parents[1]) as worker:
        normal, reason = 0, "ended"
        for line in _spoken(worker):
            head, most, *ends = line.rstrip("\n").split("\t")
            done, memory = int(head.removeprefix("done ")), int(most)
            normal = normal or memory
            first += done
            found.ran[kind] += done
            found.growth[kind] = max(found.growth.get(kind, 0), memory - normal)
            for end in filter(None, ends):
                name, count = end.rsplit("=", 1)
                found.outcomes[f"{kind}: {name}"] += int(count)
        try:
            code = worker.wait(10)
        except subprocess.TimeoutExpired:
            reason = "hung"
            worker.kill()
            code = worker.wait()
        errors.seek(0)
        told = errors.read().strip().splitlines()[-1:]
    if found.growth.get(kind, 0) > MAX_GROWTH:
        found.faults.append(f"{kind} before {first}: {found.growth[kind]} MiB more")
    if first < last:
        found.faults.append(f"{kind} from {first} on: worker {reason} with {code}: {told}")
        found.ran[kind] += min(_GROUP, last - first)
        first += _GROUP
    return first


def _spoken(worker: subprocess.Popen[str]) -> Iterator[str]:
    """The worker's lines, until it ends or says nothing for too long."""
    assert worker.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(worker.stdout, selectors.EVENT_READ)
        while selector.select(_PATIENCE):
            line = worker.stdout.readline()
            if not line:
                return
            yield line


def main() -> int:
    """Runs what is asked for; exit status 1 when anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    for kind, number in zip(KINDS, (20_000, 20_000, 5_000, 5_000), strict=True):
        parser.add_argument(f"--{kind}", type=int, default=number, metavar="N")
    args = parser.parse_args()
    found = run({kind: getattr(args, kind) for kind in KINDS}, args.seed)
    print("\n".join(found.lines()), flush=True)
    return 1 if found.faults else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        _work(sys.argv[2], *map(int, sys.argv[3:6]))
    else:
        sys.exit(main())
