"""Checkpoints of the original aocr with random weights, and its predictions.

Nothing is imported from `aocr`: names, shapes and the preprocessing are implemented independently.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tests import reference, reference_decoding
from tests.drawing import opened

FILTERS = {"conv1": (3, 64), "conv2": (3, 128), "conv3": (3, 256), "conv4": (3, 256),
           "conv5": (3, 512), "conv6": (3, 512), "conv7": (2, 512)}
DECODER = "embedding_attention_decoder/attention_decoder"
TABLE_SIZE = 1024  # number of cubic weights that TensorFlow tabulates between two pixels
Variables = dict[str, NDArray[Any]]
# Limits of the models of the tests, and sizes of images: not resized, and resized to the height or
# to the width.
LIMITS: dict[str, Any] = {"max_width": 40, "max_height": 32, "max_prediction": 3}
SIZES = ((30, 20), (40, 32), (33, 51), (90, 40), (200, 30))


@dataclass(frozen=True)
class OriginalModel:
    """Sizes of a model of the original, and the names of its variables.

    Attributes:
        layers: Decoder layers.
        hidden: Units of a decoder layer.
        embedding: Size of a character's embedding.
        characters: Size of the alphabet.
        channels: Channels of an image.
        gru: Whether the decoder has GRU cells.
        norm: "BatchNorm" (version 0.7.6) or "batch_normalization" (port).
        kernel: Name of a kernel in the decoder: "kernel" or "weights".
        bias: Name of a bias in the decoder: "bias" or "biases".
        step: The step counter; `None` for none.
        slots: Whether the checkpoint holds the optimizer's variables.
    """

    layers: int = 2
    hidden: int = 6
    embedding: int = 4
    characters: int = 36
    channels: int = 1
    gru: bool = False
    norm: str = "BatchNorm"
    kernel: str = "kernel"
    bias: str = "bias"
    step: int | None = 5000
    slots: bool = False


@functools.cache
def _convolutions(channels: int) -> Variables:
    """Returns weights of the CNN, with variances as of real images, so that columns differ."""
    random = np.random.default_rng(channels)
    weights: Variables = {}
    inputs = channels
    for name, (size, filters) in FILTERS.items():
        spread = math.sqrt(2.0 / (size * size * inputs))
        weights[f"conv_{name}/W"] = random.normal(0, spread, (size, size, inputs, filters))
        if name in reference.NORMALIZED:
            weights[f"conv_{name}/BatchNorm/gamma"] = random.uniform(0.5, 1.5, filters)
            weights[f"conv_{name}/BatchNorm/beta"] = random.normal(0, 0.3, filters)
            weights[f"conv_{name}/BatchNorm/moving_mean"] = random.normal(0, 0.1, filters)
            weights[f"conv_{name}/BatchNorm/moving_variance"] = random.uniform(0.05, 0.5, filters)
        inputs = filters
    return weights


def variables(model: OriginalModel) -> Variables:
    """Returns all variables of a checkpoint by name."""
    random = np.random.default_rng(model.layers * 1000 + model.hidden)
    units, hidden = model.layers * model.hidden, model.hidden
    memory, state = 2 * units, (1 if model.gru else 2) * units
    vocab = model.characters + 3
    kernels = {f"bidirectional_rnn/{direction}/basic_lstm_cell": (512 + units, 4 * units)
            for direction in ("fw", "bw")}
    cell = f"{DECODER}/multi_rnn_cell/cell_0"
    if model.gru:
        kernels[f"{cell}/gru_cell/gates"] = (2 * hidden, 2 * hidden)
        kernels[f"{cell}/gru_cell/candidate"] = (2 * hidden, hidden)
    else:
        kernels[f"{cell}/basic_lstm_cell"] = (2 * hidden, 4 * hidden)
    linear = {DECODER: (model.embedding + memory, hidden),
              f"{DECODER}/Attention_0": (state, memory),
              f"{DECODER}/AttnOutputProjection": (hidden + memory, vocab)}
    weights = {name.replace("BatchNorm", model.norm): value
            for name, value in _convolutions(model.channels).items()}
    for shapes, kernel, bias in ((kernels, "kernel", "bias"), (linear, model.kernel, model.bias)):
        for name, shape in shapes.items():
            weights[f"{name}/{kernel}"] = random.normal(0, 2 / math.sqrt(shape[0]), shape)
            weights[f"{name}/{bias}"] = random.normal(0, 0.2, shape[1])
    weights["embedding_attention_decoder/embedding"] = random.normal(0, 1, (vocab, model.embedding))
    weights[f"{DECODER}/AttnW_0"] = random.normal(0, 1, (1, 1, memory, memory))
    weights[f"{DECODER}/AttnV_0"] = random.normal(0, 1, memory)
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    if model.slots:
        for name in [name for name in weights if "moving" not in name]:
            weights[f"{name}/Adadelta"] = np.ones_like(weights[name])
            weights[f"{name}/Adadelta_1"] = np.ones_like(weights[name])
    if model.step is not None:
        weights["Variable"] = np.array(model.step, np.int32)
    return weights


def write(directory: Path, values: Mapping[str, NDArray[Any]], state: str | None = "model.ckpt-{n}",
          number: int = 7) -> Path:
    """Writes a model directory.

    Args:
        directory: The directory; created if it does not exist.
        values: The variables of the checkpoint.
        state: The path that the state file names; `None` for no state file.
        number: Number of the checkpoint.

    Returns:
        The directory.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(directory / f"model.ckpt-{number}"), tensor_names=list(values),
        shape_and_slices=[""] * len(values), tensors=[tf.constant(v) for v in values.values()])
    if state is not None:
        name = state.format(n=number)
        (directory / "checkpoint").write_text(
            f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n',
            encoding="utf-8")
    return directory


def hashes(directory: Path) -> dict[str, str]:
    """Returns the hash of every file in a directory, by relative path."""
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(directory.rglob("*")) if path.is_file()}


def predict(model: OriginalModel, values: Variables, image: NDArray[np.float64], steps: int
           ) -> reference_decoding.Greedy:
    """Returns the predictions of the original for an image `[32, width, channels]`."""
    weights = reference.of_original(values, model.layers)
    features, _ = reference.convnet(weights, [image])
    return reference_decoding.greedy(weights, *reference.encode(weights, features[0]), steps)


def text(ids: NDArray[np.int64], alphabet: str) -> str:
    """Returns the characters up to the first EOS, without PAD and GO."""
    until = [*ids.tolist(), reference.EOS].index(reference.EOS)
    return "".join(alphabet[n - 3] for n in ids[:until] if n >= 3)


def load_image(pixels: NDArray[np.uint8], max_width: int, tf1: bool) -> NDArray[np.float64]:
    """Returns an image as the original preprocesses it.

    Args:
        pixels: `[height, width, channels]`.
        max_width: Width of the network's input.
        tf1: Whether to resize with the kernel of TensorFlow 1 instead of 2.

    Returns:
        `[32, max_width, channels]`.
    """
    height, width = pixels.shape[:2]
    scaled = math.ceil(width / height * 32)
    values = pixels.astype(np.float64)
    if scaled > max_width:
        values = resize(values, math.ceil(max_width / scaled * 32), max_width, tf1)
    elif height > 32:
        values = resize(values, 32, scaled, tf1)
    canvas = np.zeros((32, max_width, pixels.shape[2]))
    canvas[:values.shape[0], :values.shape[1]] = values
    return (canvas - 128.0) / 128.0


def resize(values: NDArray[np.float64], height: int, width: int, tf1: bool
           ) -> NDArray[np.float64]:
    """Resizes with a bicubic kernel, without antialiasing."""
    rows = _resize_matrix(values.shape[0], height, tf1)
    columns = _resize_matrix(values.shape[1], width, tf1)
    return np.einsum("ij,jkc,lk->ilc", rows, values, columns)


def _resize_matrix(old: int, new: int, tf1: bool) -> NDArray[np.float64]:
    """Returns the weight of each old pixel in every new one, `[new, old]`.

    TensorFlow 1 puts new pixel n at `n * old / new`, has A = -0.75 and repeats the border;
    TensorFlow 2 aligns the centers, has A = -0.5 and ignores pixels beyond the border.
    """
    weights = np.zeros((new, old))
    scale = np.float32(old) / np.float32(new)
    for n in range(new):
        position = np.float32(n) * scale if tf1 else (np.float32(n) + np.float32(
            0.5)) * scale - np.float32(0.5)
        first = math.floor(position)
        fraction = round(float(position - np.float32(first)) * TABLE_SIZE) / TABLE_SIZE
        for tap in range(-1, 3):
            pixel = first + tap
            if tf1 or 0 <= pixel < old:
                weights[n, min(max(pixel, 0), old - 1)] += cubic(
                    tap - fraction, -0.75 if tf1 else -0.5)
    return weights / weights.sum(1, keepdims=True)


def cubic(distance: float, a: float) -> float:
    """Returns the weight of a pixel at a distance.

    Source: Keys 1981, equation 15, with its free parameter.
    """
    x = abs(distance)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def pixels(file: bytes) -> NDArray[np.uint8]:
    """Returns the pixels `[height, width, channels]` of a gray or an RGB file."""
    read = np.asarray(opened(file))
    return read[:, :, None] if read.ndim == 2 else read
