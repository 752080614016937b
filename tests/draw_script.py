"""The script `datasets/draw.py` as a module."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

PATH = Path(__file__).resolve().parents[1] / "datasets" / "draw.py"


def load() -> ModuleType:
    """Imports the script and the module beside it, as Python does when it runs the script."""
    sys.path.insert(0, str(PATH.parent))
    try:
        return importlib.import_module("draw")
    finally:
        sys.path.remove(str(PATH.parent))
