"""Recognizer that runs an exported model in ONNX Runtime, without TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aocr.checkpoints import built_in, config_file
from aocr.checkpoints.choice import DEFAULT_CHOICE, CheckpointChoice
from aocr.config import MAX_PIXELS, PRECISIONS, ModelConfig
from aocr.errors import AocrError
from aocr.inference import onnx_model
from aocr.inference.numpy_recognizer import NumpyRecognizer
from aocr.inference.options import refuse_options
from aocr.inference.recognizer import check_precision, refuse_checkpoint_options

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class OnnxRecognizer(NumpyRecognizer):
    """A recognizer around an ONNX model that `aocr export` has written.

    Args:
        source: Path of the model.
        session: The model, loaded by `open_session`.
        max_pixels: Largest number of pixels of an image.
    """

    def __init__(self, source: str, session: InferenceSession, max_pixels: int = MAX_PIXELS
                 ) -> None:
        super().__init__(source, _config(source, session), max_pixels)
        self._session = session

    @classmethod
    def load(cls, model_dir: str | os.PathLike[str] = built_in.DEFAULT,
             choice: CheckpointChoice = DEFAULT_CHOICE, max_pixels: int = MAX_PIXELS,
             precision: str = PRECISIONS[0], **settings: object) -> OnnxRecognizer:
        """Loads an ONNX model; see `Recognizer.load`."""
        check_precision(precision)
        path = onnx_model.find(os.fspath(model_dir))
        if path is None:
            raise AocrError(f"{os.fspath(model_dir)} holds no {onnx_model.ONNX_FILE}; name the "
                            "file that `aocr export --format onnx` has written, or its directory")
        refuse_checkpoint_options(path, choice, precision)
        if not os.path.isfile(path):
            raise AocrError(f"{path} is not a file on this machine; name the file that `aocr "
                            "export --format onnx` has written")
        settings = refuse_options(path, settings)
        recognizer = cls(path, open_session(path, path), max_pixels)
        config_file.check_flags(path, recognizer.config, settings)
        return recognizer

    def _run(self, images: np.ndarray, widths: np.ndarray) -> Sequence[np.ndarray]:
        inputs = dict(zip(onnx_model.INPUTS, (images, widths), strict=True))
        outputs: Sequence[np.ndarray] = self._session.run(list(onnx_model.OUTPUTS), inputs)
        return outputs


def open_session(path: str, model: str | bytes) -> InferenceSession:
    """Loads a model into ONNX Runtime, for the CPU.

    Args:
        path: Path of the model, for errors.
        model: Path of the model, or its content.

    Raises:
        AocrError: ONNX Runtime is not installed, or does not accept the model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise AocrError(f"{path} is an ONNX model, which needs ONNX Runtime: run pip install "
                        "'.[onnx]' in the source directory of aocr") from error
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    try:
        return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    except (errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.InvalidProtobuf,
            errors.NotImplemented, errors.RuntimeException) as error:
        raise AocrError(f"{path} is not a model that ONNX Runtime {onnxruntime.__version__} "
                        f"reads: {error}") from error


def _config(path: str, session: InferenceSession) -> ModelConfig:
    """Returns the settings in the metadata of a model."""
    text = session.get_modelmeta().custom_metadata_map.get(onnx_model.CONFIG_KEY)
    names = [output.name for output in session.get_outputs()]
    if text is None or not set(names).issuperset(onnx_model.OUTPUTS):
        raise AocrError(f"{path} is not a model that `aocr export --format onnx` has written")
    return config_file.from_text(f"{path} ({onnx_model.CONFIG_KEY})", text)
