"""Several devices and machines: the same training as on one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from aocr import cluster
from aocr.cluster import Cluster
from aocr.errors import AocrError
from tests import distributed
from tests.conftest import Command, World

FULL = "AOCR_FULL" in os.environ
STEPS = 20 if FULL else 5
STEP = re.compile(r" Step \d+: [\d.]+s, loss: ([\d.]+),")


@pytest.mark.parametrize("text", [
    "", " ", "{}", '{"task": {"type": "worker", "index": 0}}',
    '{"cluster": {"chief": ["a:1"]}, "task": {"type": "chief", "index": 0}}'])
def test_one_worker_is_no_cluster(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cluster.CONFIG_VARIABLE, text)
    joined = cluster.join([])
    assert (joined.chief, joined.workers, joined.replicas) == (True, 1, 1)
    assert joined.own(5).all()
    np.testing.assert_array_equal(joined.total(np.array([3.0])), [3.0])


@pytest.mark.parametrize(("kind", "index", "number"), [
    ("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)])
def test_the_chief_comes_first(kind: str, index: int, number: int) -> None:
    task = cluster._task(json.dumps({
        "cluster": {"worker": ["b:1", "c:1"], "chief": ["a:1"], "ps": ["d:1"]},
        "task": {"type": kind, "index": index}}))
    assert task == (["a:1", "b:1", "c:1"], number)


@pytest.mark.parametrize("text", [
    "{", "[]", '{"cluster": [1]}',
    '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"index": "x"}}',
    '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "ps", "index": 0}}',
    '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}'])
def test_a_cluster_that_cannot_be_is_one_line(
        text: str, world: World, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cluster.CONFIG_VARIABLE, text)
    code, logged = command("train", world.records)
    assert code == 1
    assert "aocr train: TF_CONFIG " in logged
    assert len(logged.splitlines()) == 1


@pytest.mark.parametrize(("workers", "local"), [(1, 3), (2, 1), (3, 2)])
@pytest.mark.parametrize("count", [1, 5, 12])
def test_every_row_has_one_owner(workers: int, local: int, count: int) -> None:
    class Devices:
        num_replicas_in_sync = workers * local

    shares = [Cluster(Devices(), workers, number).own(count) for number in range(workers)]
    assert (np.sum(shares, 0) == 1).all()
    assert max(map(np.sum, shares)) - min(map(np.sum, shares)) <= local


def test_what_a_process_raises_when_another_has_gone_is_one_line() -> None:
    class Devices:
        num_replicas_in_sync = 2

    gone = tf.errors.UnavailableError(None, None, "connection lost\nmore")
    with pytest.raises(AocrError, match=r"worker 1 of 2 cannot go on.*connection lost; start all"):
        with Cluster(Devices(), 2, 1).watched():
            raise gone
    with pytest.raises(tf.errors.UnavailableError), Cluster(Devices()).watched():
        raise gone


TOLERANCES = {"float64": 1e-6, "float32": 1e-5,
              **({"mixed_bfloat16": 1e-4, "mixed_float16": 1e-4} if FULL else {})}


@pytest.mark.slow
def test_two_devices_and_two_processes_train_as_one_device_does(tmp_path: Path) -> None:
    data = distributed.dataset(tmp_path / "words.tfrecords")
    (alone,) = distributed.ran(data, "alone", STEPS, list(TOLERANCES))
    assert len(alone["float64"]["losses"]) == STEPS
    for how in ("mirrored", "worker"):
        for found in distributed.ran(data, how, STEPS, list(TOLERANCES)):
            assert found.keys() == TOLERANCES.keys()
            for dtype, tolerance in TOLERANCES.items():
                for name in ("losses", "weights"):
                    np.testing.assert_allclose(
                        found[dtype][name], alone[dtype][name], rtol=0, atol=tolerance)


class Pair:
    """Two workers of `aocr train` in one folder, the first of which is the chief."""

    def __init__(self, data: Path, folder: Path, *flags: str) -> None:
        ports = distributed.free_ports()
        command = [sys.executable, "-m", "aocr", "train", str(data), "--batch-size", "9",
                   "--steps-per-checkpoint", "2", "--model-dir", "m", "--log-path", "log", *flags]
        self.processes = [subprocess.Popen(
            command, cwd=folder, env=distributed.environment((n, ports)), stderr=subprocess.PIPE,
            text=True) for n in range(2)]

    def wait_for(self, words: str) -> str:
        """What the chief says until a line has these words."""
        stderr = self.processes[0].stderr
        assert stderr is not None
        said = []
        for line in stderr:
            said.append(line)
            if words in line:
                return "".join(said)
        pytest.fail(f"the chief never said {words!r}: {''.join(said)}")

    def ended(self) -> Iterator[tuple[int, str]]:
        """Exit codes, and what else was said."""
        for process in self.processes:
            said = process.communicate(timeout=120)[1]
            yield process.returncode, said


@contextmanager
def pair(data: Path, folder: Path, *flags: str) -> Iterator[Pair]:
    folder.mkdir(exist_ok=True)
    both = Pair(data, folder, *flags)
    try:
        yield both
    finally:
        for process in both.processes:
            process.kill()


def _losses(said: str) -> list[float]:
    return [float(found) for found in STEP.findall(said)]


@pytest.mark.slow
def test_a_killed_worker_ends_the_others_and_all_go_on_as_if_nothing_had_been(
        tmp_path: Path) -> None:
    data = distributed.dataset(tmp_path / "words.tfrecords")
    flags = ("--max-steps", "8", "--val", str(data))
    with pair(data, tmp_path / "alone", *flags) as both:
        (code, told), (other, silent) = both.ended()
    assert (code, other, len(silent.splitlines())) == (0, 0, 1)
    assert "Worker 1 of 2, with 1 of 2 devices." in silent
    truth = _losses(told)
    assert len(truth) == 8
    assert "1 x unreadable image" in told
    with pair(data, tmp_path / "killed", *flags, "--max-steps", "1000") as both:
        told = both.wait_for("Step 4:")
        both.processes[1].send_signal(signal.SIGKILL)
        (code, rest), _ = both.ended()
    assert code == 1
    last = rest.splitlines()[-1]
    assert "worker 0 of 2 cannot go on, as another one has gone: " in last
    assert "Traceback" not in rest
    model_dir = tmp_path / "killed" / "m"
    assert len(list(model_dir.glob("events*"))) == 1
    step = max(int(path.stem.split("-")[1]) for path in model_dir.glob("model.ckpt-*.index"))
    assert 2 <= step <= 6
    with pair(data, tmp_path / "killed", *flags, "--max-steps", str(step + 2)) as both:
        (code, again), _ = both.ended()
    assert code == 0
    assert f"Going on at step {step}," in again
    resumed = _losses(again)
    np.testing.assert_allclose(_losses(told), truth[:4], atol=1e-5)
    np.testing.assert_allclose(resumed, truth[step:step + 2], atol=1e-5)


@pytest.mark.slow
def test_a_signal_to_one_worker_ends_all_with_one_checkpoint(tmp_path: Path) -> None:
    data = distributed.dataset(tmp_path / "words.tfrecords")
    with pair(data, tmp_path / "m") as both:
        both.wait_for("Step 3:")
        both.processes[1].send_signal(signal.SIGTERM)
        (code, told), (other, silent) = both.ended()
    assert (code, other, len(silent.splitlines())) == (143, 143, 1)
    assert "SIGTERM: ending after this step." in told
    last = re.findall(r"Saving the model at step (\d+)\.", told)[-1]
    folder = tmp_path / "m" / "m"
    assert (folder / "checkpoint").read_text().startswith(
        f'model_checkpoint_path: "model.ckpt-{last}"')
