"""Training on one device, on two devices of a process, or by two processes.

    python -m tests.distributed RECORDS alone|mirrored|worker STEPS PRECISION...

Prints losses, mean absolute weights and the state of gradient clipping: of the given number of
steps in precision float64, and of one step in any other precision. A worker needs `TF_CONFIG`.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import aocr
from aocr.config import FLOAT32, ModelConfig, TrainConfig
from aocr.data import example, pipeline
from aocr.data.example import Record
from aocr.data.index import build_index
from aocr.data.sampler import Position
from aocr.runtime import distributed
from aocr.runtime.distributed import Cluster
from aocr.tokenizer import Tokenizer
from aocr.training.batches import TrainingBatches
from aocr.training.state import TrainingState
from aocr.training.step import TrainStep
from tests.drawing import encoded, undecodable_png, word

# Wide images beside narrow ones, so that batches are packed; the last one is smaller.
BATCH, COUNT = 12, 23
CONFIG = ModelConfig(max_width=80, max_height=32, max_prediction=5, alphabet="ABCDE",
                     attn_num_hidden=8)


def dataset(path: Path) -> Path:
    """Writes records of words of several widths, one of them undecodable."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for n in range(COUNT):
            text = "ABCDE"[:1 + n % 5]
            image = undecodable_png() if n == 5 else encoded(word(text, (9 + 9 * (n % 5), 24)))
            writer.write(example.encode(Record(image, text, "")))
    return path


def environment(task: tuple[int, Sequence[int]] | None = None) -> dict[str, str]:
    """Returns the environment of a process; with a task, of a worker with its number and ports."""
    variables = {**os.environ, "PYTHONPATH": str(Path(aocr.__file__).parents[1])}
    if task is not None:
        number, ports = task
        variables[distributed.CONFIG_VARIABLE] = json.dumps({
            "cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]},
            "task": {"type": "worker", "index": number}})
    return variables


def free_ports(count: int = 2) -> list[int]:
    """Returns ports that are not in use."""
    sockets = [socket.socket() for _ in range(count)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def run(data: Path, how: str, steps: int, precisions: Sequence[str]
        ) -> list[dict[str, dict[str, list[float]]]]:
    """Trains as `how` says; returns what each process prints."""
    command = [sys.executable, "-m", "tests.distributed", str(data), how, str(steps), *precisions]
    ports = free_ports()
    tasks = [(n, ports) for n in range(2)] if how == "worker" else [None]
    processes = [subprocess.Popen(command, env=environment(task), stdout=subprocess.PIPE, text=True,
                                  cwd=Path(__file__).parents[1]) for task in tasks]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def _join(how: str) -> Cluster:
    if how == "mirrored":
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        return Cluster(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    return distributed.join([-1])


def _train(data: str, cluster: Cluster, precision: str, steps: int) -> dict[str, list[float]]:
    tokenizer = Tokenizer(CONFIG.alphabet)
    index = build_index([data], CONFIG, tokenizer)
    exact = precision == "float64"
    settings = TrainConfig(BATCH, augment="strong",
                           precision=FLOAT32 if exact else precision)
    state = TrainingState(CONFIG, settings, cluster, tf.float64 if exact else tf.float32)
    step = TrainStep(state, CONFIG, settings, cluster)
    batches = TrainingBatches(index, tokenizer, CONFIG, settings, cluster)
    losses = []
    start = Position(0, 0)
    for local in itertools.islice(batches.read_from(start, start), steps):
        batch = pipeline.fill_undecodable(local.batch, local.records, cluster.local_replicas)
        losses.append(step.run(batch, index.width[local.plan.records]).loss)
    step.recalibrate_batch_norm()
    clipping = [float(variable.numpy()) for variable in state.clipping.variables]
    return {"losses": losses, "clipping": clipping, "weights": [
        float(np.abs(variable.numpy()).mean())
        for model in (state.model, state.average.model) for variable in model.variables]}


if __name__ == "__main__":
    _, DATA, HOW, STEPS, *NAMES = sys.argv
    CLUSTER = _join(HOW)
    print(json.dumps({name: _train(DATA, CLUSTER, name, int(STEPS) if name == "float64" else 1)
                      for name in NAMES}))
