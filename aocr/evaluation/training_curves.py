"""Scalars of a training, from the event files beside a model."""

from __future__ import annotations

import math

import tensorflow as tf

from aocr.runtime.console import log

_EVENT_FILES = "events.out.tfevents.*"


def read_scalars(model_dir: str) -> dict[str, list[tuple[int, float]]]:
    """Returns the points (step, value) of each scalar by its tag, in the order of the steps.

    Where files overlap, as after a resumed training, the later one counts. Values that are not
    finite are left out. The rest of a damaged file is left out with a warning.
    """
    values: dict[str, dict[int, float]] = {}
    for path in sorted(tf.io.gfile.glob(tf.io.gfile.join(model_dir, _EVENT_FILES))):
        try:
            for record in tf.data.TFRecordDataset(path):
                event = tf.compat.v1.Event.FromString(record.numpy())
                for value in event.summary.value:
                    if value.HasField("simple_value") and math.isfinite(value.simple_value):
                        values.setdefault(value.tag, {})[event.step] = value.simple_value
        except tf.errors.DataLossError:
            log.warning(f"The training curves lack the end of {path}, which is damaged.")
    return {tag: sorted(points.items()) for tag, points in values.items()}
