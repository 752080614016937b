"""Distribution of a command over the GPUs of a machine and over several workers."""

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
# The first task of the first type is the chief; ML Engine called it the master.
_WORKER_TYPES = ("chief", "master", "worker")
_CONNECTION_ERRORS = (tf.errors.UnavailableError, tf.errors.AbortedError,
                      tf.errors.DeadlineExceededError, tf.errors.CancelledError)
# Parts of other messages about the connection to other workers, without the first letter.
_CONNECTION_PARTS = ("ollective", "oordination", "onnection")


class Task(NamedTuple):
    """One of several worker processes.

    Attributes:
        addresses: `host:port` of all workers.
        number: Position of this worker in `addresses`.
    """

    addresses: list[str]
    number: int


class Cluster:
    """The replicas that process a batch together; each is a device and processes a share of it.

    Args:
        strategy: TensorFlow's distribution strategy.
        workers: Number of processes.
        worker: Number of this process; 0 is the chief.

    Attributes:
        strategy: As given.
        workers: As given.
        worker: As given.
        replicas: Number of replicas in all processes.
        local_replicas: Number of replicas in this process.
    """

    def __init__(self, strategy: tf.distribute.Strategy, workers: int = 1, worker: int = 0
                 ) -> None:
        self.strategy = strategy
        self.workers = workers
        self.worker = worker
        self.replicas = int(strategy.num_replicas_in_sync)
        self.local_replicas = self.replicas // workers
        self._sum = tf.function(
            lambda values: strategy.run(_replica_sum, (values,)), autograph=False,
            input_signature=[tf.TensorSpec([None], tf.float64)])

    @property
    def chief(self) -> bool:
        """Whether this process writes files and the log."""
        return self.worker == 0

    def local_rows(self, count: int) -> np.ndarray:
        """Returns which rows of a global batch this process takes, `[count]` bool.

        Replicas take rows in turn. As rows are ordered by width, all get as many wide rows.
        """
        return np.arange(count) % self.replicas // self.local_replicas == self.worker

    def all_reduce_sum(self, values: np.ndarray) -> np.ndarray:
        """Returns the sum of the values of all processes, `[n]` float64; all must call it."""
        if self.workers == 1:
            return values
        first = self.strategy.experimental_local_results(self._sum(tf.constant(values)))[0]
        # Every replica of a process adds the same values.
        sums: np.ndarray = first.numpy() / self.local_replicas
        return sums

    def all_gather(self, values: list[Any]) -> list[Any]:
        """Returns the values of all processes in the order of the workers; all must call it.

        Args:
            values: Values that JSON can represent.
        """
        if self.workers == 1:
            return values
        text = np.frombuffer(json.dumps(values).encode(), np.uint8)
        position = np.eye(1, self.workers, self.worker)[0]
        lengths = [int(length) for length in self.all_reduce_sum(position * len(text))]
        padded = np.pad(text.astype(np.float64), [0, max(lengths) - len(text)])
        texts = self.all_reduce_sum(np.outer(position, padded).ravel()).astype(np.uint8)
        return [value for row, length in zip(np.split(texts, self.workers), lengths, strict=True)
                for value in json.loads(row[:length].tobytes())]

    def require_agreement(self, values: Mapping[str, int]) -> None:
        """Checks that all processes have the same values; all must call it.

        Args:
            values: This process's values by name, exact in float64.

        Raises:
            AocrError: The values differ.
        """
        table = np.zeros([self.workers, len(values)])
        table[self.worker] = list(values.values())
        gathered = self.all_reduce_sum(table.ravel()).reshape(table.shape)
        for name, column in zip(values, gathered.T, strict=True):
            if len(set(column)) > 1:
                raise AocrError(
                    f"the workers differ in the {name}: {', '.join(str(int(n)) for n in column)}; "
                    "they must all see the same model directory and the same dataset, and be "
                    "given the same flags")

    @contextmanager
    def lost_worker_errors(self, remedy: str) -> Iterator[None]:
        """Translates the errors that TensorFlow raises when another worker has ended.

        Errors of this worker's own operations, such as running out of memory, are not changed.

        Args:
            remedy: What the user should do.

        Raises:
            AocrError: Another worker has ended.
        """
        try:
            yield
        except tf.errors.OpError as error:
            if self.workers == 1 or not _is_lost_worker(error):
                raise
            raise AocrError(
                f"worker {self.worker} of {self.workers} cannot continue because another "
                f"worker has ended: "
                f"{reason(error)}; {remedy}") from error


def _is_lost_worker(error: tf.errors.OpError) -> bool:
    """Returns whether an error is one of the connection to other workers."""
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return False
    return isinstance(error, _CONNECTION_ERRORS) or any(
        part in error.message for part in _CONNECTION_PARTS)


def _replica_sum(values: tf.Tensor) -> tf.Tensor:
    """Sums over all replicas; `tf.identity` places the operands on the replica's device."""
    return collectives.all_reduce_sum([tf.identity(values)])[0]


def join(gpus: Sequence[int] | str | None, max_gpus: int | None = None) -> Cluster:
    """Joins the cluster that `TF_CONFIG` describes, or else creates one of this process's GPUs.

    Must be called before TensorFlow has run anything. A worker other than the chief then logs
    only errors, to standard error.

    Args:
        gpus: Numbers of the GPUs, see `use_gpus`.
        max_gpus: Maximum number of GPUs to use.

    Raises:
        AocrError: `TF_CONFIG` cannot be used.
    """
    task = _task(os.environ.get(CONFIG_VARIABLE, ""))
    if task is not None and task.number:
        console.close_log_file()
    names = use_gpus(gpus, max_gpus)
    if task is not None:
        return _join_workers(task)
    if len(names) > 1:
        return Cluster(tf.distribute.MirroredStrategy(names))
    return Cluster(tf.distribute.get_strategy())


def _join_workers(task: Task) -> Cluster:
    count = len(task.addresses)
    log.info(f"Worker {task.number} of {count} at {task.addresses[task.number]}: waiting until "
             "all have started.")
    cluster = Cluster(_multi_worker_strategy(task), count, task.number)
    log.info(f"Worker {cluster.worker} of {cluster.workers}, with {cluster.local_replicas} of "
             f"{cluster.replicas} devices.")
    if not cluster.chief:
        console.log_only_errors()
    return cluster


def _multi_worker_strategy(task: Task) -> tf.distribute.Strategy:
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": task.addresses}), task_type="worker",
        task_id=task.number, rpc_layer="grpc")
    try:
        with _interruptible():
            return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise AocrError(f"worker {task.number} at {task.addresses[task.number]} cannot join the "
                        f"others in {CONFIG_VARIABLE}: {reason(error)}") from error


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lets Ctrl-C end the process at once; Python handles no signals while TensorFlow waits."""
    before = signal.getsignal(signal.SIGINT)
    replace = (threading.current_thread() is threading.main_thread()
               and before is signal.default_int_handler)
    if replace:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if replace:
            signal.signal(signal.SIGINT, before)


def _task(text: str) -> Task | None:
    """Parses `TF_CONFIG`; returns `None` if it names fewer than two workers.

    Raises:
        AocrError: The value is malformed, or the task is not one of the workers.
    """
    if not text.strip():
        return None
    try:
        config = json.loads(text)
        cluster, task = config.get("cluster") or {}, config.get("task") or {}
        by_type = {name: _addresses(cluster.get(name)) for name in _WORKER_TYPES}
        task_type, index = task.get("type", "worker"), int(task.get("index", 0))
    except (ValueError, AttributeError, TypeError, OverflowError) as error:
        raise AocrError(f"{CONFIG_VARIABLE} must be JSON with `cluster` and `task`: {error}"
                        ) from error
    addresses = [address for name in _WORKER_TYPES for address in by_type[name]]
    if not cluster or (len(addresses) < 2 and not task):
        return None
    # A cluster with one worker may have other tasks (parameter servers, an evaluator), which must
    # not train as well.
    if task_type not in _WORKER_TYPES or not 0 <= index < len(by_type[task_type]):
        raise AocrError(f"{CONFIG_VARIABLE} gives this process the task {task_type} {index}; only "
                        f"the {len(addresses)} workers in its `cluster` "
                        f"({', '.join(_WORKER_TYPES)}) take part")
    before = sum(len(by_type[name]) for name in
                 _WORKER_TYPES[:_WORKER_TYPES.index(task_type)])
    return Task(addresses, before + index) if len(addresses) > 1 else None


def _addresses(value: object) -> list[str]:
    """Returns the addresses of one task type.

    Args:
        value: A list, or an object whose keys are the numbers from 0.

    Raises:
        TypeError: The value is neither, or an address is missing.
    """
    if isinstance(value, Mapping) and set(value) == {str(n) for n in range(len(value))}:
        value = [value[str(n)] for n in range(len(value))]
    if not isinstance(value, list | None):
        raise TypeError(f"expected the addresses of all tasks of a type, got {value!r}")
    return [str(address) for address in value or ()]
