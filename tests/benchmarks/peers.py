"""Word accuracy of other recognizers on the test images of the sample sets.

`python -m tests.benchmarks.peers` needs `tesseract` on the PATH and the package
`rapidocr_onnxruntime`. Both come trained; neither has been trained on the sets. Case is ignored.
"""

from __future__ import annotations

import importlib
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import images

_SETS = ("captcha-digits", "captcha-text", "receipt-numbers")


def word_accuracy(name: str, read: Callable[[Path], str]) -> float:
    """Returns the share of a set's test images that are read without any error."""
    folder = images.SHARED / name
    lines = (folder / "annotations-test.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split(" ", 1) for line in lines]
    correct = [read(folder / path).upper() == label.upper() for path, label in pairs]
    return sum(correct) / len(correct)


def tesseract(path: Path) -> str:
    """Reads an image as one line of text with Tesseract's English model."""
    return subprocess.run(["tesseract", path, "-", "--psm", "7", "-l", "eng"], check=True,
                          capture_output=True, text=True).stdout.strip()


def rapidocr() -> Callable[[Path], str]:
    """Returns a function that reads an image with PP-OCR, without its text detector."""
    engine = importlib.import_module("rapidocr_onnxruntime").RapidOCR()

    def read(path: Path) -> str:
        lines, _ = engine(str(path), use_det=False, use_cls=False, use_rec=True)
        return str(lines[0][0]) if lines else ""

    return read


if __name__ == "__main__":
    for recognizer, read in (("Tesseract", tesseract), ("PP-OCR", rapidocr())):
        for name in _SETS:
            print(f"{recognizer}, {name}: {word_accuracy(name, read):.2%}", flush=True)
