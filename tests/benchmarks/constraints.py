"""Accuracy on the test images of the sample sets with restricted texts and with beam search.

    python -m tests.benchmarks.constraints [--model MODEL]

The word lists hold the labels of all test images and the most frequent English words, in random
case. The pattern for numbers on receipts allows the forms of all labels of the set, such as
9,999.99 and 99/99/9999.
Needs `wordfreq`, see datasets/drawn/requirements.txt.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import wordfreq

import aocr
from tests.benchmarks import images

_WORD_COUNTS = (5_000, 50_000)


def main() -> None:
    """Prints the share of images that are read without an error, by dataset and options."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="latin", help="model of aocr (default: %(default)s)")
    model = parser.parse_args().model
    with tempfile.TemporaryDirectory() as folder:
        for name, restrictions in _restrictions(Path(folder)):
            greedy = _correct(model, name, {})
            for description, options in {"no restriction": {}, **restrictions}.items():
                for beam in (1, 5):
                    correct = _correct(model, name, {**options, "beam": beam})
                    better, worse = (correct & ~greedy).sum(), (greedy & ~correct).sum()
                    print(f"{name:<17}{description:<15} beam {beam} {correct.mean():>7.2%}  "
                          f"better: {better}, worse: {worse}", flush=True)


def _restrictions(folder: Path) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """Yields the datasets, each with the options of `Recognizer.load` by their description."""
    labels = _labels("scene-words", "test")
    yield "scene-words", {
        f"{count:,} words": {"lexicon": _write_lexicon(folder / f"{count}.txt", labels, count)}
        for count in _WORD_COUNTS}
    forms = sorted({re.sub(r"\d", "9", label) for part in ("train", "test")
                    for label in _labels("receipt-numbers", part)})
    pattern = "|".join(re.escape(form).replace("9", r"\d") for form in forms)
    yield "receipt-numbers", {f"{len(forms)} forms": {"pattern": pattern}}
    yield "captcha-digits", {"four digits": {"pattern": r"\d{4}"}}


def _write_lexicon(path: Path, labels: Sequence[str], count: int) -> str:
    random = Random(1)
    frequent = [word for word in wordfreq.top_n_list("en", 2 * count)
                if word.isascii() and word.isalpha()][:count]
    words = [random.choice([word, word.capitalize(), word.upper()]) for word in frequent]
    path.write_text("\n".join(dict.fromkeys([*labels, *words])), encoding="utf-8")
    return str(path)


def _labels(name: str, part: str) -> list[str]:
    return [label for _, label in _annotations(name, part)]


def _annotations(name: str, part: str) -> list[tuple[Path, str]]:
    folder = images.SHARED / name
    lines = (folder / f"annotations-{part}.txt").read_text(encoding="utf-8").splitlines()
    return [(folder / path, label) for path, label in (line.split(" ", 1) for line in lines)]


def _correct(model: str, name: str, options: dict[str, Any]) -> np.ndarray:
    """Returns which test images are read without an error, `[images]` bool."""
    paths, labels = zip(*_annotations(name, "test"), strict=True)
    results = aocr.Recognizer.load(model, **options).predict(paths)
    assert isinstance(results, list)
    return np.array([result.text == label for result, label in zip(results, labels, strict=True)])


if __name__ == "__main__":
    main()
