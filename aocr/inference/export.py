"""Exports a model for serving, and checks the written files before they become visible."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from aocr.checkpoints import config_file, loader
from aocr.errors import AocrError, reason
from aocr.inference.export_formats import FORMATS, INT8_FORMATS, Predict
from aocr.inference.exported_model import (
    DECODING_SECTION,
    ExportedModel,
    config_sections,
    sample_images,
)
from aocr.inference.graph import RecognitionGraph
from aocr.inference.quantization_samples import Comparison, Samples
from aocr.inference.saved_model import EXTRA_ASSETS, MAX_VERSION
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer
from aocr.runtime import filesystem

_TOLERANCE = 1e-5
_STAGING_SUFFIX = ".part"


def export(recognizer: CheckpointRecognizer, target: str, kind: str, version: int | None = None
           ) -> str:
    """Writes a model for serving.

    Args:
        recognizer: The model.
        target: The directory to write to.
        kind: A key of `aocr.inference.export_formats.FORMATS`.
        version: Write to the numbered directory `target/version/`, where TensorFlow Serving looks
            for a version.

    Returns:
        The directory written to.

    Raises:
        AocrError: The directory cannot be written to, the version exists, or the exported model
            does not give the predictions of the checkpoint.
    """
    def write(model: ExportedModel, directory: str) -> None:
        FORMATS[kind].write(model, directory)
        _check_predictions(model, FORMATS[kind].load(directory), directory)

    return _publish(recognizer, target, kind, version, write)


def export_int8(recognizer: CheckpointRecognizer, target: str, kind: str, samples: Samples,
                version: int | None = None) -> tuple[str, Comparison]:
    """Writes a model for serving that is quantized to int8.

    Args:
        recognizer: The model.
        target: The directory to write to.
        kind: A key of `aocr.inference.export_formats.INT8_FORMATS`.
        samples: Images that show the ranges of values, and on which the results are compared.
        version: As for `export`.

    Returns:
        The directory written to, and the comparison with the checkpoint.

    Raises:
        AocrError: The directory cannot be written to, or the version exists.
    """
    comparisons: list[Comparison] = []

    def write(model: ExportedModel, directory: str) -> None:
        INT8_FORMATS[kind].write(model, directory, samples.for_calibration())
        size = tf.io.gfile.stat(tf.io.gfile.join(directory, FORMATS[kind].file)).length
        quantized = INT8_FORMATS[kind].load(directory, recognizer.graph.max_pixels)
        comparisons.append(samples.compare(recognizer, quantized, size))

    return _publish(recognizer, target, kind, version, write), comparisons[0]


def _publish(recognizer: CheckpointRecognizer, target: str, kind: str, version: int | None,
             write: Callable[[ExportedModel, str], None]) -> str:
    """Writes a model to a directory where it appears when it is complete and checked.

    Args:
        recognizer: The model.
        target: As for `export`.
        kind: As for `export`.
        version: As for `export`.
        write: Writes the model to an existing directory, and checks it.

    Returns:
        The directory written to.
    """
    _refuse_candidates(kind, recognizer.graph)
    directory = target if version is None else tf.io.gfile.join(target, str(version))
    _check_target(target, directory, version)
    _refuse_original(target, os.path.dirname(recognizer.source))
    _refuse_other_model(directory, kind, recognizer.graph)
    model = ExportedModel(recognizer.graph)
    # A server may watch the directory: nothing appears there before it is complete and checked.
    staging = directory.rstrip("/") + _STAGING_SUFFIX
    try:
        filesystem.remove(staging)
        tf.io.gfile.makedirs(staging)
        _write_config(staging, recognizer.graph)
        write(model, staging)
        _move(staging, directory)
    except (tf.errors.OpError, OSError) as error:
        raise AocrError(f"cannot write the export to {directory}: {reason(error)}") from error
    finally:
        filesystem.remove(staging)
    return directory


def _refuse_candidates(kind: str, graph: RecognitionGraph) -> None:
    """Refuses several texts per image in a format that returns one."""
    if kind != "savedmodel" and graph.decoding.describe().get("n_best") is not None:
        raise AocrError(f"--n-best adds outputs to --format savedmodel; --format {kind} returns "
                        "one text; leave it out, or use --beam")


def _check_target(target: str, directory: str, version: int | None) -> None:
    filesystem.refuse_pattern(target)
    if filesystem.is_remote(directory) and "/" not in directory.split("://")[1].strip("/"):
        raise AocrError(f"{directory} names a bucket without a folder; name one in it, such as "
                        f"{directory.rstrip('/')}/exported")
    if tf.io.gfile.exists(target) and not tf.io.gfile.isdir(target):
        raise AocrError(f"{target} is a file; name a directory to export to")
    if version is not None and version > MAX_VERSION:
        raise AocrError(f"--model-version {version} cannot be served: expected at most "
                        f"{MAX_VERSION}")
    if version is not None and tf.io.gfile.exists(directory):
        versions = filesystem.numbered_dirs(target)
        free = max(number for number in versions if number <= MAX_VERSION) + 1
        raise AocrError(f"{directory} exists, and a server may be using it; the next free number "
                        f"is --model-version {free}")


def _refuse_original(target: str, model_dir: str) -> None:
    """Refuses to write into the directory of a model of the original aocr."""
    inner, outer = (os.path.join(
        path if filesystem.is_remote(path) else os.path.realpath(path), "")
        for path in (target, model_dir))
    if inner.startswith(outer) and loader.is_legacy(model_dir):
        raise AocrError(f"{model_dir} holds a model of the original aocr, which is never written "
                        f"to; name a directory outside it instead of {target}")


def _refuse_other_model(directory: str, kind: str, graph: RecognitionGraph) -> None:
    """Refuses to write beside an export in another format whose settings are different."""
    extra = tf.io.gfile.join(directory, EXTRA_ASSETS)
    files = [other.file for name, other in FORMATS.items() if name != kind
             and tf.io.gfile.exists(tf.io.gfile.join(directory, other.file))]
    if files and tf.io.gfile.isdir(extra) and (
            config_file.load(extra) != graph.config
            or config_file.load_section(extra, DECODING_SECTION) != graph.decoding.describe()):
        raise AocrError(f"{directory} holds the {files[0]} of a model with other settings; name "
                        "another directory")


def _write_config(directory: str, graph: RecognitionGraph) -> None:
    extra = tf.io.gfile.join(directory, EXTRA_ASSETS)
    tf.io.gfile.makedirs(extra)
    config_file.save(extra, graph.config, config_sections(graph))


def _check_predictions(model: ExportedModel, predict: Predict, directory: str) -> None:
    """Compares the predictions of the written model with those of the checkpoint."""
    encoded = tf.constant(sample_images(model.graph.config.channels))
    for images in (encoded, encoded[1]):
        expected = model.read(images)
        output, probability = predict(images)
        if not np.array_equal(output, expected["output"].numpy()) or not np.allclose(
                probability, expected["probability"].numpy(), rtol=0, atol=_TOLERANCE):
            raise AocrError(f"the model written to {directory} does not give the predictions of "
                            "the checkpoint; nothing was exported")


def _move(staging: str, directory: str) -> None:
    """Moves the export to its directory: at once if that is new and local, else file by file.

    The file of the model itself comes last, because servers and this program look for it.
    """
    if not filesystem.is_remote(directory) and not tf.io.gfile.exists(directory):
        tf.io.gfile.rename(staging, directory)
        return
    model_files = [kind.file for kind in FORMATS.values()]
    *others, model = sorted(_files_in(staging), key=lambda name: (name in model_files, name))
    filesystem.remove(tf.io.gfile.join(directory, model))
    for name in (*others, model):
        path = tf.io.gfile.join(directory, name)
        tf.io.gfile.makedirs(os.path.dirname(path))
        tf.io.gfile.rename(tf.io.gfile.join(staging, name), path, overwrite=True)


def _files_in(directory: str, subdirectory: str = "") -> Iterator[str]:
    """Yields the paths of all files in a directory, at any depth, relative to it."""
    for name in tf.io.gfile.listdir(tf.io.gfile.join(directory, subdirectory)):
        relative = os.path.join(subdirectory, name.rstrip("/"))
        path = tf.io.gfile.join(directory, relative)
        if tf.io.gfile.isdir(path):
            yield from _files_in(directory, relative)
        elif tf.io.gfile.exists(path):  # ram:// lists `assets.extra` as a file within `assets`
            yield relative
