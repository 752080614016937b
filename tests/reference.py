"""The network once more, in NumPy float64: what the tests hold `aocr.model` against.

It follows the behaviour of the original (emedvedev/attention-ocr) and the papers named below, and
is written for being read, not for speed. Every image is computed alone, at its own width: there
is no padding here and no mask, so what this file says of an image cannot depend on its neighbours.
Only batch statistics look at several images, and they see all pixels of each and nothing else.

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

A checkpoint of the original fits the same dict: every `cell{n}` is its one shared cell, and
`start/kernel` is `selecting_start`.
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
PORT_WORDS = {"/batch_normalization/": "/BatchNorm/", "/weights": "/kernel", "/biases": "/bias"}
POOLS = {"conv1": (2, 2), "conv2": (2, 2), "conv4": (2, 1), "conv6": (2, 1), "conv7": (2, 1)}


class Greedy(NamedTuple):
    """A free-running decoding: ids `[S]`, logits `[S, vocab]`, attention `[S, time]`."""

    ids: NDArray[np.int64]
    logits: Array
    attention: Array


class Step(NamedTuple):
    """What one decoder step leaves: state parts `[H]`, context `[A]`, logits, attention."""

    state: list[Array]
    context: Array
    logits: Array
    attention: Array


def collect(model: AttentionOCR) -> Weights:
    """The weights of a model under the names of this file."""
    decoder = model.decoder
    found = {"embedding": decoder.embedding, "keys": decoder.keys, "score": decoder.score}
    for n, conv in enumerate(model.cnn.convs, start=1):
        found[f"conv{n}/kernel"] = conv.kernel
        if conv.norm is not None:
            found[f"conv{n}/gamma"] = conv.norm.gamma
            found[f"conv{n}/beta"] = conv.norm.beta
            found[f"conv{n}/mean"] = conv.norm.moving_mean
            found[f"conv{n}/variance"] = conv.norm.moving_variance
    maps: dict[str, Any] = {
        "forward": model.encoder.forward, "backward": model.encoder.backward,
        "start": decoder.start, "input": decoder.input, "query": decoder.query,
        "output": decoder.output}
    for n, cell in enumerate(decoder.cells, start=1):
        if isinstance(cell, GruCell):
            found[f"cell{n}/gates_kernel"] = cell.gates_kernel
            found[f"cell{n}/gates_bias"] = cell.gates_bias
            found[f"cell{n}/candidate_kernel"] = cell.candidate_kernel
            found[f"cell{n}/candidate_bias"] = cell.candidate_bias
        else:
            maps[f"cell{n}"] = cell
    for name, part in maps.items():
        found[f"{name}/kernel"], found[f"{name}/bias"] = part.kernel, part.bias
    return {name: value.numpy().astype(np.float64) for name, value in found.items()}


def of_original(variables: Mapping[str, NDArray[Any]], layers: int) -> Weights:
    """The weights of a checkpoint of the original under the names of this file.

    Args:
        variables: Arrays by their names, those of 0.7.6 and of its port in any mixture; what is
            not the network's (slots, the step) is left out.
        layers: Decoder layers, which all have the same cell.
    """
    there = {}
    for name, value in variables.items():
        for port, old in PORT_WORDS.items():
            name = name.replace(port, old)
        there[name] = value.astype(np.float64)
    decoder = "embedding_attention_decoder/attention_decoder"
    cell = f"{decoder}/multi_rnn_cell/cell_0"
    found = {"embedding": there["embedding_attention_decoder/embedding"],
             "keys": there[f"{decoder}/AttnW_0"][0, 0], "score": there[f"{decoder}/AttnV_0"]}
    for n in range(1, 8):
        found[f"conv{n}/kernel"] = there[f"conv_conv{n}/W"]
    for name in NORMALIZED:
        for ours in ("gamma", "beta", "mean", "variance"):
            word = ours if ours in ("gamma", "beta") else f"moving_{ours}"
            found[f"{name}/{ours}"] = there[f"conv_{name}/BatchNorm/{word}"]
    for part in ("kernel", "bias"):
        found[f"forward/{part}"] = there[f"bidirectional_rnn/fw/basic_lstm_cell/{part}"]
        found[f"backward/{part}"] = there[f"bidirectional_rnn/bw/basic_lstm_cell/{part}"]
        found[f"input/{part}"] = there[f"{decoder}/{part}"]
        found[f"query/{part}"] = there[f"{decoder}/Attention_0/{part}"]
        found[f"output/{part}"] = there[f"{decoder}/AttnOutputProjection/{part}"]
        for n in range(1, layers + 1):
            if f"{cell}/basic_lstm_cell/{part}" in there:
                found[f"cell{n}/{part}"] = there[f"{cell}/basic_lstm_cell/{part}"]
            else:
                for gate in ("gates", "candidate"):
                    found[f"cell{n}/{gate}_{part}"] = there[f"{cell}/gru_cell/{gate}/{part}"]
    state_size = found["query/kernel"].shape[0]
    found["start/kernel"] = selecting_start(found["forward/bias"].size // 4, state_size)
    found["start/bias"] = np.zeros(state_size)
    return found


def selecting_start(encoder_units: int, state_size: int) -> Array:
    """The start projection `[4E, state size]` that keeps the first numbers, as old models do."""
    return np.eye(4 * encoder_units, state_size)


def sigmoid(x: Array) -> Array:
    """`1 / (1 + exp(-x))`."""
    return 1.0 / (1.0 + np.exp(-x))


def softmax(x: Array) -> Array:
    """Along the last axis."""
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def patches(x: Array, size: tuple[int, ...]) -> Array:
    """What the kernel sees at each place: `[height * width, kernel height * width * inputs]`.

    SAME: zeros around the image; of an odd rest of border, the end gets more.
    """
    height, width, _ = x.shape
    bordered = np.pad(x, [*(((side - 1) // 2, side // 2) for side in size), (0, 0)])
    shifted = [bordered[down:down + height, right:right + width]
               for down in range(size[0]) for right in range(size[1])]
    return np.concatenate(shifted, axis=2).reshape(height * width, -1)


def convolve(xs: Sequence[Array], kernel: Array) -> list[Array]:
    """Cross-correlation of each image, stride 1, SAME; one matmul for all, to be quick.

    Args:
        xs: Each `[height, its own width, inputs]`.
        kernel: `[kernel height, kernel width, inputs, filters]`.

    Returns:
        Each `[height, its own width, filters]`.
    """
    seen = [patches(x, kernel.shape[:2]) for x in xs]
    rows = np.concatenate(seen) @ kernel.reshape(-1, kernel.shape[3])
    split = np.split(rows, np.cumsum([len(part) for part in seen])[:-1])
    return [part.reshape(*x.shape[:2], -1) for part, x in zip(split, xs, strict=True)]


def max_pool(x: Array, size: tuple[int, int]) -> Array:
    """Largest value of each tile; the last tile of a side may be cut off by the border.

    Args:
        x: `[height, width, filters]`.
        size: Height and width of a tile, which is also the stride.
    """
    rows = [x[top:top + size[0]].max(0) for top in range(0, x.shape[0], size[0])]
    tall = np.stack(rows)
    columns = [tall[:, left:left + size[1]].max(1) for left in range(0, x.shape[1], size[1])]
    return np.stack(columns, axis=1)


def saved_statistics(weights: Weights, name: str, xs: Sequence[Array]) -> Moments:
    """Mean and variance `[filters]` as they stand in the weights."""
    del xs
    return weights[f"{name}/mean"], weights[f"{name}/variance"]


def batch_statistics(weights: Weights, name: str, xs: Sequence[Array]) -> Moments:
    """Mean and variance `[filters]` over every pixel of all images.

    Source: Ioffe and Szegedy 2015 (the variance of the batch itself, divided by the count).
    """
    del weights, name
    pixels = np.concatenate([x.reshape(-1, x.shape[-1]) for x in xs])
    return pixels.mean(0), ((pixels - pixels.mean(0)) ** 2).mean(0)


def unbiased_averages(values: Sequence[Array]) -> list[Array]:
    """The moving average after each of the values.

    Value i comes in with the share max(1 - m, 10 / (i + 9)), and every later value leaves it the
    rest of its own share. The first share is 1, so all shares sum to 1 from the start.
    """
    shares = np.maximum(1.0 - MOMENTUM, 10.0 / (np.arange(1, len(values) + 1) + 9.0))
    averages = []
    for t in range(1, len(values) + 1):
        left = np.cumprod(np.append(1.0, 1.0 - shares[1:t][::-1]))[::-1]
        averages.append(np.tensordot(shares[:t] * left, np.stack(values[:t]), 1))
    return averages


def convnet(weights: Weights, images: Sequence[Array], statistics: Statistics = saved_statistics
            ) -> tuple[list[Array], dict[str, Moments]]:
    """The seven convolutions.

    Args:
        weights: See above.
        images: Each `[32, its own width, channels]`.
        statistics: `saved_statistics` or `batch_statistics`.

    Returns:
        For each image `[ceil(width / 4), 512]`; the moments that normalised, by layer.
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
    """One step: x `[inputs]`, c and h `[units]`; gates i, j (candidate), f, o; forget bias 0.

    Source: Zaremba et al. 2014, with TensorFlow 1's order of the gates.
    """
    gates = np.concatenate([x, h]) @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]
    i, j, f, o = np.split(gates, 4)
    c = c * sigmoid(f) + sigmoid(i) * np.tanh(j)
    return c, np.tanh(c) * sigmoid(o)


def gru(weights: Weights, name: str, x: Array, h: Array) -> Array:
    """One step: x `[inputs]`, h `[units]`; gates r, u; r acts on h before the candidate's matmul.

    Source: Cho et al. 2014.
    """
    gates = np.concatenate([x, h]) @ weights[f"{name}/gates_kernel"]
    r, u = np.split(sigmoid(gates + weights[f"{name}/gates_bias"]), 2)
    candidate = np.concatenate([x, r * h]) @ weights[f"{name}/candidate_kernel"]
    return u * h + (1.0 - u) * np.tanh(candidate + weights[f"{name}/candidate_bias"])


def read(weights: Weights, name: str, columns: Array) -> tuple[Array, Array, Array]:
    """One LSTM over `[time, 512]`: outputs `[time, E]`, last c and h `[E]`."""
    c: Array = np.zeros(weights[f"{name}/bias"].size // 4)
    h, outputs = c, []
    for column in columns:
        c, h = lstm(weights, name, column, c, h)
        outputs.append(h)
    return np.stack(outputs), c, h


def encode(weights: Weights, features: Array) -> tuple[Array, Array]:
    """The bidirectional encoder.

    Args:
        weights: See above.
        features: `[time, 512]`.

    Returns:
        Memory `[time, A]` and `[c_fw, h_fw, c_bw, h_bw]`, `[4E]`.
    """
    forward, c_fw, h_fw = read(weights, "forward", features)
    backward, c_bw, h_bw = read(weights, "backward", features[::-1])
    memory = np.concatenate([forward, backward[::-1]], axis=1)
    return memory, np.concatenate([c_fw, h_fw, c_bw, h_bw])


def start_state(weights: Weights, last: Array) -> list[Array]:
    """The decoder's first state, `[c1, h1, c2, h2, …]` or for GRU `[h1, h2, …]`, each `[H]`."""
    state = last @ weights["start/kernel"] + weights["start/bias"]
    return list(np.split(state, state.size // weights["input/bias"].size))


def cells(weights: Weights, x: Array, state: Sequence[Array]) -> tuple[Array, list[Array]]:
    """One step of all layers: the top output `[H]` and the new state."""
    after: list[Array] = []
    if "cell1/gates_kernel" in weights:
        for n, h in enumerate(state, start=1):
            x = gru(weights, f"cell{n}", x, h)
            after.append(x)
    else:
        for n, (c, h) in enumerate(zip(state[::2], state[1::2], strict=True), start=1):
            c, x = lstm(weights, f"cell{n}", x, c, h)
            after.extend([c, x])
    return x, after


def attend(weights: Weights, memory: Array, state: Sequence[Array]) -> tuple[Array, Array]:
    """Attention `[time]` and context `[A]` for a decoder state.

    Source: Bahdanau et al. 2015, appendix A.1.2.
    """
    query = np.concatenate(state) @ weights["query/kernel"] + weights["query/bias"]
    attention = softmax(np.tanh(memory @ weights["keys"] + query) @ weights["score"])
    return attention, attention @ memory


def decoder_step(weights: Weights, memory: Array, previous: int, state: Sequence[Array],
                 context: Array) -> Step:
    """One step of the decoder, told the character before it.

    Source: Luong et al. 2015, section 3.3 (the context is fed to the next step's input).
    """
    x = np.concatenate([weights["embedding"][previous], context]) @ weights["input/kernel"]
    top, state = cells(weights, x + weights["input/bias"], state)
    attention, context = attend(weights, memory, state)
    seen = np.concatenate([top, context])
    return Step(state, context, seen @ weights["output/kernel"] + weights["output/bias"],
                attention)


def teacher_forced(weights: Weights, memory: Array, last: Array, targets: Sequence[int]) -> Array:
    """Logits `[S, vocab]` when step n is told target n - 1, and the first step GO."""
    state = start_state(weights, last)
    context: Array = np.zeros(memory.shape[1])
    logits = []
    for previous in [GO, *targets[:-1]]:
        step = decoder_step(weights, memory, previous, state, context)
        state, context = step.state, step.context
        logits.append(step.logits)
    return np.stack(logits)


def greedy(weights: Weights, memory: Array, last: Array, steps: int) -> Greedy:
    """All steps, each told the most probable character of the one before; EOS stops nothing."""
    state, previous = start_state(weights, last), GO
    context: Array = np.zeros(memory.shape[1])
    ids, logits, attention = [], [], []
    for _ in range(steps):
        step = decoder_step(weights, memory, previous, state, context)
        state, context, previous = step.state, step.context, int(np.argmax(step.logits))
        ids.append(previous)
        logits.append(step.logits)
        attention.append(step.attention)
    return Greedy(np.array(ids), np.stack(logits), np.stack(attention))


def sequence_loss(logits: Array, targets: Sequence[int]) -> float:
    """Mean cross-entropy over the characters and EOS of one image; logits `[S, vocab]`."""
    chances = softmax(logits)
    losses = [-np.log(chances[n, target]) for n, target in enumerate(targets) if target != PAD]
    return float(np.mean(losses))


def probability(logits: Array) -> float:
    """Product of the largest chances up to and including the first EOS; of all without one."""
    product = 1.0
    for chances in softmax(logits):
        product *= float(chances.max())
        if np.argmax(chances) == EOS:
            break
    return product
