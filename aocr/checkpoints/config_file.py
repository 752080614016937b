"""`config.json`, which describes the weights in the same directory."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from types import MappingProxyType

from aocr.checkpoints.model_files import CONFIG_FILE
from aocr.config import NETWORK_SETTINGS, ModelConfig, flag, shown
from aocr.errors import AocrError, reason
from aocr.runtime import filesystem

_FORMAT = 1
# Settings that files of earlier versions lack, with the values that those versions used.
_ADDED = {"alpha": "drop", "temperature": 1.0}
_REMEDY = "restore the file that `aocr train` or `aocr export` wrote"


def exists(directory: str) -> bool:
    """Returns whether a directory has a `config.json`."""
    import tensorflow as tf

    return bool(tf.io.gfile.exists(tf.io.gfile.join(directory, CONFIG_FILE)))


def save(directory: str, config: ModelConfig,
         sections: Mapping[str, Mapping[str, object]] = MappingProxyType({})) -> None:
    """Writes `config.json` atomically.

    Args:
        directory: The directory to write to.
        config: The model's settings.
        sections: Further sections of the file, by name, for other programs; `load` ignores them.
    """
    import tensorflow as tf

    filesystem.write(tf.io.gfile.join(directory, CONFIG_FILE), to_text(config, sections))


def to_text(config: ModelConfig,
            sections: Mapping[str, Mapping[str, object]] = MappingProxyType({})) -> str:
    """Returns the content of `config.json`; see `save`."""
    content = {"format": _FORMAT, "model": config.to_json(), **sections}
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def load(directory: str) -> ModelConfig:
    """Reads the settings of the model in a directory.

    Raises:
        AocrError: The file is missing, damaged, or of a newer version.
    """
    return from_text(*_read(directory))


def load_section(directory: str, name: str) -> dict[str, object]:
    """Returns a further section of `config.json`, see `save`; an empty one if there is none.

    Raises:
        AocrError: The file is missing or damaged.
    """
    content = _from_json(*_read(directory))
    section = content.get(name) if isinstance(content, dict) else None
    return section if isinstance(section, dict) else {}


def from_text(path: str, text: str) -> ModelConfig:
    """Returns the settings in the content of a `config.json`.

    Args:
        path: Where the text comes from, for errors.
        text: The content.

    Raises:
        AocrError: It is damaged, or of a newer version.
    """
    return _parse(path, _from_json(path, text))


def check_flags(directory: str, config: ModelConfig, given: Mapping[str, object]) -> None:
    """Checks that settings of the user do not contradict a model.

    Args:
        directory: The directory of the model.
        config: The model's settings.
        given: The settings that the user named, and no others.

    Raises:
        AocrError: A setting is unknown, or differs; the message names both values.
    """
    for name, value in given.items():
        if name not in ModelConfig.__dataclass_fields__:
            raise AocrError(f"a model has no setting {name!r}; it has "
                            f"{', '.join(ModelConfig.__dataclass_fields__)}")
        stored = getattr(config, name)
        if value != stored:
            weights = ("without --init-from" if name in NETWORK_SETTINGS else
                       f"which may start from the weights of this one with --init-from {directory}")
            raise AocrError(f"{_describe(name, value)} contradicts {directory}, whose model has "
                            f"{_describe(name, stored)}; leave the flag out, or train another "
                            f"model with it, {weights}")


def _read(directory: str) -> tuple[str, str]:
    """Returns path and content of the file in a directory."""
    path = os.path.join(directory, CONFIG_FILE)
    try:
        return path, filesystem.read(path).decode()
    except FileNotFoundError as error:
        raise AocrError(f"{path} is missing: without it the weights beside it cannot be "
                        "used") from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _from_json(path: str, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> AocrError:
    return AocrError(f"{path} cannot be read: {reason(error)}; {_REMEDY}")


def _parse(path: str, content: object) -> ModelConfig:
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise AocrError(f"{path} does not hold the settings of a model; {_REMEDY}")
    if content.get("format") != _FORMAT:
        raise AocrError(f"{path} has format {shown(content.get('format'))}, but this version reads "
                        f"{_FORMAT}; a newer aocr wrote it, or it is damaged: use a newer aocr, or "
                        "restore the file")
    fields = {field.name for field in dataclasses.fields(ModelConfig)}
    settings = {**_ADDED, **content["model"]}
    unexpected = sorted(settings.keys() ^ fields)
    if unexpected:
        raise AocrError(f"{path}: these settings are missing or unknown: "
                        f"{shown(', '.join(unexpected))}; {_REMEDY}")
    try:
        return ModelConfig(**settings)
    except (AocrError, TypeError) as error:
        raise AocrError(f"{path}: {reason(error)}; {_REMEDY}") from error


def _describe(name: str, value: object) -> str:
    """Returns a setting as the flag that sets it."""
    if name == "alphabet":
        text = str(value)
        return f"the alphabet of {len(text)} characters {text[:40]!r}" + "…" * (len(text) > 40)
    if isinstance(value, bool):
        return flag(name) if value else f"no {flag(name)}"
    return f"{flag(name)} {value}"
