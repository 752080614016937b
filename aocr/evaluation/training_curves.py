"""Scalars of a training run, from the event files beside a model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from aocr.errors import reason
from aocr.runtime.console import log

_EVENT_FILES = "events.out.tfevents.*"


class _Scalar(NamedTuple):
    tag: str
    step: int
    value: float


def read_scalars(model_dir: str) -> dict[str, list[tuple[int, float]]]:
    """Returns the points (step, value) of each scalar by its tag, in the order of the steps.

    A file replaces the points of earlier ones from its first step on: it is of a run that resumed
    before their end, or of a new run. Values that are not finite are left out. The rest of a
    damaged file, and a file that cannot be read, are left out with a warning.
    """
    scalars: list[_Scalar] = []
    for path in sorted(tf.io.gfile.glob(tf.io.gfile.join(model_dir, _EVENT_FILES))):
        later = list(_read_file(path))
        first = min((scalar.step for scalar in later), default=math.inf)
        scalars = [scalar for scalar in scalars if scalar.step < first] + later
    curves: dict[str, list[tuple[int, float]]] = {}
    for tag, step, value in scalars:
        if math.isfinite(value):
            curves.setdefault(tag, []).append((step, value))
    return curves


def _read_file(path: str) -> Iterator[_Scalar]:
    try:
        for record in tf.data.TFRecordDataset(path):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    yield _Scalar(value.tag, event.step, value.simple_value)
    except tf.errors.DataLossError:
        log.warning(f"The training curves lack the end of {path}, which is damaged.")
    except tf.errors.OpError as error:  # no reason for an evaluation to fail
        log.warning(f"The training curves lack {path}: {reason(error)}")
