"""`config.json`, which describes the weights beside it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from types import MappingProxyType

import tensorflow as tf

from aocr.config import ModelConfig, flag, shown
from aocr.errors import AocrError, reason
from aocr.runtime import filesystem

NAME = "config.json"
_FORMAT = 1
_REMEDY = "bring the file back that `aocr train` or `aocr export` wrote"


def exists(model_dir: str) -> bool:
    """Whether the folder has one."""
    return bool(tf.io.gfile.exists(tf.io.gfile.join(model_dir, NAME)))


def save(directory: str, config: ModelConfig,
         sections: Mapping[str, Mapping[str, object]] = MappingProxyType({})) -> None:
    """Writes `config.json` atomically.

    Args:
        directory: The directory to write to.
        config: The model's settings.
        sections: What else the file states, by name, for other programs; `load` ignores it.
    """
    content = {"format": _FORMAT, "model": config.to_json(), **sections}
    text = json.dumps(content, ensure_ascii=False, indent=2)
    filesystem.write(tf.io.gfile.join(directory, NAME), text + "\n")


def load(model_dir: str) -> ModelConfig:
    """The settings of a model folder.

    Raises:
        AocrError: There are none, or they are damaged or from a newer version.
    """
    path = tf.io.gfile.join(model_dir, NAME)
    try:
        with tf.io.gfile.GFile(path, "r") as file:
            stored = json.loads(file.read())
    except tf.errors.NotFoundError as error:
        raise AocrError(f"{path} is missing: without it the weights beside it cannot be "
                        "understood") from error
    except (tf.errors.OpError, ValueError, RecursionError) as error:
        raise AocrError(f"{path} cannot be read: {reason(error)}; {_REMEDY}") from error
    return _parsed(path, stored)


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
        if name not in ModelConfig.__dataclass_fields__:
            raise AocrError(f"a model has no setting {name!r}; it has "
                            f"{', '.join(ModelConfig.__dataclass_fields__)}")
        stored = getattr(config, name)
        if value != stored:
            raise AocrError(f"{_named(name, value)} contradicts {model_dir}, whose model has "
                            f"{_named(name, stored)}; leave the flag out, or name another "
                            "model folder")


def _parsed(path: str, stored: object) -> ModelConfig:
    if not isinstance(stored, dict) or not isinstance(stored.get("model"), dict):
        raise AocrError(f"{path} is not the config of a model; {_REMEDY}")
    if stored.get("format") != _FORMAT:
        raise AocrError(f"{path} has format {shown(stored.get('format'))}, this version reads "
                        f"{_FORMAT}; a newer aocr wrote it, or it is damaged: take a newer "
                        "aocr, or bring the file back")
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    odd = sorted(stored["model"].keys() ^ known)
    if odd:
        raise AocrError(f"{path}: these settings are missing or unknown: "
                        f"{shown(', '.join(odd))}; {_REMEDY}")
    try:
        return ModelConfig(**stored["model"])
    except (AocrError, TypeError) as error:
        raise AocrError(f"{path}: {reason(error)}; {_REMEDY}") from error


def _named(name: str, value: object) -> str:
    if name == "alphabet":
        text = str(value)
        return f"the alphabet of {len(text)} characters {text[:40]!r}" + "…" * (len(text) > 40)
    if isinstance(value, bool):
        return flag(name) if value else f"no {flag(name)}"
    return f"{flag(name)} {value}"
