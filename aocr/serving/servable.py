"""One version of a model in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from aocr.errors import AocrError, reason
from aocr.images import transcoding
from aocr.inference import warmup
from aocr.runtime.devices import disable_tf32
from aocr.serving.errors import ErrorCode, RequestError, invalid

DEFAULT = "serving_default"
_FILE = "saved_model.pb"
_TAG = "serve"


class Servable:
    """A SavedModel, loaded and warm.

    Args:
        folder: The folder of a version.
        version: Its number.

    Attributes:
        version: Its number.
        signatures: The signatures as the SavedModel defines them.
        users: Requests that are using it.

    Raises:
        AocrError: It cannot be loaded, or does not answer.
    """

    def __init__(self, folder: str, version: int) -> None:
        self.version = version
        self.users = 0
        disable_tf32()
        try:
            self.signatures = _signatures(folder)
            self._loaded = tf.saved_model.load(folder)
            self._functions = dict(self._loaded.signatures)
            self._warm(folder)
        # A damaged SavedModel raises any of these.
        except (tf.errors.OpError, OSError, ValueError, LookupError, AttributeError, TypeError,
                AssertionError, RuntimeError, DecodeError, RequestError) as error:
            raise AocrError(f"{folder} is not a SavedModel that can be served: "
                            f"{_told(error)}") from error

    def inputs(self, signature: str) -> dict[str, np.dtype[Any]]:
        """Type of each input of a signature; object for strings.

        Raises:
            RefusalError: There is no such signature.
        """
        name = signature or DEFAULT
        if name not in self._functions:
            raise RequestError(ErrorCode.NO_SIGNATURE,
                               f"Serving signature name: \"{name}\" not found in signature def")
        return {alias: np.dtype(tf.dtypes.as_dtype(info.dtype).as_numpy_dtype)
                for alias, info in self.signatures[name].inputs.items()}

    def outputs(self, signature: str) -> list[str]:
        """Names of a signature's outputs."""
        return sorted(self.signatures[signature or DEFAULT].outputs)

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a signature once.

        Raises:
            RefusalError: The model cannot take these inputs.
        """
        function = self._functions[signature or DEFAULT]
        dtypes = {name: self.signatures[signature or DEFAULT].inputs[name].dtype
                  for name in inputs}
        try:
            answer = function(**{name: tf.constant(value, tf.dtypes.as_dtype(dtypes[name]))
                                 for name, value in inputs.items()})
            return {name: _array(value) for name, value in answer.items()}
        except tf.errors.ResourceExhaustedError as error:
            raise RequestError(ErrorCode.FULL, "no memory is left for the request") from error
        except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
            raise invalid(f"the model cannot read it: {_told(error)}") from error
        except tf.errors.OpError as error:
            raise RequestError(ErrorCode.FAILED, f"the model failed: {_told(error)}") from error

    def unload(self) -> None:
        """Lets go of the model; no request may use it any more."""
        self._functions.clear()
        del self._loaded

    def _warm(self, folder: str) -> None:
        """Runs the model's own warm-up requests, or a blank image where it has none."""
        requests: Iterable[tuple[str, Mapping[str, np.ndarray]]] = warmup.read(folder)
        for signature, inputs in requests or [(DEFAULT, {"input": _blank()})]:
            self.inputs(signature)
            self.run(signature, inputs)


def _array(value: tf.Tensor) -> np.ndarray:
    array = value.numpy()  # bytes for a scalar string
    return np.array(array, object) if isinstance(array, bytes) else np.asarray(array)


def _signatures(folder: str) -> dict[str, meta_graph_pb2.SignatureDef]:
    model = saved_model_pb2.SavedModel()
    with tf.io.gfile.GFile(tf.io.gfile.join(folder, _FILE), "rb") as file:
        model.ParseFromString(file.read())
    for graph in model.meta_graphs:
        if _TAG in graph.meta_info_def.tags:
            return dict(graph.signature_def)
    raise ValueError(f"no graph with the tag {_TAG}")


def _blank() -> np.ndarray:
    return np.array([transcoding.from_array(np.zeros((32, 64), np.uint8))], object)


def _told(error: Exception) -> str:
    return reason(error)[:300]
