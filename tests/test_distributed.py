"""Several devices and machines: the same training as on one."""

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
from aocr.inference.recognizer import CheckpointRecognizer
from aocr.runtime import console, devices, distributed
from aocr.runtime.distributed import Cluster
from tests import distributed as processes
from tests.conftest import Command, World

FULL = "AOCR_FULL" in os.environ
STEPS = 20 if FULL else 5
STEP = re.compile(r" Step \d+: [\d.]+s, loss: ([\d.]+),")


@pytest.mark.parametrize("text", [
    "", " ", "{}", '{"task": {"type": "worker", "index": 0}}',
    '{"cluster": {"chief": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
    '{"cluster": {"worker": {"0": "a:1"}, "evaluator": ["b:1"]}, "task": {"type": "worker"}}'])
def test_a_single_worker_is_no_cluster(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(distributed.CONFIG_VARIABLE, text)
    joined = distributed.join([-1])
    assert (joined.chief, joined.workers, joined.replicas) == (True, 1, 1)
    assert joined.local_rows(5).all()
    np.testing.assert_array_equal(joined.all_reduce_sum(np.array([3.0])), [3.0])


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


@pytest.mark.parametrize(("workers", "local"), [(1, 3), (2, 1), (3, 2)])
@pytest.mark.parametrize("count", [1, 5, 12])
def test_every_row_belongs_to_one_process(workers: int, local: int, count: int) -> None:
    class Devices:
        num_replicas_in_sync = workers * local

    shares = [Cluster(Devices(), workers, number).local_rows(count) for number in range(workers)]
    assert (np.sum(shares, 0) == 1).all()
    assert max(map(np.sum, shares)) - min(map(np.sum, shares)) <= local


def test_the_error_of_a_lost_worker_is_one_line() -> None:
    class Devices:
        num_replicas_in_sync = 2

    gone = tf.errors.UnavailableError(None, None, "connection lost\nmore")
    with pytest.raises(AocrError, match=r"worker 1 of 2 cannot go on.*connection lost; try it"):
        with Cluster(Devices(), 2, 1).lost_worker_errors("try it"):
            raise gone
    with pytest.raises(tf.errors.UnavailableError), Cluster(Devices()).lost_worker_errors("x"):
        raise gone


@pytest.mark.parametrize(("wanted", "names", "told"), [
    (None, ["GPU:0"], ""), ([1], ["GPU:0"], ""), ([2, 0, 2], ["GPU:0", "GPU:1"], ""),
    ("all", ["GPU:0", "GPU:1", "GPU:2"], ""), ([-1], [], ""), ([-1, 1], ["GPU:0"], ""),
    ([1, 3], ["GPU:0"], "There is no GPU 3 (found 3); using 1 of them."),
    ([3], [], "There is no GPU 3 (found 3); using the CPU.")])
def test_the_named_gpus_are_used(
        wanted: list[int] | str | None, names: list[str], told: str,
        monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[object] = []
    monkeypatch.setattr(console.log, "propagate", True)
    caplog.set_level("INFO", "aocr")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["g0", "g1", "g2"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda found, _: seen.extend(found))
    assert devices.use_gpus(wanted) == names
    assert len(seen) == len(names)
    if isinstance(wanted, list):
        assert seen == [f"g{n}" for n in dict.fromkeys(wanted) if 0 <= n < 3]
    assert caplog.text.endswith(told + "\n" if told else "")
    assert bool(caplog.text) == bool(told)


def test_all_gather_concatenates_the_lists_of_all_processes() -> None:
    class Devices:
        num_replicas_in_sync = 3

    assert Cluster(Devices()).all_gather([(1, "é")]) == [(1, "é")]
    said: list[list[object]] = [[[1, "é", None]], [[2, 'long " one', 0.1], []], []]
    meeting = threading.Barrier(len(said), timeout=60)
    votes = [np.zeros(0)] * len(said)

    def gathered(number: int) -> list[object]:
        def total(own: np.ndarray) -> np.ndarray:
            votes[number] = own
            meeting.wait()
            summed: np.ndarray = np.sum(votes, 0)
            meeting.wait()
            return summed

        one = Cluster(Devices(), len(said), number)
        with mock.patch.object(one, "all_reduce_sum", total):
            return one.all_gather(said[number])

    with ThreadPoolExecutor(len(said)) as pool:
        for answer in pool.map(gathered, range(len(said))):
            assert answer == [*said[0], *said[1]]


def test_workers_that_differ_are_refused_in_one_line() -> None:
    class Devices:
        num_replicas_in_sync = 2

    def agree(here: dict[str, int], there: dict[str, int]) -> None:
        both = Cluster(Devices(), 2)
        other = np.array([*[0] * len(here), *there.values()])
        with mock.patch.object(both, "all_reduce_sum", lambda own: own + other):
            both.require_agreement(here)

    own = {"step": 3, "flags": (1 << 32) - 1}
    agree(own, own)
    with pytest.raises(AocrError, match="the workers differ in the step: 3, 4; they must all see"):
        agree(own, {**own, "step": 4})
    with pytest.raises(AocrError, match="the workers differ in the flags: 4294967295, 4294967294;"):
        agree(own, {**own, "flags": (1 << 32) - 2})
    Cluster(Devices()).require_agreement(own)


def test_each_process_evaluates_its_share_of_the_images(world: World) -> None:
    class Devices:
        num_replicas_in_sync = 2

    recognizer = CheckpointRecognizer.load(world.model_dir)
    shares: list[list[int]] = []

    def said(found: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        shares[-1].extend(each[0] for each in found)
        return found

    for number in range(2):
        one = Cluster(Devices(), 2, number)
        shares.append([])
        with (mock.patch.object(one, "all_gather", said),
              mock.patch.object(one, "require_agreement")):
            summary = evaluate.evaluate([str(world.records)], recognizer,
                                        evaluate.EvaluationOptions(3), one)
        assert bool(summary) == (number == 0)
    assert shares[0]
    assert shares[1]
    assert sorted(shares[0] + shares[1]) == list(range(len(world.images)))


TOLERANCES = {"float64": 1e-6, "float32": 1e-5,
              **({"mixed_bfloat16": 1e-4, "mixed_float16": 1e-4} if FULL else {})}


@pytest.mark.slow
def test_two_devices_and_two_processes_compute_the_same_steps_as_one_device(tmp_path: Path) -> None:
    data = processes.dataset(tmp_path / "words.tfrecords")
    (alone,) = processes.ran(data, "alone", STEPS, list(TOLERANCES))
    assert len(alone["float64"]["losses"]) == STEPS
    for how in ("mirrored", "worker"):
        for found in processes.ran(data, how, STEPS, list(TOLERANCES)):
            assert found.keys() == TOLERANCES.keys()
            for dtype, tolerance in TOLERANCES.items():
                for name in ("losses", "weights"):
                    np.testing.assert_allclose(
                        found[dtype][name], alone[dtype][name], rtol=0, atol=tolerance)


class Pair:
    """Two workers of a command in one folder, the first of which is the chief."""

    def __init__(self, command: str, data: Path, folder: Path, *flags: str) -> None:
        ports = processes.free_ports()
        words = [sys.executable, "-m", "aocr", command, str(data), "--batch-size", "9",
                 "--model-dir", "m", "--log-path", "log", *flags]
        self.processes = [subprocess.Popen(
            words, cwd=folder, env=processes.environment((n, ports)), stderr=subprocess.PIPE,
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
            said = process.communicate(timeout=60)[1]
            yield process.returncode, said


@contextmanager
def pair(command: str, data: Path, folder: Path, *flags: str) -> Iterator[Pair]:
    folder.mkdir(exist_ok=True)
    both = Pair(command, data, folder, *flags)
    try:
        yield both
    finally:
        for process in both.processes:
            process.kill()


@contextmanager
def training(data: Path, folder: Path, *flags: str) -> Iterator[Pair]:
    with pair("train", data, folder, "--steps-per-checkpoint", "2", *flags) as both:
        yield both


def _losses(said: str) -> list[float]:
    return [float(found) for found in STEP.findall(said)]


@pytest.mark.slow
@pytest.mark.parametrize("gone", [1, pytest.param(0, marks=pytest.mark.skipif(
    not FULL, reason="the chief is killed only with AOCR_FULL"))])
def test_a_killed_worker_stops_the_others_and_all_resume_with_equal_losses(
        gone: int, tmp_path: Path) -> None:
    data = processes.dataset(tmp_path / "words.tfrecords")
    flags = ("--max-steps", "8", "--val", str(data))
    with training(data, tmp_path / "alone", *flags) as both:
        (code, told), (other, silent) = both.ended()
    assert (code, other, len(silent.splitlines())) == (0, 0, 2)
    assert "Worker 1 of 2, with 1 of 2 devices." in silent
    assert "Worker 1 " not in (tmp_path / "alone" / "log").read_text()
    truth = _losses(told)
    assert len(truth) == 8
    assert "1 x unreadable image" in told
    with training(data, tmp_path / "killed", *flags, "--max-steps", "1000") as both:
        told = both.wait_for("Step 4:")
        both.processes[gone].send_signal(signal.SIGKILL)
        code, rest = list(both.ended())[1 - gone]
    assert code == 1
    last = rest.splitlines()[-1]
    assert f"worker {1 - gone} of 2 cannot go on, as another one has gone: " in last
    assert "Traceback" not in rest
    model_dir = tmp_path / "killed" / "m"
    assert len(list(model_dir.glob("events*"))) == 1
    step = max(int(path.stem.split("-")[1]) for path in model_dir.glob("model.ckpt-*.index"))
    assert 2 <= step <= 6
    with training(data, tmp_path / "killed", *flags, "--max-steps", str(step + 2)) as both:
        (code, again), _ = both.ended()
    assert code == 0
    assert f"Resuming at step {step}," in again
    resumed = _losses(again)
    np.testing.assert_allclose(_losses(told), truth[:4], atol=1e-5)
    np.testing.assert_allclose(resumed, truth[step:step + 2], atol=1e-5)


@pytest.mark.slow
def test_a_signal_to_one_worker_stops_all_with_one_checkpoint_that_two_can_test(
        tmp_path: Path) -> None:
    data = processes.dataset(tmp_path / "words.tfrecords")
    with training(data, tmp_path / "m") as both:
        both.wait_for("Step 3:")
        both.processes[1].send_signal(signal.SIGTERM)
        (code, told), (other, silent) = both.ended()
    assert (code, other, len(silent.splitlines())) == (143, 143, 2)
    assert "SIGTERM: stopping after this step." in told
    last = re.findall(r"Saving the model at step (\d+)\.", told)[-1]
    folder = tmp_path / "m" / "m"
    assert (folder / "checkpoint").read_text().startswith(
        f'model_checkpoint_path: "model.ckpt-{last}"')
    alone = ["test", str(data), "--model-dir", str(folder), "--json", str(tmp_path / "alone.json"),
             "--log-path", str(tmp_path / "log"), "--batch-size", "9", "--visualize",
             "--output-dir", str(tmp_path / "m" / "alone")]
    assert main(alone) == 0
    with pair("test", data, tmp_path / "m", "--json", "both.json", "--visualize", "--output-dir",
              "both") as both:
        (code, told), (other, silent) = both.ended()
    assert (code, other, len(silent.splitlines())) == (0, 0, 2)
    assert "Using 22 of 23 images, skipping 1." in told
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("alone.json", "m/both.json"))
    assert len(one["images"]) == 22
    assert one["skipped"] == two["skipped"]
    for row, same in zip(one["images"], two["images"], strict=True):
        for number in ("probability", "loss"):
            assert row.pop(number) == pytest.approx(same.pop(number), abs=1e-5)
        assert [each[0] for each in row.pop("characters")] == [
            each[0] for each in same.pop("characters")]
        assert row == same
    pictures = [sorted(path.relative_to(tmp_path / "m" / name)
                       for path in (tmp_path / "m" / name).rglob("*.*")) for name in (
                           "alone", "both")]
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) > 22
