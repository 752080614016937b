"""A model in ONNX Runtime against the same model in TensorFlow, on the sample sets.

    python -m tests.benchmarks.onnx_runtime [--model MODEL] [--rounds N]

Prints equal texts, ratios of times, how many of all images of the sets float32 and int8 read, and
the time and memory of `aocr predict` from its start to its end. int8 is calibrated on some training
images of all sets.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import aocr
from aocr.runtime import startup
from tests.benchmarks import images
from tests.benchmarks.timing import interleaved, ratio

_SETS = ("receipt-numbers", "receipt-lines", "scene-words", "fraktur-lines", "captcha-digits",
         "captcha-text")
_TEST_IMAGES = 200
_BATCH_SIZE = 32
_CALIBRATION_IMAGES = 128
# VmHWM is the largest resident memory of a process since it was started.
_MEASURED = """import sys; from aocr.cli.main import main; assert not main(sys.argv[1:])
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])"""
_WITHOUT_ONNX_RUNTIME = "import sys; sys.modules['onnxruntime'] = None\n" + _MEASURED


class Recognizers(NamedTuple):
    """The same model three times."""

    tensorflow: aocr.Recognizer
    onnx: aocr.Recognizer
    int8: aocr.Recognizer


class Sample(NamedTuple):
    """Images of a set and their texts."""

    paths: list[Path]
    labels: list[str]


def sample(name: str, part: str, count: int | None = None) -> Sample:
    """Returns images evenly spaced in a part of a set; all by default."""
    lines = (images.SHARED / name / f"annotations-{part}.txt").read_text(
        encoding="utf-8").splitlines()
    lines = lines[::len(lines) // count][:count] if count else lines
    paths, labels = zip(*(line.split(" ", 1) for line in lines), strict=True)
    return Sample([images.SHARED / name / path for path in paths], list(labels))


def load(model: str, directory: Path) -> Recognizers:
    """Loads a model, and exports it in int8."""
    from aocr.inference.tensorflow_recognizer import CheckpointRecognizer

    annotations = directory / "calibration.txt"
    samples = [sample(name, "train", -(-_CALIBRATION_IMAGES // len(_SETS))) for name in _SETS]
    annotations.write_text("".join(f"{path} {label}\n" for part in samples for path, label
                                   in zip(*part, strict=True)), encoding="utf-8")
    run_aocr(directory, "dataset", str(annotations), "calibration.tfrecords",
             "--no-force-uppercase")
    run_aocr(directory, "export", "int8", "--format", "onnx", "--model-dir", model, "--quantize",
             "int8", "--calibrate", "calibration.tfrecords")
    run_aocr(directory, "export", "float", "--format", "onnx", "--model-dir", model)
    for name in ("float", "int8"):
        print(f"{name}: {(directory / name / 'model.onnx').stat().st_size / 1e6:.1f} MB")
    return Recognizers(CheckpointRecognizer.load(model), aocr.Recognizer.load(
        model if model == "latin" else directory / "float"), aocr.Recognizer.load(
            directory / "int8"))


def run_aocr(directory: Path, *arguments: str, code: str = _MEASURED) -> str:
    """Runs a command in a directory; returns its output, which ends with its memory in KB."""
    environment = {**os.environ, "PYTHONPATH": str(Path(aocr.__file__).parents[1])}
    return subprocess.run([sys.executable, "-c", code, *arguments], check=True, cwd=directory,
                          env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True).stdout


def read(recognizer: aocr.Recognizer, paths: list[Path]) -> list[aocr.Result]:
    """Returns the results of several images."""
    results = recognizer.predict(paths)
    assert isinstance(results, list)
    return results


def compare_texts(recognizers: Recognizers) -> None:
    """Prints equal texts, and the largest differences of probabilities."""
    for name in _SETS:
        paths = sample(name, "test").paths[:_TEST_IMAGES]
        tensorflow, onnx, _ = (read(recognizer, paths) for recognizer in recognizers)
        equal = sum(a.text == b.text for a, b in zip(tensorflow, onnx, strict=True))
        difference = max(abs(a.probability - b.probability)
                         for a, b in zip(tensorflow, onnx, strict=True))
        print(f"{name:<18} {equal} of {len(paths)} texts equal, probabilities within "
              f"{difference:.1e}", flush=True)


def compare_int8(recognizers: Recognizers) -> None:
    """Prints how many of all images are right in float32 and in int8, ignoring case."""
    for name in _SETS:
        test, train = sample(name, "test"), sample(name, "train")
        paths, labels = test.paths + train.paths, test.labels + train.labels
        right = [sum(result.text.upper() == label.upper()
                     for result, label in zip(read(recognizer, paths), labels, strict=True))
                 for recognizer in (recognizers.onnx, recognizers.int8)]
        difference = (right[1] - right[0]) / len(paths)
        print(f"{name:<18} of {len(paths)} images, float32 reads {right[0]}, int8 {right[1]}: "
              f"{100 * difference:+.2f} percentage points", flush=True)


def compare_times(recognizers: Recognizers, rounds: int) -> None:
    """Prints how many times as fast ONNX Runtime is, by set and in the median of all sets."""
    ratios: dict[str, list[float]] = {"one": [], "batch": [], "int8": []}
    for name in _SETS:
        paths, _ = sample(name, "test", 3 * _BATCH_SIZE)
        found = {"one": _speed(recognizers.tensorflow, recognizers.onnx, [[path] for path in
                                                                          paths[::12]], rounds),
                 "batch": _speed(recognizers.tensorflow, recognizers.onnx, [
                     paths[start::3] for start in range(3)], rounds),
                 "int8": _speed(recognizers.onnx, recognizers.int8, [[path] for path in
                                                                     paths[::12]], rounds)}
        print(_times_line(name, {kind: statistics.median(values)
                                 for kind, values in found.items()}), flush=True)
        for kind, values in found.items():
            ratios[kind] += values
    print(_times_line("median of all", {kind: statistics.median(values)
                                        for kind, values in ratios.items()}))


def _speed(slow: aocr.Recognizer, fast: aocr.Recognizer, batches: Iterable[list[Path]], rounds: int
           ) -> list[float]:
    """Returns the ratio of the times for each batch."""
    found = []
    for batch in batches:
        times = interleaved({"slow": functools.partial(slow.predict, batch),
                             "fast": functools.partial(fast.predict, batch)}, rounds)
        found.append(ratio(times["slow"], times["fast"])["by_clock"])
    return found


def _times_line(name: str, ratios: dict[str, float]) -> str:
    return (f"{name:<18} one image {ratios['one']:.2f}x, batch of {_BATCH_SIZE} "
            f"{ratios['batch']:.2f}x; int8, one image {ratios['int8']:.2f}x of float32")


def compare_processes(model: str, directory: Path, rounds: int) -> None:
    """Prints time and memory of `aocr predict` for one image, from its start to its end."""
    path = sample("receipt-numbers", "test").paths[0]
    seconds: dict[str, list[float]] = {_MEASURED: [], _WITHOUT_ONNX_RUNTIME: []}
    megabytes = {}
    for code in [*seconds] * rounds:
        start = time.perf_counter()
        output = run_aocr(directory, "predict", str(path), "--model-dir", model, code=code)
        seconds[code].append(time.perf_counter() - start)
        megabytes[code] = int(output.splitlines()[-1]) / 1024
    (onnx, onnx_memory), (tensorflow, tensorflow_memory) = (
        (statistics.median(values), megabytes[code]) for code, values in seconds.items())
    print(f"aocr predict: {onnx:.2f} s, {onnx_memory:.0f} MB; in TensorFlow {tensorflow:.2f} s, "
          f"{tensorflow_memory:.0f} MB; ratio of the times {onnx / tensorflow:.3f}")


def main() -> None:
    """Prints all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="latin", help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    args = parser.parse_args()
    model = args.model if args.model == "latin" else os.path.abspath(args.model)
    startup.import_tensorflow()
    with tempfile.TemporaryDirectory(prefix="aocr-benchmark-") as name:
        compare_processes(model, Path(name), args.rounds)
        recognizers = load(model, Path(name))
        compare_texts(recognizers)
        compare_times(recognizers, args.rounds)
        compare_int8(recognizers)


if __name__ == "__main__":
    main()
