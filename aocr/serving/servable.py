"""One version of a model in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from aocr.checkpoints import config_file
from aocr.errors import AocrError, reason
from aocr.images import transcoding
from aocr.inference import saved_model, warmup
from aocr.inference.saved_model import DEFAULT_SIGNATURE
from aocr.runtime.devices import disable_tf32
from aocr.serving.errors import ErrorCode, RequestError, invalid

_SHOWN_CHARACTERS = 80  # of a signature name in an error message


class Servable:
    """A SavedModel, loaded and warmed up.

    Args:
        path: Directory of the version.
        version: Its number.

    Attributes:
        version: Its number.
        signatures: The signatures as the SavedModel defines them.
        users: Number of requests that are using it.
        max_width: Largest width of the images of `serving_images` in pixels; `None` if the
            SavedModel does not state it.

    Raises:
        AocrError: It cannot be loaded, or a warm-up request fails.
    """

    def __init__(self, path: str, version: int) -> None:
        self.version = version
        self.users = 0
        disable_tf32()
        try:
            graph = saved_model.serving_graph(saved_model.read_proto(path))
            self.signatures = dict(graph.signature_def)
            self._loaded = tf.saved_model.load(path)
            self._functions = dict(self._loaded.signatures)
            self.max_width = _max_width(path)
            self._warm_up(path)
        # A damaged SavedModel raises any of these.
        except (tf.errors.OpError, OSError, ValueError, LookupError, AttributeError, TypeError,
                AssertionError, RuntimeError, DecodeError, RequestError) as error:
            raise AocrError(f"{path} is not a SavedModel that can be served: "
                            f"{_summary(error)}") from error

    def inputs(self, signature: str) -> dict[str, np.dtype[Any]]:
        """Returns the dtype of each input of a signature; object for strings.

        Args:
            signature: Its name; empty for the default signature.

        Raises:
            RequestError: There is no such signature.
        """
        name = signature or DEFAULT_SIGNATURE
        if name not in self._functions:
            raise RequestError(ErrorCode.UNKNOWN_SIGNATURE,
                               f'Serving signature name: "{name[:_SHOWN_CHARACTERS]}" not found '
                               "in signature def")
        return {alias: np.dtype(tf.dtypes.as_dtype(info.dtype).as_numpy_dtype)
                for alias, info in self.signatures[name].inputs.items()}

    def outputs(self, signature: str) -> list[str]:
        """Returns the names of a signature's outputs."""
        return sorted(self.signatures[signature or DEFAULT_SIGNATURE].outputs)

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a signature once.

        Raises:
            RequestError: The model rejects the inputs, or fails.
        """
        name = signature or DEFAULT_SIGNATURE
        infos = self.signatures[name].inputs
        try:
            outputs = self._functions[name](**{
                alias: tf.constant(value, tf.dtypes.as_dtype(infos[alias].dtype))
                for alias, value in inputs.items()})
            return {alias: _to_array(value) for alias, value in outputs.items()}
        except tf.errors.ResourceExhaustedError as error:
            raise RequestError(ErrorCode.OVERLOADED,
                               "not enough memory for the request") from error
        except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
            raise invalid(f"the model rejected the inputs: {_summary(error)}") from error
        except tf.errors.OpError as error:
            raise RequestError(ErrorCode.INTERNAL,
                               f"the model failed: {_summary(error)}") from error

    def unload(self) -> None:
        """Releases the model. No request may use it afterwards."""
        self._functions.clear()
        del self._loaded

    def _warm_up(self, path: str) -> None:
        """Runs the warm-up requests beside the model, or a blank image if there are none."""
        requests: Iterable[tuple[str, Mapping[str, np.ndarray]]] = warmup.read(path)
        for signature, inputs in requests or [(DEFAULT_SIGNATURE, {"input": _blank_image()})]:
            self.inputs(signature)  # raises if there is no such signature
            self.run(signature, inputs)


def _max_width(path: str) -> int | None:
    extra = tf.io.gfile.join(path, saved_model.EXTRA_ASSETS)
    if not config_file.exists(extra):
        return None
    width = config_file.load_section(extra, saved_model.IMAGES_SIGNATURE).get("max_width")
    return width if isinstance(width, int) else None


def _to_array(value: tf.Tensor) -> np.ndarray:
    array = value.numpy()  # bytes for a scalar string
    return np.array(array, object) if isinstance(array, bytes) else np.asarray(array)


def _blank_image() -> np.ndarray:
    return np.array([transcoding.from_array(np.zeros((32, 64), np.uint8))], object)


def _summary(error: Exception) -> str:
    return reason(error)[:300]
