"""Checkpoints of the original aocr: recognised, understood, and put into our network.

An old model is a special case of ours: its decoder layers are tied, its decoder starts from a
slice of the encoder's last states, and its images are padded. Only values and settings differ.

Source: the variables that the original's checkpoints hold, under the names of version 0.7.6 and
of its TensorFlow 2 port; the two may mix in one checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from aocr.config import DIGITS_AND_CAPITALS, PRINTABLE_ASCII, ModelConfig, flag
from aocr.errors import AocrError, DamagedError
from aocr.model import AttentionOCR
from aocr.model.layers import BATCH_NORM_MOMENTUM, BatchNorm, Linear
from aocr.model.rnn import GruCell, LstmCell
from aocr.runtime.console import log

_FIRST = "conv_conv1/W"
_DAMAGE = (tf.errors.OpError, ValueError, RuntimeError, IndexError)
_PORT_NORM = "batch_normalization"
_SYNONYMS = {"BatchNorm": _PORT_NORM, "kernel": "weights", "bias": "biases"}
_STEP = "Variable"
_EMBEDDING = "embedding_attention_decoder/embedding"
_DECODER = "embedding_attention_decoder/attention_decoder"
_KEYS = f"{_DECODER}/AttnW_0"  # a kernel of 1 x 1
_LSTM = f"{_DECODER}/multi_rnn_cell/cell_0/basic_lstm_cell"
_GRU = f"{_DECODER}/multi_rnn_cell/cell_0/gru_cell"
_ALPHABETS = {len(alphabet): alphabet for alphabet in (DIGITS_AND_CAPITALS, PRINTABLE_ASCII)}
# From this part of the smallest variance on, the start value changes what the model reads.
_WORTH_TELLING = 0.01
# What float32 may have lost of an average in which nothing but the start value is left.
_ROUNDING = 1e-3


class _Clue(NamedTuple):
    """What a setting must be, and the variable whose shape tells."""

    value: Any
    variable: str


class LegacyCheckpoint:
    """One checkpoint, read only.

    Args:
        path: Its path without ending.

    Raises:
        DamagedError: It cannot be read.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._reader = tf.train.load_checkpoint(path)
            self._shapes: dict[str, list[int]] = self._reader.get_variable_to_shape_map()
        except _DAMAGE as error:
            raise DamagedError(path, error) from error

    def recognized(self) -> bool:
        """Whether the original wrote it: one of its names is enough, for a part may be lost."""
        return any(name in self._shapes for name in (_FIRST, _EMBEDDING, _KEYS))

    def config(self, given: Mapping[str, Any]) -> ModelConfig:
        """The settings: what the shapes tell, then what the user names, then the defaults.

        Args:
            given: The settings the user named, and no others.

        Raises:
            AocrError: A named setting contradicts a shape, or the shapes are not the original's.
        """
        clues = self._clues()
        for name in sorted(given.keys() & clues.keys()):
            if given[name] != clues[name].value:
                raise self._contradiction(name, given[name], clues[name])
        told = {name: clue.value for name, clue in clues.items()}
        alphabet = self._alphabet(given.get("alphabet"))
        kernel = "bicubic-tf2" if self._is_port() else "bicubic-tf1"
        return ModelConfig(**{"layout": "padded", "kernel": kernel, **given, **told,
                              "alphabet": alphabet})

    def describe(self, config: ModelConfig) -> str:
        """One line for people: what it is and how it is read."""
        step = self._step()
        return (f"{self.path} is a model of the original aocr "
                f"({'its TensorFlow 2 port' if self._is_port() else 'version 0.7.6'}, "
                f"{'no step counter' if step is None else f'step {step}'}), read with --max-width "
                f"{config.max_width} --max-height {config.max_height} --max-prediction "
                f"{config.max_prediction} and {len(config.alphabet)} characters; it is not "
                "written to")

    def fill(self, model: AttentionOCR, debias: bool) -> None:
        """Gives a network of `config` the weights.

        Args:
            model: The network.
            debias: Take the start values out of the batch-norm averages.

        Raises:
            AocrError: A variable is missing or has a shape of its own.
        """
        for variable, wanted in _places(model):
            name = self._name(wanted)
            value = self._value(name)
            value = value[0, 0] if wanted == _KEYS else value
            if list(value.shape) != variable.shape:
                raise AocrError(f"{self.path} is not a whole model of the original aocr: its "
                                f"variable {name} has shape {self._shapes[name]}, expected "
                                f"{variable.shape.as_list()}")
            variable.assign(value)
        start = model.decoder.start
        start.kernel.assign(tf.eye(*start.kernel.shape))
        start.bias.assign(tf.zeros_like(start.bias))
        self._settle([conv.norm for conv in model.cnn.convs if conv.norm is not None], debias)

    def _settle(self, norms: Sequence[BatchNorm], debias: bool) -> None:
        """Tells what the averages carry of their start values, and removes it if asked to.

        The original's averages begin at mean 0 and variance 1, which at step t still weigh
        0.99^t.
        """
        step = self._step()
        if step is None:
            if debias:
                raise AocrError(f"--debias needs the step counter `{_STEP}`, which {self.path} "
                                "does not hold; leave --debias out")
            return
        share = BATCH_NORM_MOMENTUM**step
        smallest = min(float(tf.reduce_min(norm.moving_variance)) for norm in norms)
        found = f"{share:.2g} of 1 at step {step}, where the smallest variance is {smallest:.2g}"
        possible = smallest >= share * (1 - _ROUNDING)
        if debias and (not possible or step < 1):
            raise AocrError(f"--debias does not fit {self.path}: its batch-norm averages cannot "
                            f"carry a start value of {found}; leave --debias out")
        if debias:
            log.info(f"Removed the start value, {found}, from the batch-norm averages.")
            _debias(norms, share)
        elif possible and share > _WORTH_TELLING * smallest:
            log.warning(f"The batch-norm averages of {self.path} carry their start value: "
                        f"{found}; if it reads badly, --debias removes it")

    def _step(self) -> int | None:
        """Steps of the training that wrote it, when it tells."""
        if self._shapes.get(_STEP) != []:
            return None
        value = self._value(_STEP)
        return int(value) if value.dtype.kind in "iu" and value >= 0 else None

    def _value(self, name: str) -> np.ndarray:
        try:
            return np.asarray(self._reader.get_tensor(name))
        except _DAMAGE as error:
            raise DamagedError(self.path, error) from error

    def _is_port(self) -> bool:
        # TensorFlow 2 has no other layer that writes batch norm under this name.
        return any(f"/{_PORT_NORM}/" in name for name in self._shapes)

    def _name(self, wanted: str) -> str:
        """The name that a variable has in this checkpoint.

        Raises:
            AocrError: It is not there.
        """
        for name in _spellings(wanted):
            if name in self._shapes:
                return name
        raise AocrError(f"{self.path} is not a whole model of the original aocr: it has no "
                        f"variable {wanted}")

    def _shape(self, wanted: str, axes: int) -> list[int]:
        name = self._name(wanted)
        shape = self._shapes[name]
        if len(shape) != axes or 0 in shape:
            raise AocrError(f"{self.path} is not a model of the original aocr: its variable "
                            f"{name} has shape {shape}, expected {axes} axes")
        return shape

    def _clues(self) -> dict[str, _Clue]:
        """Every setting that a shape tells."""
        gru = any(name in self._shapes for name in _spellings(f"{_GRU}/gates/kernel"))
        cell = f"{_GRU}/gates/kernel" if gru else f"{_LSTM}/kernel"
        hidden = self._shape(cell, 2)[0] // 2
        units = self._shape(_KEYS, 4)[-1]
        return {
            "color": _Clue(self._shape(_FIRST, 4)[2] == 3, _FIRST),
            "use_gru": _Clue(gru, cell),
            "attn_num_hidden": _Clue(hidden, cell),
            "attn_num_layers": _Clue(units // max(2 * hidden, 1), _KEYS),
            "target_embedding_size": _Clue(self._shape(_EMBEDDING, 2)[1], _EMBEDDING)}

    def _contradiction(self, name: str, value: object, clue: _Clue) -> AocrError:
        variable = self._name(clue.variable)
        where = f"{self.path}, whose variable {variable} has shape {self._shapes[variable]}"
        if isinstance(clue.value, bool):
            remedy = f"{'give' if clue.value else 'leave out'} {flag(name)}"
            return AocrError(f"{'' if value else 'no '}{flag(name)} does not fit {where}; {remedy}")
        return AocrError(f"{flag(name)} {value} does not fit {where}; {flag(name)} {clue.value} "
                         "would")

    def _alphabet(self, given: str | None) -> str:
        """The characters, which only the user or the number of rows can tell.

        Raises:
            AocrError: Their number is another.
        """
        rows = self._shape(_EMBEDDING, 2)[0] - 3
        alphabet = _ALPHABETS.get(rows, "") if given is None else given
        if len(alphabet) == rows:
            return alphabet
        remedies = {len(DIGITS_AND_CAPITALS): "leave out --full-ascii",
                    len(PRINTABLE_ASCII): "give --full-ascii"}
        remedy = remedies.get(rows, "the original's own alphabets have 36 and 95 (--full-ascii)")
        where = (f"{self.path}, whose variable {_EMBEDDING} has shape "
                 f"{self._shapes[_EMBEDDING]}, which is {rows} characters")
        came = ("its alphabet is needed to read" if given is None else
                f"an alphabet of {len(given)} characters does not fit")
        raise AocrError(f"{came} {where}; {remedy}")


def _debias(norms: Sequence[BatchNorm], share: float) -> None:
    """Takes start values out of averages in which they weigh `share`, at least 0 and below 1."""
    for norm in norms:
        norm.moving_mean.assign(norm.moving_mean / (1 - share))
        variance = (norm.moving_variance - share) / (1 - share)
        norm.moving_variance.assign(tf.maximum(variance, 0.0))


def _spellings(name: str) -> Iterator[str]:
    """A name as 0.7.6 wrote it, and in every other mixture of the two families."""
    spellings = [""]
    for part in name.split("/"):
        choices = [part, _SYNONYMS[part]] if part in _SYNONYMS else [part]
        spellings = [f"{start}/{choice}" for start in spellings for choice in choices]
    return (spelling[1:] for spelling in spellings)


def _places(model: AttentionOCR) -> Iterator[tuple[tf.Variable, str]]:
    """Each variable of the network that the original has too, with its name there."""
    for n, conv in enumerate(model.cnn.convs, start=1):
        yield conv.kernel, f"conv_conv{n}/W"
        if conv.norm is not None:
            for part in ("gamma", "beta", "moving_mean", "moving_variance"):
                yield getattr(conv.norm, part), f"conv_conv{n}/BatchNorm/{part}"
    decoder = model.decoder
    linear: dict[str, Linear | LstmCell] = {
        "bidirectional_rnn/fw/basic_lstm_cell": model.encoder.forward,
        "bidirectional_rnn/bw/basic_lstm_cell": model.encoder.backward,
        _DECODER: decoder.input, f"{_DECODER}/Attention_0": decoder.query,
        f"{_DECODER}/AttnOutputProjection": decoder.output}
    for name, layer in linear.items():
        yield layer.kernel, f"{name}/kernel"
        yield layer.bias, f"{name}/bias"
    yield decoder.embedding, _EMBEDDING
    yield decoder.keys, _KEYS
    yield decoder.score, f"{_DECODER}/AttnV_0"
    for cell in decoder.cells:
        yield from _cell_places(cell)


def _cell_places(cell: GruCell | LstmCell) -> Iterator[tuple[tf.Variable, str]]:
    """All decoder layers share one cell's weights in the original."""
    if isinstance(cell, GruCell):
        yield cell.gates_kernel, f"{_GRU}/gates/kernel"
        yield cell.gates_bias, f"{_GRU}/gates/bias"
        yield cell.candidate_kernel, f"{_GRU}/candidate/kernel"
        yield cell.candidate_bias, f"{_GRU}/candidate/bias"
    else:
        yield cell.kernel, f"{_LSTM}/kernel"
        yield cell.bias, f"{_LSTM}/bias"
