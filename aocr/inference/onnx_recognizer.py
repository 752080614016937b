"""Recognizers that run exported and compact models in ONNX Runtime, without TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from aocr.checkpoints import built_in, compact, config_file, model_files
from aocr.checkpoints.choice import DEFAULT_CHOICE, CheckpointChoice
from aocr.config import FLOAT32, MAX_PIXELS, ModelConfig
from aocr.errors import AocrError
from aocr.inference import onnx_model
from aocr.inference.numpy_recognizer import NumpyRecognizer
from aocr.inference.options import refuse_options, split_settings
from aocr.inference.recognizer import check_precision, refuse_checkpoint_options
from aocr.runtime import filesystem

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class OnnxRecognizer(NumpyRecognizer):
    """A recognizer around an ONNX model that `aocr export` has written.

    Args:
        source: Path of the model.
        session: The model, loaded by `open_session`.
        config: The model's settings; those in its metadata by default.
        max_pixels: Largest number of pixels of an image.
    """

    def __init__(self, source: str, session: InferenceSession, config: ModelConfig | None = None,
                 max_pixels: int = MAX_PIXELS) -> None:
        super().__init__(source, config or _config(source, session), max_pixels)
        self._session = session

    @classmethod
    def load(cls, model_dir: str | os.PathLike[str] = built_in.DEFAULT_DIRECTORY,
             choice: CheckpointChoice = DEFAULT_CHOICE, max_pixels: int = MAX_PIXELS,
             precision: str = FLOAT32, **settings: object) -> OnnxRecognizer:
        """Loads an ONNX model; see `Recognizer.load`."""
        check_precision(precision)
        path = onnx_model.find(os.fspath(model_dir))
        if path is None:
            raise AocrError(f"{os.fspath(model_dir)} holds no {model_files.ONNX_FILE}; name the "
                            "file that `aocr export --format onnx` has written, or its directory")
        refuse_checkpoint_options(path, choice, precision)
        settings = refuse_options(path, settings)
        recognizer = cls(path, open_session(path, _model(path)), max_pixels=max_pixels)
        config_file.check_flags(path, recognizer.config, settings)
        return recognizer

    def _run(self, images: np.ndarray, widths: np.ndarray) -> Sequence[np.ndarray]:
        inputs = dict(zip(onnx_model.INPUTS, (images, widths), strict=True))
        outputs: Sequence[np.ndarray] = self._session.run(list(onnx_model.OUTPUTS), inputs)
        return outputs


class CompactRecognizer(OnnxRecognizer):
    """A recognizer around a compact model with a graph for ONNX Runtime.

    Args:
        source: Path of the weights.
        config: The model's settings.
        weights: Float32 values of the initializers of the graph, by name.
        max_pixels: Largest number of pixels of an image.
    """

    def __init__(self, source: str, config: ModelConfig, weights: Mapping[str, np.ndarray],
                 max_pixels: int = MAX_PIXELS) -> None:
        graph = os.path.join(os.path.dirname(source), onnx_model.GRAPH_FILE)
        session = open_session(f"{graph} with {model_files.COMPACT_FILE}", graph, weights)
        super().__init__(source, session, config, max_pixels)
        self._weights = weights

    @classmethod
    def load(cls, model_dir: str | os.PathLike[str] = built_in.DEFAULT_DIRECTORY,
             choice: CheckpointChoice = DEFAULT_CHOICE, max_pixels: int = MAX_PIXELS,
             precision: str = FLOAT32, **settings: object) -> CompactRecognizer:
        """Loads a compact model for which `needs_tensorflow` is false; see `Recognizer.load`."""
        check_precision(precision)
        directory = built_in.resolve(os.fspath(model_dir))
        compact.refuse_choice(directory, choice)
        config = config_file.load(directory)
        config_file.check_flags(directory, config, split_settings(settings)[1])
        weights = {name: array.astype(np.float32)
                   for name, array in compact.read(directory).items() if array.dtype.kind == "f"}
        weights[onnx_model.TEMPERATURE] = np.array(config.temperature, np.float32)
        return cls(compact.path(directory), config, weights, max_pixels)


def _model(path: str) -> str | bytes:
    """Returns the path of a local file, or the content of a remote one."""
    if os.path.isfile(path):
        return path
    if not filesystem.is_remote(path):
        raise AocrError(f"{path} is not a file on this machine; name the file that `aocr export "
                        "--format onnx` has written")
    try:
        return filesystem.read(path)
    except OSError as error:
        raise AocrError(f"cannot read {path}: {error.strerror}") from error


def open_session(path: str, model: str | bytes,
                 weights: Mapping[str, np.ndarray] = MappingProxyType({})) -> InferenceSession:
    """Loads a model into ONNX Runtime, for the CPU.

    Args:
        path: Path of the model, for errors.
        model: Path of the model, or its content.
        weights: Values of the initializers that the model lacks, by name. The session uses their
            memory, so the caller keeps them as long as the session.

    Raises:
        AocrError: ONNX Runtime is not installed, or does not accept the model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise AocrError(f"{path} is an ONNX model, which needs ONNX Runtime: run pip install "
                        "'.[onnx]' in the source directory of aocr") from error
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    options = onnxruntime.SessionOptions()
    options.add_external_initializers(
        list(weights), list(map(onnxruntime.OrtValue.ortvalue_from_numpy, weights.values())))
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
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
