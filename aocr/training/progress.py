"""The training loop: batches, step, log line, validation, checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from aocr.config import PRECISIONS, TrainConfig
from aocr.evaluation import metrics


@dataclass
class RunningMeans:
    """Means over the steps since the last checkpoint."""

    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def line(self, step: int) -> str:
        """The log line of these steps."""
        loss = float(np.mean(self.losses))
        return (f"Global step {step}. Time: {np.mean(self.seconds):.3f}s, loss: {loss:.6f}, "
                f"perplexity: {metrics.perplexity(loss):.2f}.")


def precision_hint(settings: TrainConfig) -> str:
    """Advice to train in float32, where another precision is used."""
    return f", or --precision {PRECISIONS[0]}" if settings.precision != PRECISIONS[0] else ""
