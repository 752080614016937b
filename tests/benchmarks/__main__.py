"""All measurements but those of the server: a table, and JSON.

    python -m tests.benchmarks [--only NAME]... [--json FILE]

Each row runs in a process of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.benchmarks import machine

# Name → module and function, in the order of the table.
ROWS = {
    "step": "training.step", "input": "training.pipeline",
    "augment": "training.augmented", "precision": "precision.steps",
    "own-width": "training.own_width", "test": "reading.in_batches", "test-bfloat16":
    "precision.in_batches", "one": "reading.one", "export": "reading.exported",
    "dataset": "datasets.one_job", "dataset-2": "datasets.two_jobs", "cold": "reading.cold",
    "memory": "training.memory", "flat": "training.flat", "labels": "reading.labels",
    "growth": "datasets.growth"}


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints a table, and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=ROWS, metavar="NAME",
                        help="one row; again for more: " + ", ".join(ROWS))
    parser.add_argument("--json", metavar="FILE", help="where the figures go as JSON")
    parser.add_argument("--here", choices=ROWS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.here:
        print(json.dumps(_here(args.here)))
        return
    facts = machine.facts()
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print(f"{'what':<60}{'figure':>8}{'goal':>10}  reached  by processor  seconds")
    rows = {}
    for name in args.only or ROWS:
        rows[name] = _apart(name)
        print(_line(rows[name]), flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps({"machine": facts, "rows": rows}, indent=1) + "\n",
                                   encoding="utf-8")


def _apart(name: str) -> dict[str, Any]:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "tests.benchmarks", "--here", name],
                          stdout=subprocess.PIPE, check=True, text=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**row, "took": time.perf_counter() - start, "load": os.getloadavg()[0]}


def _here(name: str) -> dict[str, Any]:
    from aocr.runtime import startup
    from aocr.runtime.console import log

    startup.import_tensorflow()
    log.setLevel("ERROR")
    module, _, function = ROWS[name].partition(".")
    measure: Callable[[], Any] = getattr(import_module(f"tests.benchmarks.{module}"), function)
    row = measure()
    return {**dataclasses.asdict(row), "reached": row.reached}


def _line(row: dict[str, Any]) -> str:
    goal = f"{'<=' if row['most'] else '>='} {row['goal']:g}"
    processor = row["details"].get("by_processor")
    reached = "yes" if row["reached"] else "no"
    return (f"{row['what']:<60}{row['figure']:>8.3f}{goal:>10}  {reached:<7}"
            f"  {f'{processor:.3f}' if processor else '':>12}  {row['took']:7.0f}")


if __name__ == "__main__":
    main()
