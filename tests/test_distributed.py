"""Several devices and machines train and test as one device does."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from aocr.cli.main import main
from aocr.errors import AocrError
from aocr.evaluation import evaluate
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer
from aocr.runtime import console, devices, distributed
from aocr.runtime.distributed import Cluster
from tests import distributed as processes
from tests.conftest import Command, World

FULL = "AOCR_FULL" in os.environ
STEPS = 20 if FULL else 5
STEP = re.compile(r" Step \d+: [\d.]+s, loss: ([\d.]+),")


def make_cluster(workers: int = 1, worker: int = 0, replicas: int | None = None) -> Cluster:
    """Returns a cluster whose strategy only has a number of replicas."""

    class Strategy:
        num_replicas_in_sync = replicas or workers

    return Cluster(Strategy(), workers, worker)


@pytest.mark.parametrize("text", [
    "", " ", "{}", '{"task": {"type": "worker", "index": 0}}',
    '{"cluster": {"chief": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
    '{"cluster": {"worker": {"0": "a:1"}, "evaluator": ["b:1"]}, "task": {"type": "worker"}}'])
def test_a_single_worker_is_no_cluster(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(distributed.CONFIG_VARIABLE, text)
    cluster = distributed.join([-1])
    assert (cluster.chief, cluster.workers, cluster.replicas) == (True, 1, 1)
    assert cluster.local_rows(5).all()
    np.testing.assert_array_equal(cluster.all_reduce_sum(np.array([3.0])), [3.0])


@pytest.mark.parametrize(("kind", "index", "number"), [
    ("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)])
def test_the_chief_comes_first(kind: str, index: int, number: int) -> None:
    task = distributed._task(json.dumps({
        "cluster": {"worker": {"1": "c:1", "0": "b:1"}, "chief": ["a:1"], "ps": ["d:1"]},
        "task": {"type": kind, "index": index, "trial": "1", "cloud": "x"},
        "environment": "cloud", "job": "{}"}))
    assert task == (["a:1", "b:1", "c:1"], number)


@pytest.mark.parametrize("text", [
    "{", "[]", '{"cluster": [1]}', '{"cluster": {"worker": "a:1"}}',
    '{"cluster": {"worker": {"1": "b:1"}}, "task": {"type": "worker", "index": 1}}',
    '{"cluster": {"chief": ["a:1"], "ps": ["b:1"]}, "task": {"type": "ps", "index": 0}}',
    '{"cluster": {"worker": ["a:1"]}, "task": {"type": "evaluator", "index": 0}}',
    '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"index": "x"}}',
    '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "ps", "index": 0}}',
    '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}'])
def test_an_invalid_cluster_is_one_line(
        text: str, world: World, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(distributed.CONFIG_VARIABLE, text)
    code, logged = command("train", world.records)
    assert code == 1
    assert "aocr train: TF_CONFIG " in logged
    assert len(logged.splitlines()) == 1


@pytest.mark.parametrize(("workers", "local_replicas"), [(1, 3), (2, 1), (3, 2)])
@pytest.mark.parametrize("count", [1, 5, 12])
def test_every_row_belongs_to_one_process(workers: int, local_replicas: int, count: int) -> None:
    shares = [make_cluster(workers, worker, workers * local_replicas).local_rows(count)
              for worker in range(workers)]
    assert (np.sum(shares, 0) == 1).all()
    assert max(map(np.sum, shares)) - min(map(np.sum, shares)) <= local_replicas


def test_the_error_of_a_lost_worker_is_one_line() -> None:
    lost = tf.errors.UnavailableError(None, None, "connection lost\nmore")
    with pytest.raises(AocrError, match=r"worker 1 of 2 cannot continue.*connection lost; try it"):
        with make_cluster(2, 1).lost_worker_errors("try it"):
            raise lost
    for own in (tf.errors.InvalidArgumentError(None, None, "a shape does not fit"),
                tf.errors.ResourceExhaustedError(None, None, "OOM in CollectiveReduceV2")):
        with pytest.raises(type(own)), make_cluster(2, 1).lost_worker_errors("x"):
            raise own
    with pytest.raises(tf.errors.UnavailableError), make_cluster().lost_worker_errors("x"):
        raise lost


@pytest.mark.parametrize(("wanted", "names", "message"), [
    (None, ["GPU:0"], ""), ([1], ["GPU:0"], ""), ([2, 0, 2], ["GPU:0", "GPU:1"], ""),
    ("all", ["GPU:0", "GPU:1", "GPU:2"], ""), ([-1], [], ""), ([-1, 1], ["GPU:0"], ""),
    ([1, 3], ["GPU:0"], "There is no GPU 3 (found 3); using 1 of them."),
    ([3], [], "There is no GPU 3 (found 3); using the CPU.")])
def test_the_named_gpus_are_used(
        wanted: list[int] | str | None, names: list[str], message: str,
        monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    visible: list[object] = []
    monkeypatch.setattr(console.log, "propagate", True)
    caplog.set_level("INFO", "aocr")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["g0", "g1", "g2"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda gpus, _: visible.extend(gpus))
    assert devices.use_gpus(wanted) == names
    assert len(visible) == len(names)
    if isinstance(wanted, list):
        assert visible == [f"g{n}" for n in dict.fromkeys(wanted) if 0 <= n < 3]
    assert caplog.text.endswith(message + "\n" if message else "")
    assert bool(caplog.text) == bool(message)


def test_all_gather_concatenates_the_lists_of_all_processes() -> None:
    assert make_cluster().all_gather([(1, "é")]) == [(1, "é")]
    lists: list[list[object]] = [[[1, "é", None]], [[2, 'with a " quote', 0.1], []], []]
    workers = len(lists)
    barrier = threading.Barrier(workers, timeout=60)
    values = [np.zeros(0)] * workers

    def gather(worker: int) -> list[object]:
        def all_reduce_sum(local: np.ndarray) -> np.ndarray:
            values[worker] = local
            barrier.wait()
            total: np.ndarray = np.sum(values, 0)
            barrier.wait()
            return total

        cluster = make_cluster(workers, worker)
        with mock.patch.object(cluster, "all_reduce_sum", all_reduce_sum):
            return cluster.all_gather(lists[worker])

    with ThreadPoolExecutor(workers) as pool:
        for gathered in pool.map(gather, range(workers)):
            assert gathered == [*lists[0], *lists[1]]


def test_workers_that_differ_are_refused_in_one_line() -> None:
    def compare(chief: dict[str, int], other: dict[str, int]) -> None:
        cluster = make_cluster(2)
        row = np.array([*[0] * len(chief), *other.values()])
        with mock.patch.object(cluster, "all_reduce_sum", lambda local: local + row):
            cluster.require_agreement(chief)

    chief = {"step": 3, "flags": (1 << 32) - 1}
    compare(chief, chief)
    with pytest.raises(AocrError, match="the workers differ in the step: 3, 4; they must all see"):
        compare(chief, {**chief, "step": 4})
    with pytest.raises(AocrError, match="the workers differ in the flags: 4294967295, 4294967294;"):
        compare(chief, {**chief, "flags": (1 << 32) - 2})
    make_cluster().require_agreement(chief)


def test_each_process_evaluates_its_share_of_the_images(world: World) -> None:
    recognizer = CheckpointRecognizer.load(world.model_dir)
    shares: list[list[int]] = []

    def all_gather(results: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        shares[-1].extend(result[0] for result in results)
        return results

    for worker in range(2):
        cluster = make_cluster(2, worker)
        shares.append([])
        with (mock.patch.object(cluster, "all_gather", all_gather),
              mock.patch.object(cluster, "require_agreement")):
            summary = evaluate.evaluate([str(world.records)], recognizer,
                                        evaluate.EvaluationOptions(3), cluster)
        assert bool(summary) == (worker == 0)
    assert shares[0]
    assert shares[1]
    assert sorted(shares[0] + shares[1]) == list(range(len(world.images)))


TOLERANCES = {"float64": 1e-6, "float32": 1e-5,
              **({"mixed_bfloat16": 1e-4, "mixed_float16": 1e-4} if FULL else {})}


@pytest.mark.slow
def test_two_devices_and_two_processes_compute_the_same_steps_as_one_device(tmp_path: Path) -> None:
    data = processes.dataset(tmp_path / "words.tfrecords")
    (alone,) = processes.run(data, "alone", STEPS, list(TOLERANCES))
    assert len(alone["float64"]["losses"]) == STEPS
    for how in ("mirrored", "worker"):
        for result in processes.run(data, how, STEPS, list(TOLERANCES)):
            assert result.keys() == TOLERANCES.keys()
            for dtype, tolerance in TOLERANCES.items():
                for name in ("losses", "weights", "clipping"):
                    np.testing.assert_allclose(
                        result[dtype][name], alone[dtype][name], rtol=0, atol=tolerance)


class Pair:
    """Two workers of a command in one directory; the first is the chief."""

    def __init__(self, command: str, data: Path, directory: Path, *flags: str) -> None:
        ports = processes.free_ports()
        argv = [sys.executable, "-m", "aocr", command, str(data), "--batch-size", "9",
                "--model-dir", "m", "--log-path", "log", *flags]
        self.processes = [subprocess.Popen(
            argv, cwd=directory, env=processes.environment((n, ports)), stderr=subprocess.PIPE,
            text=True) for n in range(2)]

    def wait_for(self, text: str) -> str:
        """Returns the log of the chief up to the first line that holds a text."""
        stderr = self.processes[0].stderr
        assert stderr is not None
        lines = []
        for line in stderr:
            lines.append(line)
            if text in line:
                return "".join(lines)
        pytest.fail(f"the chief never logged {text!r}: {''.join(lines)}")

    def finish(self, seconds: float = 300) -> Iterator[tuple[int, str]]:
        """Waits so long for both workers; yields their exit codes and the rest of their logs."""
        for process in self.processes:
            log = process.communicate(timeout=seconds)[1]
            yield process.returncode, log


@contextmanager
def run_pair(command: str, data: Path, directory: Path, *flags: str) -> Iterator[Pair]:
    """Starts two workers, and kills them at the end if they are still running."""
    directory.mkdir(exist_ok=True)
    pair = Pair(command, data, directory, *flags)
    try:
        yield pair
    finally:
        for process in pair.processes:
            process.kill()


@contextmanager
def train_pair(data: Path, directory: Path, *flags: str) -> Iterator[Pair]:
    """Starts two workers of `aocr train`."""
    with run_pair("train", data, directory, "--steps-per-checkpoint", "2", *flags) as pair:
        yield pair


def _losses(log: str) -> list[float]:
    return [float(loss) for loss in STEP.findall(log)]


@pytest.mark.slow
@pytest.mark.parametrize("killed", [1, pytest.param(0, marks=pytest.mark.skipif(
    not FULL, reason="the chief is killed only with AOCR_FULL"))])
def test_a_killed_worker_stops_the_others_and_all_resume_with_equal_losses(
        killed: int, tmp_path: Path) -> None:
    data = processes.dataset(tmp_path / "words.tfrecords")
    flags = ("--max-steps", "8", "--val", str(data))
    with train_pair(data, tmp_path / "alone", *flags) as pair:
        (code, log), (other_code, other_log) = pair.finish()
    assert (code, other_code, len(other_log.splitlines())) == (0, 0, 2)
    assert "Worker 1 of 2, with 1 of 2 devices." in other_log
    assert "Worker 1 " not in (tmp_path / "alone" / "log").read_text()
    expected = _losses(log)
    assert len(expected) == 8
    assert "1 x unreadable image" in log
    with train_pair(data, tmp_path / "killed", *flags, "--max-steps", "1000") as pair:
        log = pair.wait_for("Step 4:")
        pair.processes[killed].send_signal(signal.SIGKILL)
        code, remaining = list(pair.finish(60))[1 - killed]
    assert code == 1
    error = remaining.splitlines()[-1]
    assert f"worker {1 - killed} of 2 cannot continue because another worker has ended: " in error
    assert "Traceback" not in remaining
    model_dir = tmp_path / "killed" / "m"
    assert len(list(model_dir.glob("events*"))) == 1
    step = max(int(path.stem.split("-")[1]) for path in model_dir.glob("model.ckpt-*.index"))
    assert 2 <= step <= 6
    with train_pair(data, tmp_path / "killed", *flags, "--max-steps", str(step + 2)) as pair:
        (code, resumed), _ = pair.finish()
    assert code == 0
    assert f"Resuming at step {step}," in resumed
    np.testing.assert_allclose(_losses(log), expected[:4], atol=1e-5)
    np.testing.assert_allclose(_losses(resumed), expected[step:step + 2], atol=1e-5)


@pytest.mark.slow
def test_a_signal_to_one_worker_stops_all_with_one_checkpoint_that_two_can_test(
        tmp_path: Path) -> None:
    data = processes.dataset(tmp_path / "words.tfrecords")
    directory = tmp_path / "m"
    with train_pair(data, directory) as pair:
        pair.wait_for("Step 3:")
        pair.processes[1].send_signal(signal.SIGTERM)
        (code, log), (other_code, other_log) = pair.finish()
    assert (code, other_code, len(other_log.splitlines())) == (143, 143, 2)
    assert "SIGTERM: stopping after this step." in log
    step = re.findall(r"Saving the model at step (\d+)\.", log)[-1]
    model_dir = directory / "m"
    assert (model_dir / "checkpoint").read_text().startswith(
        f'model_checkpoint_path: "model.ckpt-{step}"')
    assert main(["test", str(data), "--model-dir", str(model_dir), "--json",
                 str(tmp_path / "alone.json"), "--log-path", str(tmp_path / "log"), "--batch-size",
                 "9", "--visualize", "--output-dir", str(directory / "alone")]) == 0
    with run_pair("test", data, directory, "--json", "pair.json", "--report", "pair.html",
                  "--visualize", "--output-dir", "pair") as pair:
        (code, log), (other_code, other_log) = pair.finish()
    assert (code, other_code, len(other_log.splitlines())) == (0, 0, 2)
    assert "Using 22 of 23 images, skipping 1." in log
    _assert_equal_results(tmp_path / "alone.json", directory / "pair.json")
    assert (directory / "pair.html").read_text(encoding="utf-8").count('<li class="card') == 22
    pictures = [sorted(path.relative_to(directory / name)
                       for path in (directory / name).rglob("*.*")) for name in ("alone", "pair")]
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) > 22


def _assert_equal_results(*paths: Path) -> None:
    """Asserts that two files of results differ only by rounding, and in speed."""
    alone, pair = (json.loads(path.read_text()) for path in paths)
    assert len(alone["images"]) == 22
    assert alone["skipped"] == pair["skipped"]
    for row, other in zip(alone["images"], pair["images"], strict=True):
        for name in ("probability", "loss"):
            assert row.pop(name) == pytest.approx(other.pop(name), abs=1e-5)
        assert [character for character, _ in row.pop("characters")] == [
            character for character, _ in other.pop("characters")]
        assert row == other
