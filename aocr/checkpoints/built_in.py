"""Built-in models, which are installed with the package, and their names."""

from __future__ import annotations

from pathlib import Path

from aocr.checkpoints import config_file

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
    """Returns what a built-in model was trained on.

    Raises:
        AocrError: Its `config.json` is damaged.
    """
    about = config_file.load_section(str(_MODELS / name), "about")
    return str(about.get("trained_on", "unknown images"))


def names() -> list[str]:
    """Returns the names of the built-in models."""
    return sorted(path.parent.name for path in _MODELS.glob("*/config.json"))
