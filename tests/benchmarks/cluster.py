"""Two workers over loopback against one process with the same batch, and what communication costs.

    python -m tests.benchmarks.cluster [--steps N] [--json FILE]

Every process computes on one core, the single one as well, so that the two workers show what they
would do on machines of their own.
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
_WARM_UP = 3


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints a table, and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--json")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        print(json.dumps(_measure(args.steps)))
        return
    results = {"alone": _run_workers(args.steps, 1), "two workers": _run_workers(args.steps, 2),
               "machine": machine.facts()}
    for line in _table(results):
        print(line)
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _run_workers(steps: int, workers: int) -> dict[str, float]:
    ports = distributed.free_ports(workers)
    command = [sys.executable, "-m", "tests.benchmarks.cluster", "--worker", "--steps", str(steps)]
    processes = []
    for number in range(workers):
        one_core = {"TF_NUM_INTRAOP_THREADS": "1", "OMP_NUM_THREADS": "1"}
        processes.append(subprocess.Popen(
            command, env={**distributed.environment((number, ports)), **one_core},
            stdout=subprocess.PIPE, text=True))
        if number < os.cpu_count():  # type: ignore[operator]
            os.sched_setaffinity(processes[-1].pid, {number})
    outputs = [process.communicate()[0] for process in processes]
    result: dict[str, float] = json.loads(outputs[0].splitlines()[-1])
    return result


def _measure(steps: int) -> dict[str, float]:
    """Medians of a step, and of an all-reduce as large as its gradients, in this worker."""
    import numpy as np
    import tensorflow as tf

    from aocr.config import ModelConfig, TrainConfig
    from aocr.data.pipeline import Batch
    from aocr.runtime import collectives, distributed
    from aocr.training.state import TrainingState
    from aocr.training.step import TrainStep

    cluster = distributed.join([-1])
    config, settings = ModelConfig(70, 30, 4), TrainConfig()
    state = TrainingState(config, settings, cluster)
    train_step = TrainStep(state, config, settings, cluster)
    # Some are narrower: without padding, one replica uses a faster batch norm than several.
    widths = np.where(np.arange(BATCH) < BATCH // 8, _WIDTH - 8, _WIDTH).astype(np.int32)
    local = widths[cluster.local_rows(BATCH)]
    batch = Batch(tf.random.stateless_normal([len(local), 32, _WIDTH, 1], [1, cluster.worker]),
                  tf.constant(local), tf.fill([len(local), 5], 3),
                  tf.range(len(local), dtype=tf.int64), tf.fill([len(local)], ""))
    shapes = [variable.shape for variable in state.model.trainable_variables]

    @tf.function(autograph=False)
    def all_reduce() -> tf.Tensor:
        sums = cluster.strategy.run(lambda: collectives.all_reduce_sum(
            [tf.ones(shape) for shape in shapes])[0])
        return cluster.strategy.experimental_local_results(sums)[0]

    step = _median(lambda: train_step.run(batch, widths), steps)
    return {"step": step, "sum": _median(all_reduce, steps),
            "bytes": 4 * sum(int(np.prod(shape)) for shape in shapes)}


def _median(call: Callable[[], Any], rounds: int) -> float:
    seconds = []
    for _ in range(_WARM_UP + rounds):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[_WARM_UP:])


def _table(results: dict[str, Any]) -> list[str]:
    alone, two = results["alone"], results["two workers"]
    share = two["step"] / alone["step"]
    return [f"batch {BATCH}, default network, {two['bytes'] / 1e6:.1f} MB of gradients",
            f"step of one process           {alone['step']:8.3f} s",
            f"step of two workers           {two['step']:8.3f} s, {share:.2f} of that "
            "(ideal: 0.50)",
            f"all-reduce of its gradients   {two['sum']:8.3f} s, {two['sum'] / two['step']:.1%} of "
            "a step of two workers"]


if __name__ == "__main__":
    main()
