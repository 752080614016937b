"""Word accuracy of other recognizers on the test images of the sample sets.

`python -m tests.benchmarks.peers` needs `tesseract` on the PATH and the package
`rapidocr_onnxruntime`. Both come trained, and neither was trained on the sets. Case is ignored.
"""

from __future__ import annotations

import importlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
_SETS = ("captcha-digits", "captcha-text", "receipt-numbers")


def tesseract(paths: Sequence[Path]) -> list[str]:
    """Reads images as one line of text each, with Tesseract's English model."""
    output = subprocess.run(
        ["tesseract", "stdin", "stdout", "--psm", "7", "-l", "eng"], check=True, text=True,
        input="\n".join(map(str, paths)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return [page.strip() for page in output.split("\f")][:len(paths)]


def rapidocr(paths: Sequence[Path]) -> list[str]:
    """Reads images with PP-OCR, without its text detector."""
    engine = importlib.import_module("rapidocr_onnxruntime").RapidOCR()
    results = [engine(str(path), use_det=False, use_cls=False, use_rec=True)[0] for path in paths]
    return [str(lines[0][0]) if lines else "" for lines in results]


def main() -> None:
    """Prints the share of each set's test images that is read without any error."""
    for name in _SETS:
        lines = (_DATA / name / "annotations-test.txt").read_text(encoding="utf-8").splitlines()
        paths, labels = zip(*(line.split(" ", 1) for line in lines), strict=True)
        for read in (tesseract, rapidocr):
            texts = read([_DATA / name / path for path in paths])
            correct = sum(text.upper() == label.upper()
                          for text, label in zip(texts, labels, strict=True))
            print(f"{name}, {read.__name__}: {correct / len(labels):.2%} of {len(labels)}")


if __name__ == "__main__":
    main()
