"""Accuracy of pretrained recognizers on the test images of the image sets of README.md.

    python -m tests.benchmarks.peers [--model MODEL] [--only NAME]...

Compares a model of aocr with Tesseract, which must be on the PATH, and with PP-OCR in the package
`rapidocr_onnxruntime`; what is not installed is left out. `latin` was not trained on the sets.
Case is ignored.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import aocr
from aocr.evaluation.metrics import Totals, compare

_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SETS = ("receipt-numbers", "receipt-lines", "scene-words", "fraktur-lines", "captcha-digits",
        "captcha-text")
Reader = Callable[[Sequence[Path]], list[str]]


def read_with_aocr(model: aocr.Recognizer, paths: Sequence[Path]) -> list[str]:
    """Reads images with a model of aocr."""
    results = model.predict([str(path) for path in paths])
    assert isinstance(results, list)
    return [result.text for result in results]


def read_with_tesseract(paths: Sequence[Path]) -> list[str]:
    """Reads images as one line of text each, with Tesseract's English model."""
    output = subprocess.run(
        ["tesseract", "stdin", "stdout", "--psm", "7", "-l", "eng"], check=True, text=True,
        input="\n".join(map(str, paths)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return [page.strip() for page in output.split("\f")][:len(paths)]


def read_with_rapidocr(paths: Sequence[Path]) -> list[str]:
    """Reads images with PP-OCR, without its text detector."""
    engine = importlib.import_module("rapidocr_onnxruntime").RapidOCR()
    results = [engine(str(path), use_det=False, use_cls=False, use_rec=True)[0] for path in paths]
    return [str(lines[0][0]) if lines else "" for lines in results]


def readers(model: str) -> dict[str, Reader]:
    """Returns the recognizers that are installed, by name."""
    available: dict[str, Reader] = {
        "aocr": functools.partial(read_with_aocr, aocr.Recognizer.load(model))}
    if importlib.util.find_spec("rapidocr_onnxruntime"):
        available["rapidocr"] = read_with_rapidocr
    if shutil.which("tesseract"):
        available["tesseract"] = read_with_tesseract
    return available


def images_of(name: str) -> tuple[list[Path], list[str]]:
    """Returns paths and labels of the test images of a set."""
    lines = (_DATA / name / "annotations-test.txt").read_text(encoding="utf-8").splitlines()
    paths, labels = zip(*(line.split(" ", 1) for line in lines), strict=True)
    return [_DATA / name / path for path in paths], list(labels)


def measure(name: str, read: Reader) -> Totals:
    """Returns the metrics of a recognizer on the test images of a set."""
    paths, labels = images_of(name)
    totals = Totals()
    for text, label in zip(read(paths), labels, strict=True):
        totals.add(compare(text.upper(), label.upper()), loss=0.0)
    return totals


def main() -> None:
    """Prints word accuracy and CER of every recognizer on every set."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="latin", help="model of aocr (default: %(default)s)")
    parser.add_argument("--only", action="append", choices=SETS, metavar="NAME",
                        help="one set; again for more: " + ", ".join(SETS))
    args = parser.parse_args()
    available = readers(args.model)
    print(f"{'words / CER':<18}", *(f"{name:>18}" for name in available))
    for name in args.only or SETS:
        summaries = [measure(name, read).summary() for read in available.values()]
        print(f"{name:<18}", *(f"{summary['word_accuracy']:>9.1%} /{summary['cer']:>6.1%}"
                               for summary in summaries), flush=True)


if __name__ == "__main__":
    main()
