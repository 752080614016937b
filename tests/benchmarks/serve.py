"""Measures the throughput of `aocr serve` relative to its SavedModel called in a loop.

    python -m tests.benchmarks.serve EXPORTED IMAGES... [--json FILE] [--flat N]

EXPORTED is a directory of numbered versions, IMAGES are the files to send. Server, client and loop
run in separate processes; the loop runs before and after server and client, which share the cores.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests import serving

_BATCH = 32


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark, prints a table and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("exported")
    parser.add_argument("images", nargs="+")
    parser.add_argument("--json")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--flat", type=int, default=0, metavar="N",
                        help="also measure the growth of resident memory over N requests")
    parser.add_argument("--part", choices=("loop", "client"), help=argparse.SUPPRESS)
    parser.add_argument("--connections", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.part == "loop":
        print(json.dumps(_loop(args)))
    elif args.part == "client":
        print(json.dumps(asyncio.run(_client(args))))
    else:
        _measure(args)


def _measure(args: argparse.Namespace) -> None:
    result: dict[str, Any] = {"loop": _part(args, "loop")}
    with tempfile.TemporaryFile("w+") as log, serving.in_process(
            Path(args.exported).absolute(), log, "--log-path", os.devnull) as (client, process):
        result["served"] = [_part(args, "client", client.rest, connections)
                            for connections in (1, 8, 32)]
        if args.flat:
            result["flat"] = _flat(args, client.rest, process.pid)
    result["loop_again"] = _part(args, "loop")
    for line in _table(result):
        print(line)
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _part(args: argparse.Namespace, part: str, port: int = 0, connections: int = 1
          ) -> dict[str, Any]:
    """Runs the loop or the client in a process."""
    command = [sys.executable, "-m", "tests.benchmarks.serve", args.exported, *args.images,
               "--part", part, "--port", str(port), "--connections", str(connections),
               "--seconds", str(args.seconds)]
    completed = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    figures: dict[str, Any] = json.loads(completed.stdout)
    return figures


def _loop(args: argparse.Namespace) -> dict[str, Any]:
    """Calls the SavedModel in a loop, with one image per call and with 32."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the CLI sets it
    import tensorflow as tf

    files = [Path(name).read_bytes() for name in args.images]
    versions = sorted((path for path in Path(args.exported).iterdir() if path.name.isdecimal()),
                      key=lambda path: int(path.name))
    model = tf.saved_model.load(str(versions[-1]))
    predict = model.signatures["serving_default"]
    figures = {}
    for name, size in (("single", 1), ("batch", _BATCH)):
        batches = [[files[(start + n) % len(files)] for n in range(size)]
                   for start in range(0, len(files), size)]
        for batch in batches[:5]:
            predict(input=tf.constant(batch))
        times: list[float] = []
        while sum(times) < args.seconds:
            start = time.perf_counter()
            outputs = predict(input=tf.constant(batches[len(times) % len(batches)]))
            outputs["output"].numpy()
            times.append(time.perf_counter() - start)
        figures[name] = {"images_per_second": size * len(times) / sum(times),
                        "median_ms": 1000 * statistics.median(times)}
    return figures


async def _client(args: argparse.Namespace) -> dict[str, Any]:
    """Sends requests on several connections, each as soon as the previous one has a response."""
    requests = [_request(Path(name).read_bytes()) for name in args.images]
    times: list[float] = []
    deadline = time.perf_counter() + args.seconds

    async def connection(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", args.port)
        n = first
        while time.perf_counter() < deadline:
            start = time.perf_counter()
            writer.write(requests[n % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            body = await reader.readexactly(length)
            times.append(time.perf_counter() - start)
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"{head!r} {body!r}")
            n += args.connections
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(connection(n) for n in range(args.connections)))
    seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_SELF)
    times.sort()
    return {"connections": args.connections, "requests": len(times),
            "images_per_second": len(times) / seconds,
            "median_ms": 1000 * statistics.median(times),
            "p99_ms": 1000 * times[int(0.99 * (len(times) - 1))],
            "client_cpu_share": (usage.ru_utime + usage.ru_stime) / seconds}


def _request(image: bytes) -> bytes:
    body = json.dumps({"inputs": {"b64": base64.b64encode(image).decode()}})
    return (f"POST /v1/models/{serving.NAME}:predict HTTP/1.1\r\nhost: localhost\r\n"
            f"content-length: {len(body)}\r\n\r\n{body}").encode()


def _flat(args: argparse.Namespace, port: int, process: int) -> dict[str, Any]:
    """Measures the resident memory of the server at intervals over many requests."""
    sizes, done = [serving.resident_bytes(process)], 0
    started = time.perf_counter()
    while done < args.flat:
        done += _part(args, "client", port, _BATCH)["requests"]
        sizes.append(serving.resident_bytes(process))
    return {"requests": done, "seconds": time.perf_counter() - started, "bytes": sizes,
            "growth": sizes[-1] / sizes[0] - 1}


def _table(result: dict[str, Any]) -> list[str]:
    loops = [result["loop"], result["loop_again"]]
    batch = statistics.mean(loop["batch"]["images_per_second"] for loop in loops)
    single_ms = statistics.mean(loop["single"]["median_ms"] for loop in loops)
    lines = [f"SavedModel in a loop: {batch:.1f} images/s in batches of {_BATCH}; one image "
             f"{single_ms:.1f} ms (median)", "connections  images/s  of loop  median ms   p99 ms  "
             "client CPU"]
    for row in result["served"]:
        lines.append(f"{row['connections']:11}  {row['images_per_second']:8.1f}  "
                     f"{row['images_per_second'] / batch:7.0%}  {row['median_ms']:9.1f}  "
                     f"{row['p99_ms']:7.1f}  {row['client_cpu_share']:.0%}")
    lines.append(f"one connection, overhead over the model call: "
                 f"{result['served'][0]['median_ms'] - single_ms:.1f} ms")
    if "flat" in result:
        flat = result["flat"]
        lines.append(f"resident memory over {flat['requests']} requests: "
                     f"{flat['bytes'][0] / 2**20:.0f} → {flat['bytes'][-1] / 2**20:.0f} MiB "
                     f"({flat['growth']:+.1%})")
    return lines


if __name__ == "__main__":
    main()
