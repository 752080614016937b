"""Built-in models, which are installed with the package, and their names."""

from __future__ import annotations

import json
from pathlib import Path

_MODELS = Path(__file__).parents[1] / "pretrained"
DEFAULT = "latin"
DEFAULT_DIRECTORY = str(_MODELS / DEFAULT)


def resolve(model: str) -> str:
    """Returns the directory of a model.

    Args:
        model: A path, or the name of a built-in model. An existing path takes precedence.
    """
    return str(_MODELS / model) if model in names() and not Path(model).exists() else model


def describe(name: str) -> str:
    """Returns what a built-in model was trained on."""
    content = json.loads((_MODELS / name / "config.json").read_text(encoding="utf-8"))
    return str(content["about"]["trained_on"])


def names() -> list[str]:
    """Returns the names of the built-in models."""
    return sorted(path.parent.name for path in _MODELS.glob("*/config.json"))
