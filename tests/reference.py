"""A second implementation of the network, in NumPy float64, with which `aocr.model` is compared.

It follows the behavior of the original (emedvedev/attention-ocr) and the papers named below, and
is written for readability, not for speed. Every image is computed alone, at its own width: there
is no padding and no mask, so the results for an image cannot depend on the rest of a batch. Only
batch statistics are taken over several images, over all of their pixels.

Weights are a dict of arrays (A = memory units, H = decoder units, E = A / 2):

| name | shape |
|---|---|
| `conv{1..7}/kernel` | `[height, width, inputs, filters]` |
| `conv{3,5,7}/{gamma,beta,mean,variance}` | `[filters]` |
| `{forward,backward}/{kernel,bias}` | `[512 + E, 4E]`, `[4E]` |
| `embedding` | `[vocab, embedding]` |
| `start/{kernel,bias}` | `[4E, state size]`, `[state size]` |
| `input/{kernel,bias}` | `[embedding + A, H]`, `[H]` |
| `cell{n}/{kernel,bias}` (LSTM) | `[2H, 4H]`, `[4H]` |
| `cell{n}/{gates,candidate}_{kernel,bias}` (GRU) | `[2H, 2H]` and `[2H, H]`, `[2H]` and `[H]` |
| `keys` | `[A, A]` |
| `query/{kernel,bias}` | `[state size, A]`, `[A]` |
| `score` | `[A]` |
| `output/{kernel,bias}` | `[H + A, vocab]`, `[vocab]` |

A checkpoint of the original has the same layout: every `cell{n}` is its only cell, and
`start/kernel` is `selection_kernel`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aocr.model import AttentionOCR
from aocr.model.rnn import GruCell

Array = NDArray[np.float64]
Weights = dict[str, Array]
Moments = tuple[Array, Array]
Statistics = Callable[[Weights, str, Sequence[Array]], Moments]

GO, EOS, PAD = 1, 2, 0
EPSILON = 1e-3
MOMENTUM = 0.99
NORMALIZED = ("conv3", "conv5", "conv7")
PORT_NAMES = {"/batch_normalization/": "/BatchNorm/", "/weights": "/kernel", "/biases": "/bias"}
POOLS = {"conv1": (2, 2), "conv2": (2, 2), "conv4": (2, 1), "conv6": (2, 1), "conv7": (2, 1)}


class Step(NamedTuple):
    """Result of a decoder step: state parts `[H]`, context `[A]`, logits, attention."""

    state: list[Array]
    context: Array
    logits: Array
    attention: Array


def collect(model: AttentionOCR) -> Weights:
    """Returns the weights of a model under the names of this file."""
    decoder = model.decoder
    weights = {"embedding": decoder.embedding, "keys": decoder.keys, "score": decoder.score}
    for n, conv in enumerate(model.cnn.convs, start=1):
        weights[f"conv{n}/kernel"] = conv.kernel
        if conv.norm is not None:
            weights[f"conv{n}/gamma"] = conv.norm.gamma
            weights[f"conv{n}/beta"] = conv.norm.beta
            weights[f"conv{n}/mean"] = conv.norm.moving_mean
            weights[f"conv{n}/variance"] = conv.norm.moving_variance
    maps: dict[str, Any] = {
        "forward": model.encoder.forward, "backward": model.encoder.backward,
        "start": decoder.start, "input": decoder.input, "query": decoder.query,
        "output": decoder.output}
    for n, cell in enumerate(decoder.cells, start=1):
        if isinstance(cell, GruCell):
            weights[f"cell{n}/gates_kernel"] = cell.gates_kernel
            weights[f"cell{n}/gates_bias"] = cell.gates_bias
            weights[f"cell{n}/candidate_kernel"] = cell.candidate_kernel
            weights[f"cell{n}/candidate_bias"] = cell.candidate_bias
        else:
            maps[f"cell{n}"] = cell
    for name, part in maps.items():
        weights[f"{name}/kernel"], weights[f"{name}/bias"] = part.kernel, part.bias
    return {name: value.numpy().astype(np.float64) for name, value in weights.items()}


def of_original(variables: Mapping[str, NDArray[Any]], layers: int) -> Weights:
    """Returns the weights of a checkpoint of the original under the names of this file.

    Args:
        variables: Arrays by name, those of 0.7.6 and of its port in any mixture. Those that are
            not weights (slots, the step) are ignored.
        layers: Number of decoder layers, which share one cell.
    """
    arrays = {}
    for name, value in variables.items():
        for port, original in PORT_NAMES.items():
            name = name.replace(port, original)
        arrays[name] = value.astype(np.float64)
    decoder = "embedding_attention_decoder/attention_decoder"
    cell = f"{decoder}/multi_rnn_cell/cell_0"
    weights = {"embedding": arrays["embedding_attention_decoder/embedding"],
               "keys": arrays[f"{decoder}/AttnW_0"][0, 0], "score": arrays[f"{decoder}/AttnV_0"]}
    for n in range(1, 8):
        weights[f"conv{n}/kernel"] = arrays[f"conv_conv{n}/W"]
    for name in NORMALIZED:
        for part in ("gamma", "beta", "mean", "variance"):
            original = part if part in ("gamma", "beta") else f"moving_{part}"
            weights[f"{name}/{part}"] = arrays[f"conv_{name}/BatchNorm/{original}"]
    for part in ("kernel", "bias"):
        weights[f"forward/{part}"] = arrays[f"bidirectional_rnn/fw/basic_lstm_cell/{part}"]
        weights[f"backward/{part}"] = arrays[f"bidirectional_rnn/bw/basic_lstm_cell/{part}"]
        weights[f"input/{part}"] = arrays[f"{decoder}/{part}"]
        weights[f"query/{part}"] = arrays[f"{decoder}/Attention_0/{part}"]
        weights[f"output/{part}"] = arrays[f"{decoder}/AttnOutputProjection/{part}"]
        for n in range(1, layers + 1):
            if f"{cell}/basic_lstm_cell/{part}" in arrays:
                weights[f"cell{n}/{part}"] = arrays[f"{cell}/basic_lstm_cell/{part}"]
            else:
                for gate in ("gates", "candidate"):
                    weights[f"cell{n}/{gate}_{part}"] = arrays[f"{cell}/gru_cell/{gate}/{part}"]
    state_size = weights["query/kernel"].shape[0]
    weights["start/kernel"] = selection_kernel(weights["forward/bias"].size // 4, state_size)
    weights["start/bias"] = np.zeros(state_size)
    return weights


def selection_kernel(encoder_units: int, state_size: int) -> Array:
    """Returns the start kernel `[4E, state size]` that selects the first values.

    The original starts its decoder with these.
    """
    return np.eye(4 * encoder_units, state_size)


def sigmoid(x: Array) -> Array:
    """Returns `1 / (1 + exp(-x))`."""
    return 1.0 / (1.0 + np.exp(-x))


def softmax(x: Array) -> Array:
    """Returns the softmax along the last axis."""
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def patches(x: Array, size: tuple[int, ...]) -> Array:
    """Returns the kernel's inputs, `[height * width, kernel height * width * inputs]`.

    SAME: the image is surrounded by zeros, at the end by one more where their number is odd.
    """
    height, width, _ = x.shape
    padded = np.pad(x, [*(((side - 1) // 2, side // 2) for side in size), (0, 0)])
    shifted = [padded[down:down + height, right:right + width]
               for down in range(size[0]) for right in range(size[1])]
    return np.concatenate(shifted, axis=2).reshape(height * width, -1)


def convolve(xs: Sequence[Array], kernel: Array) -> list[Array]:
    """Convolves each image, stride 1, SAME; one matrix product for all is faster.

    Args:
        xs: `[height, width, inputs]` each.
        kernel: `[kernel height, kernel width, inputs, filters]`.

    Returns:
        `[height, width, filters]` each.
    """
    inputs = [patches(x, kernel.shape[:2]) for x in xs]
    rows = np.concatenate(inputs) @ kernel.reshape(-1, kernel.shape[3])
    split = np.split(rows, np.cumsum([len(part) for part in inputs])[:-1])
    return [part.reshape(*x.shape[:2], -1) for part, x in zip(split, xs, strict=True)]


def max_pool(x: Array, size: tuple[int, int]) -> Array:
    """Returns the largest value of each tile; the last tiles of a side may be smaller.

    Args:
        x: `[height, width, filters]`.
        size: Height and width of a tile, which is also the stride.
    """
    rows = [x[top:top + size[0]].max(0) for top in range(0, x.shape[0], size[0])]
    pooled = np.stack(rows)
    columns = [pooled[:, left:left + size[1]].max(1) for left in range(0, x.shape[1], size[1])]
    return np.stack(columns, axis=1)


def saved_statistics(weights: Weights, name: str, xs: Sequence[Array]) -> Moments:
    """Returns mean and variance `[filters]` as stored in the weights."""
    del xs
    return weights[f"{name}/mean"], weights[f"{name}/variance"]


def batch_statistics(weights: Weights, name: str, xs: Sequence[Array]) -> Moments:
    """Returns mean and variance `[filters]` over all pixels of all images.

    Source: Ioffe and Szegedy 2015 (the biased variance, divided by the count).
    """
    del weights, name
    pixels = np.concatenate([x.reshape(-1, x.shape[-1]) for x in xs])
    return pixels.mean(0), ((pixels - pixels.mean(0)) ** 2).mean(0)


def unbiased_averages(values: Sequence[Array]) -> list[Array]:
    """Returns the moving average after each of the values.

    Value i enters with the weight max(1 - m, 10 / (i + 9)), by which it scales down the weights of
    all earlier values. The first weight is 1, so that the weights always sum to 1.
    """
    entry_weights = np.maximum(1.0 - MOMENTUM, 10.0 / (np.arange(1, len(values) + 1) + 9.0))
    averages = []
    for t in range(1, len(values) + 1):
        decay = np.cumprod(np.append(1.0, 1.0 - entry_weights[1:t][::-1]))[::-1]
        averages.append(np.tensordot(entry_weights[:t] * decay, np.stack(values[:t]), 1))
    return averages


def convnet(weights: Weights, images: Sequence[Array], statistics: Statistics = saved_statistics
            ) -> tuple[list[Array], dict[str, Moments]]:
    """Computes the seven convolutions.

    Args:
        weights: See the module.
        images: `[32, width, channels]` each.
        statistics: `saved_statistics` or `batch_statistics`.

    Returns:
        Features `[ceil(width / 4), 512]` of each image, and the moments used by each layer.
    """
    xs, used = list(images), {}
    for name in (f"conv{n}" for n in range(1, 8)):
        xs = convolve(xs, weights[f"{name}/kernel"])
        if name in NORMALIZED:
            mean, variance = used[name] = statistics(weights, name, xs)
            gamma, beta = weights[f"{name}/gamma"], weights[f"{name}/beta"]
            xs = [gamma * (x - mean) / np.sqrt(variance + EPSILON) + beta for x in xs]
        xs = [np.maximum(x, 0.0) for x in xs]
        if name in POOLS:
            xs = [max_pool(x, POOLS[name]) for x in xs]
    return [x[0] for x in xs], used


def lstm(weights: Weights, name: str, x: Array, c: Array, h: Array) -> tuple[Array, Array]:
    """Takes one step: x `[inputs]`, c and h `[units]`; gates i, j (candidate), f, o; forget bias 0.

    Source: Zaremba et al. 2014, with TensorFlow 1's order of the gates.
    """
    gates = np.concatenate([x, h]) @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]
    i, j, f, o = np.split(gates, 4)
    c = c * sigmoid(f) + sigmoid(i) * np.tanh(j)
    return c, np.tanh(c) * sigmoid(o)


def gru(weights: Weights, name: str, x: Array, h: Array) -> Array:
    """Takes one step: x `[inputs]`, h `[units]`; gates r, u; r is applied before the matmul.

    Source: Cho et al. 2014.
    """
    gates = np.concatenate([x, h]) @ weights[f"{name}/gates_kernel"]
    r, u = np.split(sigmoid(gates + weights[f"{name}/gates_bias"]), 2)
    candidate = np.concatenate([x, r * h]) @ weights[f"{name}/candidate_kernel"]
    return u * h + (1.0 - u) * np.tanh(candidate + weights[f"{name}/candidate_bias"])


def run_lstm(weights: Weights, name: str, columns: Array) -> tuple[Array, Array, Array]:
    """Runs an LSTM over `[time, 512]`; returns outputs `[time, E]`, last c and h `[E]`."""
    c: Array = np.zeros(weights[f"{name}/bias"].size // 4)
    h, outputs = c, []
    for column in columns:
        c, h = lstm(weights, name, column, c, h)
        outputs.append(h)
    return np.stack(outputs), c, h


def encode(weights: Weights, features: Array) -> tuple[Array, Array]:
    """Computes the bidirectional encoder.

    Args:
        weights: See the module.
        features: `[time, 512]`.

    Returns:
        Memory `[time, A]` and `[c_fw, h_fw, c_bw, h_bw]`, `[4E]`.
    """
    forward, c_fw, h_fw = run_lstm(weights, "forward", features)
    backward, c_bw, h_bw = run_lstm(weights, "backward", features[::-1])
    memory = np.concatenate([forward, backward[::-1]], axis=1)
    return memory, np.concatenate([c_fw, h_fw, c_bw, h_bw])


def start_state(weights: Weights, last_states: Array) -> list[Array]:
    """Returns the initial state, `[c1, h1, c2, h2, …]` or for GRU `[h1, h2, …]`, `[H]` each."""
    state = last_states @ weights["start/kernel"] + weights["start/bias"]
    return list(np.split(state, state.size // weights["input/bias"].size))


def cells(weights: Weights, x: Array, state: Sequence[Array]) -> tuple[Array, list[Array]]:
    """Takes one step of all layers; returns the top output `[H]` and the new state."""
    new_state: list[Array] = []
    if "cell1/gates_kernel" in weights:
        for n, h in enumerate(state, start=1):
            x = gru(weights, f"cell{n}", x, h)
            new_state.append(x)
    else:
        for n, (c, h) in enumerate(zip(state[::2], state[1::2], strict=True), start=1):
            c, x = lstm(weights, f"cell{n}", x, c, h)
            new_state.extend([c, x])
    return x, new_state


def attend(weights: Weights, memory: Array, state: Sequence[Array]) -> tuple[Array, Array]:
    """Returns attention `[time]` and context `[A]` for a decoder state.

    Source: Bahdanau et al. 2015, appendix A.1.2.
    """
    query = np.concatenate(state) @ weights["query/kernel"] + weights["query/bias"]
    attention = softmax(np.tanh(memory @ weights["keys"] + query) @ weights["score"])
    return attention, attention @ memory


def decoder_step(weights: Weights, memory: Array, previous: int, state: Sequence[Array],
                 context: Array) -> Step:
    """Takes one step of the decoder, given the previous character.

    Source: Luong et al. 2015, section 3.3 (the context is fed to the next step's input).
    """
    x = np.concatenate([weights["embedding"][previous], context]) @ weights["input/kernel"]
    top, state = cells(weights, x + weights["input/bias"], state)
    attention, context = attend(weights, memory, state)
    features = np.concatenate([top, context])
    return Step(state, context, features @ weights["output/kernel"] + weights["output/bias"],
                attention)


def teacher_forced(weights: Weights, memory: Array, last_states: Array, targets: Sequence[int]
                   ) -> Array:
    """Returns logits `[S, vocab]`; the input of step n is target n - 1, of the first step GO."""
    state = start_state(weights, last_states)
    context: Array = np.zeros(memory.shape[1])
    logits = []
    for previous in [GO, *targets[:-1]]:
        step = decoder_step(weights, memory, previous, state, context)
        state, context = step.state, step.context
        logits.append(step.logits)
    return np.stack(logits)
