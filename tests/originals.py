"""Checkpoints as the original wrote them, made of random numbers, and what it would answer.

Nothing here comes from `aocr`: names, shapes and the rules for images are derived once more.
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

from tests import reference
from tests.drawing import opened

FILTERS = {"conv1": (3, 64), "conv2": (3, 128), "conv3": (3, 256), "conv4": (3, 256),
           "conv5": (3, 512), "conv6": (3, 512), "conv7": (2, 512)}
DECODER = "embedding_attention_decoder/attention_decoder"
TABLE_SIZE = 1024  # TensorFlow looks the cubic weights up at this many places between two pixels
Variables = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Old:
    """A model of the original; the words are those that its family of names uses.

    Attributes:
        layers, hidden, embedding, characters, channels, gru: Sizes and cells.
        norm: "BatchNorm" (0.7.6) or "batch_normalization" (port).
        kernel, bias: The decoder's linear maps: "kernel" and "bias", or "weights" and "biases".
        step: The step counter; `None` leaves it out.
        slots: Whether the optimizer's variables are there.
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
    """Weights of the CNN; variances are those of real images, so that columns differ."""
    random = np.random.default_rng(channels)
    made: Variables = {}
    inputs = channels
    for name, (size, filters) in FILTERS.items():
        spread = math.sqrt(2.0 / (size * size * inputs))
        made[f"conv_{name}/W"] = random.normal(0, spread, (size, size, inputs, filters))
        if name in reference.NORMALIZED:
            made[f"conv_{name}/BatchNorm/gamma"] = random.uniform(0.5, 1.5, filters)
            made[f"conv_{name}/BatchNorm/beta"] = random.normal(0, 0.3, filters)
            made[f"conv_{name}/BatchNorm/moving_mean"] = random.normal(0, 0.1, filters)
            made[f"conv_{name}/BatchNorm/moving_variance"] = random.uniform(0.05, 0.5, filters)
        inputs = filters
    return made


def variables(old: Old) -> Variables:
    """All variables of a checkpoint by their names."""
    random = np.random.default_rng(old.layers * 1000 + old.hidden)
    units, hidden = old.layers * old.hidden, old.hidden
    memory, state = 2 * units, (1 if old.gru else 2) * units
    vocab = old.characters + 3
    maps = {f"bidirectional_rnn/{way}/basic_lstm_cell": (512 + units, 4 * units)
            for way in ("fw", "bw")}
    cell = f"{DECODER}/multi_rnn_cell/cell_0"
    if old.gru:
        maps[f"{cell}/gru_cell/gates"] = (2 * hidden, 2 * hidden)
        maps[f"{cell}/gru_cell/candidate"] = (2 * hidden, hidden)
    else:
        maps[f"{cell}/basic_lstm_cell"] = (2 * hidden, 4 * hidden)
    linear = {DECODER: (old.embedding + memory, hidden),
              f"{DECODER}/Attention_0": (state, memory),
              f"{DECODER}/AttnOutputProjection": (hidden + memory, vocab)}
    made = {name.replace("BatchNorm", old.norm): value
            for name, value in _convolutions(old.channels).items()}
    for shapes, kernel, bias in ((maps, "kernel", "bias"), (linear, old.kernel, old.bias)):
        for name, shape in shapes.items():
            made[f"{name}/{kernel}"] = random.normal(0, 2 / math.sqrt(shape[0]), shape)
            made[f"{name}/{bias}"] = random.normal(0, 0.2, shape[1])
    made["embedding_attention_decoder/embedding"] = random.normal(0, 1, (vocab, old.embedding))
    made[f"{DECODER}/AttnW_0"] = random.normal(0, 1, (1, 1, memory, memory))
    made[f"{DECODER}/AttnV_0"] = random.normal(0, 1, memory)
    made = {name: value.astype(np.float32) for name, value in made.items()}
    if old.slots:
        for name in [name for name in made if "moving" not in name]:
            made[f"{name}/Adadelta"] = np.ones_like(made[name])
            made[f"{name}/Adadelta_1"] = np.ones_like(made[name])
    if old.step is not None:
        made["Variable"] = np.array(old.step, np.int32)
    return made


def write(folder: Path, values: Mapping[str, NDArray[Any]], state: str | None = "model.ckpt-{n}",
          number: int = 7) -> Path:
    """Writes a checkpoint folder.

    Args:
        folder: It is made.
        values: What the checkpoint holds.
        state: The path that the state file names, as it stands there; `None` writes none.
        number: Number of the checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(folder / f"model.ckpt-{number}"), tensor_names=list(values),
        shape_and_slices=[""] * len(values), tensors=[tf.constant(v) for v in values.values()])
    if state is not None:
        name = state.format(n=number)
        (folder / "checkpoint").write_text(
            f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n',
            encoding="utf-8")
    return folder


def hashes(folder: Path) -> dict[str, str]:
    """Every file of a folder with a hash of its content."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def answer(old: Old, values: Variables, image: NDArray[np.float64], steps: int
           ) -> reference.Greedy:
    """What the original would compute for an image, `[32, width, channels]`."""
    weights = reference.of_original(values, old.layers)
    features, _ = reference.convnet(weights, [image])
    return reference.greedy(weights, *reference.encode(weights, features[0]), steps)


def text(ids: NDArray[np.int64], alphabet: str) -> str:
    """The characters up to the first EOS; PAD and GO print nothing."""
    until = [*ids.tolist(), reference.EOS].index(reference.EOS)
    return "".join(alphabet[n - 3] for n in ids[:until] if n >= 3)


def load_image(pixels: NDArray[np.uint8], widest: int, tf1: bool) -> NDArray[np.float64]:
    """An image as the original fed it to its network.

    Args:
        pixels: `[height, width, channels]`.
        widest: Width of the network's input.
        tf1: The kernel of TensorFlow 1, else that of 2.

    Returns:
        `[32, widest, channels]`.
    """
    height, width = pixels.shape[:2]
    own = math.ceil(width / height * 32)
    values = pixels.astype(np.float64)
    if own > widest:
        values = resize(values, math.ceil(widest / own * 32), widest, tf1)
    elif height > 32:
        values = resize(values, 32, own, tf1)
    canvas = np.zeros((32, widest, pixels.shape[2]))
    canvas[:values.shape[0], :values.shape[1]] = values
    return (canvas - 128.0) / 128.0


def resize(values: NDArray[np.float64], height: int, width: int, tf1: bool
           ) -> NDArray[np.float64]:
    """Bicubic, without antialiasing."""
    down = _mixture(values.shape[0], height, tf1)
    right = _mixture(values.shape[1], width, tf1)
    return np.einsum("ij,jkc,lk->ilc", down, values, right)


def _mixture(old: int, new: int, tf1: bool) -> NDArray[np.float64]:
    """How much of each old pixel every new one takes, `[new, old]`.

    TensorFlow 1 puts new pixel n at `n * old / new`, has A = -0.75 and repeats the border;
    TensorFlow 2 puts its centre there, has A = -0.5 and leaves out what is beyond the border.
    """
    taken = np.zeros((new, old))
    scale = np.float32(old) / np.float32(new)
    for n in range(new):
        at = np.float32(n) * scale if tf1 else (np.float32(n) + np.float32(
            0.5)) * scale - np.float32(0.5)
        first = math.floor(at)
        rest = round(float(at - np.float32(first)) * TABLE_SIZE) / TABLE_SIZE
        for tap in range(-1, 3):
            place = first + tap
            if tf1 or 0 <= place < old:
                taken[n, min(max(place, 0), old - 1)] += cubic(tap - rest, -0.75 if tf1 else -0.5)
    return taken / taken.sum(1, keepdims=True)


def cubic(distance: float, a: float) -> float:
    """Weight of a pixel at a distance.

    Source: Keys 1981, equation 15, with its free parameter.
    """
    x = abs(distance)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def pixels(file: bytes) -> NDArray[np.uint8]:
    """`[height, width, channels]` of a grey or an RGB file, as Pillow reads it."""
    read = np.asarray(opened(file))
    return read[:, :, None] if read.ndim == 2 else read
