"""The model folder: weights, and the config beside them that describes them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from aocr.config import ModelConfig, flag
from aocr.errors import AocrError
from aocr.model import AttentionOCR

CONFIG_FILE = "config.json"
CONFIG_FORMAT = 1
CHECKPOINT_NAME = "model.ckpt"
KEEP = 5


class Loaded(NamedTuple):
    """A restored model: its settings, its network, and the checkpoint it came from."""

    config: ModelConfig
    model: AttentionOCR
    path: str


def exists(model_dir: str) -> bool:
    """Whether the folder holds a checkpoint."""
    return tf.train.latest_checkpoint(model_dir) is not None


def started(model_dir: str) -> bool:
    """Whether a training has left its state file in the folder, whatever became of the rest."""
    return bool(tf.io.gfile.exists(tf.io.gfile.join(model_dir, "checkpoint")))


def newest(model_dir: str) -> str:
    """Path of the newest checkpoint.

    Raises:
        AocrError: No such folder, or no checkpoint in it.
    """
    path = tf.train.latest_checkpoint(model_dir)
    if path is None:
        if started(model_dir):
            raise AocrError(f"the checkpoint that {model_dir}/checkpoint names is not there; bring "
                            "its files back, or train anew with --no-resume")
        there = tf.io.gfile.isdir(model_dir)
        raise AocrError(f"no {'checkpoint in' if there else 'model folder'} {model_dir}; "
                        "--model-dir names the folder that `aocr train` has written")
    return str(path)


def load(model_dir: str) -> Loaded:
    """The newest model of a folder.

    Raises:
        AocrError: There is none, or it does not fit its config.
    """
    path = newest(model_dir)
    config = load_config(model_dir)
    model = AttentionOCR(config)
    restore(tf.train.Checkpoint(model=model), path)
    return Loaded(config, model, path)


def restore(checkpoint: tf.train.Checkpoint, path: str) -> None:
    """Reads the values of everything in `checkpoint`, none of which may be missing.

    Raises:
        AocrError: The file is damaged or holds other variables.
    """
    try:
        status = checkpoint.read(path)
        status.assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError) as error:
        raise AocrError(f"the checkpoint {path} does not fit {CONFIG_FILE} beside it: "
                        f"{_first_line(error)}") from error
    except tf.errors.OpError as error:
        raise AocrError(f"cannot read the checkpoint {path}: {_first_line(error)}") from error


def manager(checkpoint: tf.train.Checkpoint, model_dir: str) -> tf.train.CheckpointManager:
    """Writes `model.ckpt-N`, the original's file names, and keeps the newest few."""
    return tf.train.CheckpointManager(
        checkpoint, model_dir, max_to_keep=KEEP, checkpoint_name=CHECKPOINT_NAME)


def save_config(model_dir: str, config: ModelConfig) -> None:
    """Writes `config.json` whole or not at all."""
    text = json.dumps({"format": CONFIG_FORMAT, "model": config.to_json()},
                      ensure_ascii=False, indent=2)
    path = tf.io.gfile.join(model_dir, CONFIG_FILE)
    with tf.io.gfile.GFile(path + ".part", "w") as file:
        file.write(text + "\n")
    tf.io.gfile.rename(path + ".part", path, overwrite=True)


def load_config(model_dir: str) -> ModelConfig:
    """The settings of a model folder.

    Raises:
        AocrError: There are none, or they are damaged or from a newer version.
    """
    path = tf.io.gfile.join(model_dir, CONFIG_FILE)
    try:
        with tf.io.gfile.GFile(path, "r") as file:
            stored = json.loads(file.read())
    except tf.errors.NotFoundError as error:
        raise AocrError(f"{path} is missing: without it the weights beside it cannot be "
                        "understood") from error
    except (tf.errors.OpError, ValueError) as error:
        raise AocrError(f"{path} cannot be read: {_first_line(error)}") from error
    return _parse_config(path, stored)


def check_flags(model_dir: str, config: ModelConfig, given: Mapping[str, object]) -> None:
    """Refuses flags that say something else than the folder.

    Args:
        model_dir: The folder.
        config: Its settings.
        given: The settings the user named, and no others.

    Raises:
        AocrError: Names both values of the first that differs.
    """
    for name, value in given.items():
        stored = getattr(config, name)
        if value != stored:
            raise AocrError(f"{_named(name, value)} contradicts {model_dir}, whose model has "
                            f"{_named(name, stored)}; leave the flag out, or name another "
                            "--model-dir")


def _parse_config(path: str, stored: object) -> ModelConfig:
    if not isinstance(stored, dict) or not isinstance(stored.get("model"), dict):
        raise AocrError(f"{path} is not the config of a model")
    if stored.get("format") != CONFIG_FORMAT:
        raise AocrError(f"{path} has format {stored.get('format')!r}, this version reads "
                        f"{CONFIG_FORMAT}; a newer aocr wrote it")
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    odd = sorted(stored["model"].keys() ^ known)
    if odd:
        raise AocrError(f"{path}: these settings are missing or unknown: {', '.join(odd)}")
    try:
        return ModelConfig(**stored["model"])
    except (AocrError, TypeError) as error:
        raise AocrError(f"{path}: {error}") from error


def _named(name: str, value: object) -> str:
    if name == "alphabet":
        text = str(value)
        return f"the alphabet of {len(text)} characters {text[:40]!r}" + "…" * (len(text) > 40)
    if isinstance(value, bool):
        return flag(name) if value else f"no {flag(name)}"
    return f"{flag(name)} {value}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
