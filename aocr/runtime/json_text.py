"""JSON text of results."""

from __future__ import annotations

import json
import math
from typing import Any


def dumps(value: object, indent: int | None = None) -> str:
    """Returns a value as JSON, with `null` for numbers that are not finite."""
    return json.dumps(_finite(value), ensure_ascii=False, indent=indent)


def _finite(value: Any) -> Any:  # noqa: ANN401  # any JSON value
    """Replaces numbers that JSON cannot express by `None`."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
