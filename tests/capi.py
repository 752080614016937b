"""Client of TensorFlow's C API: runs a SavedModel as TensorFlow Serving does.

The model is loaded in a separate process, which uses ``libtensorflow_cc`` through ctypes and never
imports TensorFlow's Python code, so that nothing but the SavedModel defines the graph. A crash in
native code ends only that process, and is reported here as a ``CApiError``.

``python capi.py MODEL_DIR`` is that process: it reads pickled requests from standard input and
writes pickled responses to standard output.
"""

import ctypes
import importlib
import importlib.util
import os
import pickle
import subprocess
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

Input = np.ndarray | bytes | list[bytes]

_STRING_BYTES = 24  # sizeof(TF_TString)
_STRING: np.dtype[Any] = np.dtype(object)
# TF_DataType of every supported element type of inputs and outputs.
_CODES: dict[np.dtype[Any], int] = {
    np.dtype(np.float32): 1,
    np.dtype(np.float64): 2,
    np.dtype(np.int32): 3,
    np.dtype(np.uint8): 4,
    _STRING: 7,
    np.dtype(np.int64): 9,
    np.dtype(np.bool_): 10,
}
_DTYPES = {code: dtype for dtype, code in _CODES.items()}


class CApiError(Exception):
    """An error that TensorFlow reported, or a request that does not fit the SavedModel."""


class SavedModel:
    """A SavedModel loaded by the C API, as a context manager. Not thread-safe."""

    def __init__(self, model_dir: str | Path) -> None:
        """Loads the model.

        Args:
            model_dir: The directory of ``saved_model.pb``.

        Raises:
            CApiError: The model cannot be loaded.
        """
        command = [sys.executable, __file__, str(Path(model_dir).absolute())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            self._receive()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "SavedModel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops the model's process; further calls do nothing."""
        self._process.communicate()

    def run(
        self, inputs: Mapping[str, Input], signature: str = "serving_default"
    ) -> dict[str, np.ndarray]:
        """Runs a signature once.

        Args:
            inputs: The value of each of the signature's inputs: an array, bytes for a scalar
                string, or a list of bytes for a vector of strings.
            signature: The signature's name.

        Returns:
            The value of each output; strings are object arrays of bytes.

        Raises:
            CApiError: TensorFlow refused the request, or crashed.
            TypeError: An input is of a type that cannot be converted to a tensor.
        """
        arrays = {name: _as_array(value) for name, value in inputs.items()}
        assert self._process.stdin is not None
        try:
            pickle.dump((arrays, signature), self._process.stdin)
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # The process has ended; the missing response is the error to report.
        outputs: dict[str, np.ndarray] = self._receive()
        return outputs

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        try:
            error, value = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError):
            message = f"the model's process ended with status {self._process.wait()}"
            raise CApiError(message) from None
        if error is not None:
            raise CApiError(error)
        return value


def run(
    model_dir: str | Path, inputs: Mapping[str, Input], signature: str = "serving_default"
) -> dict[str, np.ndarray]:
    """Loads a SavedModel and runs one signature once; see ``SavedModel.run``."""
    with SavedModel(model_dir) as model:
        return model.run(inputs, signature)


def _as_array(value: Input) -> np.ndarray:
    # An explicit object type: NumPy's own type for bytes drops trailing NULs.
    array = value if isinstance(value, np.ndarray) else np.array(value, dtype=object)
    if array.dtype not in _CODES:
        raise TypeError(f"a tensor cannot hold elements of type {array.dtype}")
    if array.dtype == _STRING and not all(isinstance(item, bytes) for item in array.flat):
        raise TypeError("a string tensor can hold bytes only")
    return array


class _Buffer(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("length", c_size_t), ("deallocator", c_void_p)]


class _Output(ctypes.Structure):
    _fields_ = [("operation", c_void_p), ("index", c_int)]


_TYPES = {"-": None, "p": c_void_p, "s": c_char_p, "i": c_int, "l": c_int64, "z": c_size_t}
# The C functions in use: the result's type, then the arguments' types.
_FUNCTIONS = {
    "TF_NewStatus": "p",
    "TF_GetCode": "i p",
    "TF_Message": "s p",
    "TF_NewGraph": "p",
    "TF_NewBuffer": "p",
    "TF_DeleteBuffer": "- p",
    "TF_NewSessionOptions": "p",
    "TF_LoadSessionFromSavedModel": "p pp s pi ppp",
    "TF_GraphOperationByName": "p ps",
    "TF_SessionRun": "- pp ppi ppi pi pp",
    "TF_AllocateTensor": "p i pi z",
    "TF_DeleteTensor": "- p",
    "TF_TensorType": "i p",
    "TF_NumDims": "i p",
    "TF_Dim": "l pi",
    "TF_TensorData": "p p",
    "TF_TensorByteSize": "z p",
    "TF_StringInit": "- p",
    "TF_StringCopy": "- psz",
    "TF_StringDealloc": "- p",
    "TF_StringGetDataPointer": "p p",
    "TF_StringGetSize": "z p",
}


def _tensorflow_dir() -> Path:
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.origin is None:
        raise CApiError("TensorFlow is not installed")
    return Path(spec.origin).parent


def _load_library(directory: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(directory / "libtensorflow_cc.so.2"))
    for name, letters in _FUNCTIONS.items():
        result, *arguments = (_TYPES[letter] for letter in letters.replace(" ", ""))
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _import_meta_graph(directory: Path) -> Any:
    """Imports the generated module of MetaGraphDef without TensorFlow's own __init__.py."""
    package = types.ModuleType("tensorflow")
    package.__path__ = [str(directory)]
    sys.modules["tensorflow"] = package
    return importlib.import_module("tensorflow.core.protobuf.meta_graph_pb2")


class _Session:
    """The session of one SavedModel, held until the process ends."""

    def __init__(self, model_dir: str) -> None:
        directory = _tensorflow_dir()
        self._c = _load_library(directory)
        self._status = self._c.TF_NewStatus()
        self._graph = self._c.TF_NewGraph()
        buffer = self._c.TF_NewBuffer()
        self._session = self._c.TF_LoadSessionFromSavedModel(
            *(self._c.TF_NewSessionOptions(), None, os.fsencode(model_dir)),
            *((c_char_p * 1)(b"serve"), 1, self._graph, buffer, self._status),
        )
        self._check()
        content = _Buffer.from_address(buffer)
        meta_graph = _import_meta_graph(directory).MetaGraphDef()
        meta_graph.ParseFromString(ctypes.string_at(content.data, content.length))
        self._c.TF_DeleteBuffer(buffer)
        self._signatures = meta_graph.signature_def

    def run(self, inputs: dict[str, np.ndarray], signature: str) -> dict[str, np.ndarray]:
        """Runs a signature once, on arrays of the types in ``_CODES``."""
        definition = self._signature(signature, inputs)
        feeds = self._outputs(definition.inputs[name] for name in inputs)
        names = list(definition.outputs)
        fetches = self._outputs(definition.outputs[name] for name in names)
        fed = (c_void_p * len(feeds))(*map(self._new_tensor, inputs.values()))
        fetched = (c_void_p * len(fetches))()
        try:
            self._run(feeds, fed, fetches, fetched)
            return dict(zip(names, map(self._read_tensor, fetched), strict=True))
        finally:  # Not earlier: an output may share the memory of an input.
            self._free(fed, fetched)

    def _check(self) -> None:
        if self._c.TF_GetCode(self._status):
            raise CApiError(self._c.TF_Message(self._status).decode(errors="replace"))

    def _signature(self, name: str, inputs: Iterable[str]) -> Any:
        if name not in self._signatures:
            raise CApiError(f"no signature {name!r} among {sorted(self._signatures)}")
        expected, given = sorted(self._signatures[name].inputs), sorted(inputs)
        if expected != given:
            raise CApiError(f"signature {name!r} takes the inputs {expected}, not {given}")
        return self._signatures[name]

    def _outputs(self, infos: Iterable[Any]) -> ctypes.Array[_Output]:
        outputs = [self._output(info.name) for info in infos]
        return (_Output * len(outputs))(*outputs)

    def _output(self, tensor_name: str) -> _Output:
        name, _, index = tensor_name.rpartition(":")
        operation = self._c.TF_GraphOperationByName(self._graph, name.encode())
        if not operation:
            raise CApiError(f"the graph has no tensor {tensor_name!r}")
        return _Output(operation, int(index))

    def _run(self, feeds: Any, fed: Any, fetches: Any, fetched: Any) -> None:
        self._c.TF_SessionRun(
            *(self._session, None),
            *(feeds, fed, len(feeds)),
            *(fetches, fetched, len(fetches)),
            *(None, 0, None, self._status),
        )
        self._check()

    def _new_tensor(self, array: np.ndarray) -> int:
        strings = array.dtype == _STRING
        size = array.size * _STRING_BYTES if strings else array.nbytes
        shape = (c_int64 * array.ndim)(*array.shape)
        tensor: int = self._c.TF_AllocateTensor(_CODES[array.dtype], shape, array.ndim, size)
        if strings:
            for at, item in zip(self._strings(tensor), array.flat, strict=True):
                self._c.TF_StringInit(at)
                self._c.TF_StringCopy(at, item, len(item))
        else:
            ctypes.memmove(self._c.TF_TensorData(tensor), array.tobytes(), size)
        return tensor

    def _read_tensor(self, tensor: int) -> np.ndarray:
        dtype = _DTYPES.get(self._c.TF_TensorType(tensor))
        if dtype is None:
            raise CApiError(f"unsupported TF_DataType {self._c.TF_TensorType(tensor)}")
        shape = [self._c.TF_Dim(tensor, dim) for dim in range(self._c.TF_NumDims(tensor))]
        if dtype != _STRING:
            data, size = self._c.TF_TensorData(tensor), self._c.TF_TensorByteSize(tensor)
            return np.ndarray(shape, dtype, buffer=ctypes.string_at(data, size))
        array: np.ndarray = np.empty(shape, dtype)
        for index, at in enumerate(self._strings(tensor)):
            data, size = self._c.TF_StringGetDataPointer(at), self._c.TF_StringGetSize(at)
            array.flat[index] = ctypes.string_at(data, size)
        return array

    def _strings(self, tensor: int) -> Iterable[int]:
        """The address of each TF_TString of a tensor of strings."""
        start = self._c.TF_TensorData(tensor) or 0  # No memory where there are no elements.
        return range(start, start + self._c.TF_TensorByteSize(tensor), _STRING_BYTES)

    def _free(self, fed: Iterable[int], fetched: Iterable[int | None]) -> None:
        for tensor in fed:
            if _DTYPES[self._c.TF_TensorType(tensor)] == _STRING:
                for at in self._strings(tensor):
                    self._c.TF_StringDealloc(at)  # TF_DeleteTensor frees the array only.
        for made in filter(None, (*fed, *fetched)):
            self._c.TF_DeleteTensor(made)


def _call(function: Callable[..., Any], *arguments: Any) -> tuple[str | None, Any]:
    """Calls a function; returns the message of its ``CApiError``, if any, and its result."""
    try:
        return None, function(*arguments)
    except CApiError as error:
        return str(error), None


def _send(responses: BinaryIO, response: tuple[str | None, Any]) -> None:
    pickle.dump(response, responses)
    responses.flush()


def _serve(model_dir: str) -> None:
    """Loads a SavedModel and responds to requests until standard input is closed."""
    responses = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What native code prints to standard output must not mix with the responses.
    error, session = _call(_Session, model_dir)
    _send(responses, (error, None))
    while error is None:
        try:
            arrays, signature = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        _send(responses, _call(session.run, arrays, signature))


if __name__ == "__main__":
    _serve(sys.argv[1])
