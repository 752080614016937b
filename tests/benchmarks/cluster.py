"""Two workers over loopback against one process with the same batch, and what talking costs.

    python -m tests.benchmarks.cluster [--steps N] [--json FILE]

Every process has one core to compute on, the one alone as well, so that the shares of the two
workers show what they would do on machines of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests import distributed
from tests.benchmarks import machine

BATCH = 64
_WIDTH = 75
_WARM = 3


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints a table, and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--json")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.here:
        print(json.dumps(_here(args.steps)))
        return
    found = {"alone": _started(args.steps, 1), "two workers": _started(args.steps, 2),
             "machine": machine.facts()}
    for line in _table(found):
        print(line)
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _started(steps: int, workers: int) -> dict[str, float]:
    ports = distributed.free_ports(workers)
    command = [sys.executable, "-m", "tests.benchmarks.cluster", "--here", "--steps", str(steps)]
    processes = []
    for number in range(workers):
        one_core = {"TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"}
        processes.append(subprocess.Popen(
            command, env={**distributed.environment((number, ports)), **one_core},
            stdout=subprocess.PIPE, text=True))
        if number < os.cpu_count():  # type: ignore[operator]
            os.sched_setaffinity(processes[-1].pid, {number})
    outputs = [process.communicate()[0] for process in processes]
    found: dict[str, float] = json.loads(outputs[0].splitlines()[-1])
    return found


def _here(steps: int) -> dict[str, float]:
    """Medians of a whole step, and of a sum over all workers as large as its gradients."""
    import numpy as np
    import tensorflow as tf

    from aocr.config import ModelConfig, TrainConfig
    from aocr.data.pipeline import Batch
    from aocr.runtime import collectives, distributed
    from aocr.training.step import Trainer

    joined = distributed.join([-1])
    trainer = Trainer(ModelConfig(70, 30, 4), TrainConfig(), joined)
    # Some are narrower: without any padding one device takes a faster batch norm than several.
    widths = np.where(np.arange(BATCH) < BATCH // 8, _WIDTH - 8, _WIDTH).astype(np.int32)
    own = widths[joined.local_rows(BATCH)]
    batch = Batch(tf.random.stateless_normal([len(own), 32, _WIDTH, 1], [1, joined.worker]),
                  tf.constant(own), tf.fill([len(own), 5], 3),
                  tf.range(len(own), dtype=tf.int64), tf.fill([len(own)], ""))
    shapes = [variable.shape for variable in trainer.model.trainable_variables]

    @tf.function(autograph=False)
    def talk() -> tf.Tensor:
        sums = joined.strategy.run(lambda: collectives.all_reduce_sum(
            [tf.ones(shape) for shape in shapes])[0])
        return joined.strategy.experimental_local_results(sums)[0]

    step = _median(lambda: trainer.take_step(batch, widths), steps)
    return {"step": step, "sum": _median(talk, steps),
            "bytes": 4 * sum(int(np.prod(shape)) for shape in shapes)}


def _median(call: Callable[[], Any], rounds: int) -> float:
    seconds = []
    for _ in range(_WARM + rounds):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[_WARM:])


def _table(found: dict[str, Any]) -> list[str]:
    alone, two = found["alone"], found["two workers"]
    share = two["step"] / alone["step"]
    return [f"batch {BATCH}, default network, {two['bytes'] / 1e6:.1f} MB of gradients",
            f"step alone on one core        {alone['step']:8.3f} s",
            f"step of two workers           {two['step']:8.3f} s, {share:.2f} of that alone "
            "(0.50 would be perfect)",
            f"sum of gradients alone        {two['sum']:8.3f} s, {two['sum'] / two['step']:.1%} of "
            "a step of two workers"]


if __name__ == "__main__":
    main()
