"""Plots the losses of trainings that `tests.benchmarks.learning` has measured.

    python -m tests.benchmarks.learning_curves BEFORE AFTER PICTURE [--only NAME]...

BEFORE and AFTER are files of `tests.benchmarks.learning`; PICTURE is an image file, such as .svg.
Needs matplotlib.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from tests.benchmarks import learning

_MEAN_STEPS = 5  # of the plotted losses
_STYLES = {"AdaDelta (--optimizer adadelta)": "#c44e52",
           "Adam with guided attention (default)": "#4c72b0"}


def main() -> None:
    """Plots one panel for each dataset that both files hold."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--only", action="append", choices=learning.EXPERIMENTS, metavar="NAME")
    args = parser.parse_args()
    files = [learning.read(args.before), learning.read(args.after)]
    names = args.only or [name for name in learning.EXPERIMENTS
                          if all(_losses(trainings, name) for trainings in files)]
    figure, panels = plt.subplots(1, len(names), figsize=(3 * len(names), 2.8), squeeze=False,
                                  layout="constrained")
    for name, axes in zip(names, panels[0], strict=True):
        _plot(axes, name, files)
    panels[0][0].set_ylabel("loss per character")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2,
                  frameon=False)
    figure.savefig(args.picture, dpi=150)


def _plot(axes: Axes, name: str, files: list[list[dict[str, Any]]]) -> None:
    """Plots the losses of every seed, up to the last step of the first file."""
    for (label, color), trainings in zip(_STYLES.items(), files, strict=True):
        for n, losses in enumerate(_losses(trainings, name)):
            smooth = np.convolve(losses, np.full(_MEAN_STEPS, 1 / _MEAN_STEPS), "valid")
            axes.plot(np.arange(len(smooth)) + _MEAN_STEPS, smooth, color=color, linewidth=1.2,
                      label=label if n == 0 else None)
    steps = max(map(len, _losses(files[0], name)))
    axes.set(title=name, xlabel="step", yscale="log", xlim=(0, steps), ylim=(0.001, 5))
    axes.grid(alpha=0.3)


def _losses(trainings: list[dict[str, Any]], name: str) -> list[list[float]]:
    return [training["losses"] for training in trainings if training["name"] == name]


if __name__ == "__main__":
    main()
