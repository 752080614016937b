"""Attention OCR for cropped words and lines.

`Recognizer.load(model_dir).predict(images)` is the Python interface; TensorFlow is imported when
`Recognizer.load` needs it, which is not for models in the format ONNX and, where ONNX Runtime is
installed, not for the built-in model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aocr.errors import AocrError

if TYPE_CHECKING:
    from aocr.inference.recognizer import Recognizer, Result

__version__ = "1.0.0"
__all__ = ["AocrError", "Recognizer", "Result", "__version__"]


def __getattr__(name: str) -> object:
    if name in ("Recognizer", "Result"):
        from aocr.inference import recognizer

        return getattr(recognizer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
