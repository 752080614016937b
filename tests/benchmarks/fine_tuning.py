"""Accuracy on unseen images after a number of training steps from the built-in model.

    python -m tests.benchmarks.fine_tuning [--only NAME]... [--seeds N...] [--steps N...]
                                          [--output FILE] [FLAG...]

Like `tests.benchmarks.learning`, with `--init-from latin`. A number at the end of a name is that of
the training images, the first of the set.
"""

from __future__ import annotations

import dataclasses

from tests.benchmarks import learning
from tests.benchmarks.learning import Experiment

_FROM = ("--charset", "auto", "--init-from", "latin")
_FEW = (*_FROM, "--augment", "light")  # as `aocr dataset` proposes for less than 500 images
_NUMBERS = Experiment((50, 100), (720, 57, 23), _FROM, "receipt-numbers")
_CAPTCHAS = Experiment((60, 150), (200, 50, 5), _FROM, "captcha-text")

EXPERIMENTS = {
    "receipt-numbers": _NUMBERS,
    "receipt-numbers-200": dataclasses.replace(_NUMBERS, flags=_FEW, images=200),
    "receipt-lines": Experiment((100, 300, 600), (1800, 79, 40), _FROM, "receipt-lines"),
    "scene-words": Experiment((50, 150, 300), (537, 42, 25), _FROM, "scene-words"),
    "fraktur-lines": Experiment((200, 500, 1000), (3223, 91, 80), _FROM, "fraktur-lines"),
    "captcha-text": _CAPTCHAS,
    **{f"captcha-text-{images}": dataclasses.replace(_CAPTCHAS, flags=_FEW, images=images)
       for images in (100, 200, 400)},
}

if __name__ == "__main__":
    learning.main(EXPERIMENTS, __doc__, "fine_tuning.jsonl")
