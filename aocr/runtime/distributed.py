"""The devices and machines of one command: who takes part, who reads which images, who writes."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from aocr.errors import AocrError, reason
from aocr.runtime import collectives, console
from aocr.runtime.console import log
from aocr.runtime.devices import use_gpus

CONFIG_VARIABLE = "TF_CONFIG"
# The first machine of the first kind is the chief; ML Engine called it the master.
_WORKERS = ("chief", "master", "worker")


class Task(NamedTuple):
    """One process among several: the addresses of all, `host:port`, and its own number."""

    addresses: list[str]
    number: int


class Cluster:
    """All replicas of a training; a replica is a device that takes its share of every batch.

    Args:
        strategy: TensorFlow's.
        workers: Processes.
        worker: This one's number; 0 is the chief.
    """

    def __init__(self, strategy: tf.distribute.Strategy, workers: int = 1, worker: int = 0
                 ) -> None:
        self.strategy = strategy
        self.workers = workers
        self.worker = worker
        self.replicas = int(strategy.num_replicas_in_sync)
        self.local_replicas = self.replicas // workers
        self._sum = tf.function(
            lambda votes: strategy.run(_placed_total, (votes,)), autograph=False,
            input_signature=[tf.TensorSpec([None], tf.float64)])

    @property
    def chief(self) -> bool:
        """Whether this process is the one that writes."""
        return self.worker == 0

    def local_rows(self, count: int) -> np.ndarray:
        """Which of the rows 0…`count` - 1 of a batch this process takes, `[count]` bool.

        Rows are dealt out in turn: they come in the order of their widths, and every device gets
        as many wide ones.
        """
        return np.arange(count) % self.replicas // self.local_replicas == self.worker

    def all_reduce_sum(self, votes: np.ndarray) -> np.ndarray:
        """The sum of what every process says, `[n]` float64; all must call it."""
        if self.workers == 1:
            return votes
        first = self.strategy.experimental_local_results(self._sum(tf.constant(votes)))[0]
        # Every device of a process repeats its vote.
        summed: np.ndarray = first.numpy() / self.local_replicas
        return summed

    def all_gather(self, said: list[Any]) -> list[Any]:
        """What all processes say, one list after the other; all must call it.

        Args:
            said: Values that JSON knows.
        """
        if self.workers == 1:
            return said
        text = np.frombuffer(json.dumps(said).encode(), np.uint8)
        own = np.eye(1, self.workers, self.worker)[0]
        lengths = [int(length) for length in self.all_reduce_sum(own * len(text))]
        padded = np.pad(text.astype(np.float64), [0, max(lengths) - len(text)])
        texts = self.all_reduce_sum(np.outer(own, padded).ravel()).astype(np.uint8)
        return [each for row, length in zip(np.split(texts, self.workers), lengths, strict=True)
                for each in json.loads(row[:length].tobytes())]

    def require_agreement(self, own: Mapping[str, int]) -> None:
        """Makes sure that all processes mean the same; all must call it.

        Args:
            own: Names of what must be the same, and what it is here, exact in float64.

        Raises:
            AocrError: They differ.
        """
        table = np.zeros([self.workers, len(own)])
        table[self.worker] = list(own.values())
        summed = self.all_reduce_sum(table.ravel()).reshape(table.shape)
        for name, found in zip(own, summed.T, strict=True):
            if len(set(found)) > 1:
                raise AocrError(
                    f"the workers differ in the {name}: {', '.join(str(int(n)) for n in found)}; "
                    "they must all see the same model folder and the same dataset, and be given "
                    "the same flags")

    @contextmanager
    def lost_worker_errors(self, remedy: str) -> Iterator[None]:
        """Makes one line of what is raised when another process has gone.

        Args:
            remedy: What to do.

        Raises:
            AocrError: It has.
        """
        try:
            yield
        except tf.errors.OpError as error:
            if self.workers == 1 or isinstance(error, tf.errors.ResourceExhaustedError):
                raise
            raise AocrError(
                f"worker {self.worker} of {self.workers} cannot go on, as another one has gone: "
                f"{reason(error)}; {remedy}") from error


def _placed_total(votes: tf.Tensor) -> tf.Tensor:
    """The sum over all replicas; where it is taken, is where its operands lie."""
    return collectives.all_reduce_sum([tf.identity(votes)])[0]


def join(wanted: Sequence[int] | str | None, most: int | None = None) -> Cluster:
    """The cluster that `TF_CONFIG` names, or else this process with its GPUs.

    It must be called before TensorFlow has run anything. A worker that is not the chief leaves the
    log to it, but for errors on standard error.

    Args:
        wanted: Numbers of the GPUs, see `use_gpus`.
        most: How many of them can be used.

    Raises:
        AocrError: `TF_CONFIG` cannot be used.
    """
    task = _task(os.environ.get(CONFIG_VARIABLE, ""))
    if task is not None and task.number:
        console.leave_file()
    gpus = use_gpus(wanted, most)
    if task is not None:
        return _several(task)
    if len(gpus) > 1:
        return Cluster(tf.distribute.MirroredStrategy(gpus))
    return Cluster(tf.distribute.get_strategy())


def _several(task: Task) -> Cluster:
    count = len(task.addresses)
    log.info(f"Worker {task.number} of {count} at {task.addresses[task.number]}: waiting until "
             "all have started.")
    joined = Cluster(_several_machines(task), count, task.number)
    log.info(f"Worker {joined.worker} of {joined.workers}, with {joined.local_replicas} of "
             f"{joined.replicas} devices.")
    if not joined.chief:
        console.only_errors()
    return joined


def _several_machines(task: Task) -> tf.distribute.Strategy:
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": task.addresses}), task_type="worker",
        task_id=task.number, rpc_layer="grpc")
    try:
        with _interruptible():
            return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise AocrError(f"worker {task.number} at {task.addresses[task.number]} cannot join the "
                        f"others of {CONFIG_VARIABLE}: {reason(error)}") from error


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lets Ctrl-C end the process at once: while TensorFlow waits, Python hears of no signal."""
    before = signal.getsignal(signal.SIGINT)
    ours = (threading.current_thread() is threading.main_thread()
            and before is signal.default_int_handler)
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)


def _task(text: str) -> Task | None:
    """The task that `TF_CONFIG` describes; `None` when it names fewer than two workers.

    Raises:
        AocrError: It is no such description, or the task is none of the workers.
    """
    if not text.strip():
        return None
    try:
        config = json.loads(text)
        cluster, task = config.get("cluster") or {}, config.get("task") or {}
        named = {kind: _addresses(cluster.get(kind)) for kind in _WORKERS}
        kind, index = task.get("type", "worker"), int(task.get("index", 0))
    except (ValueError, AttributeError, TypeError, OverflowError) as error:
        raise AocrError(f"{CONFIG_VARIABLE} must be JSON with `cluster` and `task`: {error}"
                        ) from error
    addresses = [address for kind in _WORKERS for address in named[kind]]
    if not cluster or (len(addresses) < 2 and not task):
        return None
    # Also a cluster of one may have others beside it (parameter servers, an evaluator), which
    # must not train as well.
    if kind not in _WORKERS or not 0 <= index < len(named[kind]):
        raise AocrError(f"{CONFIG_VARIABLE} gives this process the task {kind} {index}; only "
                        f"the {len(addresses)} workers in its `cluster` ({', '.join(_WORKERS)}) "
                        "take part")
    before = sum(len(named[each]) for each in _WORKERS[:_WORKERS.index(kind)])
    return Task(addresses, before + index) if len(addresses) > 1 else None


def _addresses(found: object) -> list[str]:
    """The addresses of one kind: a list, or an object of numbers from 0 and addresses.

    Raises:
        TypeError: It is neither, or an address is missing.
    """
    if isinstance(found, Mapping) and set(found) == {str(n) for n in range(len(found))}:
        found = [found[str(n)] for n in range(len(found))]
    if not isinstance(found, list | None):
        raise TypeError(f"expected the addresses of all processes of a kind, got {found!r}")
    return [str(each) for each in found or ()]
