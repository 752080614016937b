"""Recognizes checkpoints of the original aocr, and loads them into the network.

A model of the original is a special case of this network: its decoder layers share their weights,
its decoder starts from a slice of the encoder's last states, and its images are padded. Only the
values of weights and settings differ.

Source: the variables in checkpoints of the original, named as in version 0.7.6 or as in its
TensorFlow 2 port; one checkpoint may mix both.
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

_FIRST_KERNEL = "conv_conv1/W"
_READ_ERRORS = (tf.errors.OpError, ValueError, RuntimeError, IndexError)
_PORT_NORM = "batch_normalization"
_SYNONYMS = {"BatchNorm": _PORT_NORM, "kernel": "weights", "bias": "biases"}
_STEP = "Variable"
_EMBEDDING = "embedding_attention_decoder/embedding"
_DECODER = "embedding_attention_decoder/attention_decoder"
_KEYS = f"{_DECODER}/AttnW_0"  # a 1 x 1 convolution
_LSTM = f"{_DECODER}/multi_rnn_cell/cell_0/basic_lstm_cell"
_GRU = f"{_DECODER}/multi_rnn_cell/cell_0/gru_cell"
_ALPHABETS = {len(alphabet): alphabet for alphabet in (DIGITS_AND_CAPITALS, PRINTABLE_ASCII)}
# A start value above this share of the smallest variance changes predictions.
_RELEVANT_SHARE = 0.01
# Largest relative rounding error of a float32 average that holds nothing but the start value.
_ROUNDING = 1e-3


class _Inferred(NamedTuple):
    """A setting that follows from the shape of a variable.

    Attributes:
        value: The value of the setting.
        variable: The variable, by its name in version 0.7.6.
    """

    value: Any
    variable: str


class LegacyCheckpoint:
    """A checkpoint of the original aocr, opened for reading only.

    Args:
        path: Path of the checkpoint, without the suffix of its files.

    Raises:
        DamagedError: The checkpoint cannot be read.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._reader = tf.train.load_checkpoint(path)
            self._shapes: dict[str, list[int]] = self._reader.get_variable_to_shape_map()
        except _READ_ERRORS as error:
            raise DamagedError(path, error) from error

    def recognized(self) -> bool:
        """Returns whether the original has written the checkpoint.

        One of its variables is enough, so that an incomplete checkpoint is recognized as well.
        """
        return any(name in self._shapes for name in (_FIRST_KERNEL, _EMBEDDING, _KEYS))

    def config(self, given: Mapping[str, Any]) -> ModelConfig:
        """Returns the model's settings: inferred from shapes, named by the user, or defaults.

        Args:
            given: The settings that the user named, and no others.

        Raises:
            AocrError: A setting contradicts a shape, or the shapes are not those of the original.
        """
        inferred = self._inferred_settings()
        for name in sorted(given.keys() & inferred.keys()):
            if given[name] != inferred[name].value:
                raise self._contradiction(name, given[name], inferred[name])
        values = {name: setting.value for name, setting in inferred.items()}
        alphabet = self._alphabet(given.get("alphabet"))
        kernel = "bicubic-tf2" if self._is_port() else "bicubic-tf1"
        return ModelConfig(**{"layout": "padded", "kernel": kernel, "alpha": "drop", **given,
                              **values, "alphabet": alphabet})

    def describe(self, config: ModelConfig) -> str:
        """Returns a log line about the checkpoint, and the settings that it is read with."""
        step = self._step()
        return (f"{self.path} is a model of the original aocr "
                f"({'its TensorFlow 2 port' if self._is_port() else 'version 0.7.6'}, "
                f"{'no step counter' if step is None else f'step {step}'}), read with --max-width "
                f"{config.max_width} --max-height {config.max_height} --max-prediction "
                f"{config.max_prediction} and {len(config.alphabet)} characters; it is not "
                "written to")

    def load_into(self, model: AttentionOCR, debias: bool) -> None:
        """Assigns the weights to a network.

        Args:
            model: A network with the settings that `config` returns.
            debias: Remove the start values from the batch-norm averages.

        Raises:
            AocrError: A variable is missing or has another shape.
        """
        for variable, legacy_name in _legacy_names(model):
            name = self._name(legacy_name)
            value = self._value(name)
            value = value[0, 0] if legacy_name == _KEYS else value
            if list(value.shape) != variable.shape:
                raise AocrError(f"{self.path} is not a complete model of the original aocr: its "
                                f"variable {name} has shape {self._shapes[name]}, expected "
                                f"{variable.shape.as_list()}")
            variable.assign(value)
        start = model.decoder.start
        start.kernel.assign(tf.eye(*start.kernel.shape))
        start.bias.assign(tf.zeros_like(start.bias))
        norms = [conv.norm for conv in model.cnn.convs if conv.norm is not None]
        self._handle_start_values(norms, debias)

    def _handle_start_values(self, norms: Sequence[BatchNorm], debias: bool) -> None:
        """Warns of start values in the batch-norm averages, or removes them.

        The original's averages start at mean 0 and variance 1, whose weight at step t is 0.99^t.
        """
        step = self._step()
        if step is None:
            if debias:
                raise AocrError(f"--debias needs the step counter `{_STEP}`, which {self.path} "
                                "does not hold; leave --debias out")
            return
        share = BATCH_NORM_MOMENTUM**step
        smallest = min(float(tf.reduce_min(norm.moving_variance)) for norm in norms)
        share_text = (f"{share:.2g} of 1 at step {step}, where the smallest variance is "
                      f"{smallest:.2g}")
        possible = smallest >= share * (1 - _ROUNDING)
        if debias and (not possible or step < 1):
            raise AocrError(f"--debias does not fit {self.path}: its batch-norm averages cannot "
                            f"contain a start value of {share_text}; leave --debias out")
        if debias:
            log.info(f"Removed the start value, {share_text}, from the batch-norm averages.")
            _debias(norms, share)
        elif possible and share > _RELEVANT_SHARE * smallest:
            log.warning(f"The batch-norm averages of {self.path} contain their start value: "
                        f"{share_text}; if predictions are poor, --debias removes it")

    def _step(self) -> int | None:
        """Returns the step counter, or `None` if there is none."""
        if self._shapes.get(_STEP) != []:
            return None
        value = self._value(_STEP)
        return int(value) if value.dtype.kind in "iu" and value >= 0 else None

    def _value(self, name: str) -> np.ndarray:
        try:
            return np.asarray(self._reader.get_tensor(name))
        except _READ_ERRORS as error:
            raise DamagedError(self.path, error) from error

    def _is_port(self) -> bool:
        # TensorFlow 2, which the port needs, has no batch norm with variables of another name.
        return any(f"/{_PORT_NORM}/" in name for name in self._shapes)

    def _name(self, legacy_name: str) -> str:
        """Returns the name of a variable in this checkpoint.

        Args:
            legacy_name: Its name in version 0.7.6.

        Raises:
            AocrError: The checkpoint does not hold it.
        """
        for name in _spellings(legacy_name):
            if name in self._shapes:
                return name
        raise AocrError(f"{self.path} is not a complete model of the original aocr: it has no "
                        f"variable {legacy_name}")

    def _shape(self, legacy_name: str, axes: int) -> list[int]:
        name = self._name(legacy_name)
        shape = self._shapes[name]
        if len(shape) != axes or 0 in shape:
            raise AocrError(f"{self.path} is not a model of the original aocr: its variable "
                            f"{name} has shape {shape}, expected {axes} axes")
        return shape

    def _inferred_settings(self) -> dict[str, _Inferred]:
        """Returns every setting that follows from a shape."""
        gru = any(name in self._shapes for name in _spellings(f"{_GRU}/gates/kernel"))
        cell = f"{_GRU}/gates/kernel" if gru else f"{_LSTM}/kernel"
        hidden = self._shape(cell, 2)[0] // 2
        units = self._shape(_KEYS, 4)[-1]
        return {
            "color": _Inferred(self._shape(_FIRST_KERNEL, 4)[2] == 3, _FIRST_KERNEL),
            "use_gru": _Inferred(gru, cell),
            "attn_num_hidden": _Inferred(hidden, cell),
            "attn_num_layers": _Inferred(units // max(2 * hidden, 1), _KEYS),
            "target_embedding_size": _Inferred(self._shape(_EMBEDDING, 2)[1], _EMBEDDING)}

    def _contradiction(self, name: str, value: object, inferred: _Inferred) -> AocrError:
        variable = self._name(inferred.variable)
        source = f"{self.path}, whose variable {variable} has shape {self._shapes[variable]}"
        if isinstance(inferred.value, bool):
            remedy = f"{'give' if inferred.value else 'leave out'} {flag(name)}"
            return AocrError(
                f"{'' if value else 'no '}{flag(name)} does not fit {source}; {remedy}")
        return AocrError(f"{flag(name)} {value} does not fit {source}; give "
                         f"{flag(name)} {inferred.value}")

    def _alphabet(self, given: str | None) -> str:
        """Returns the alphabet: the user's, or that of the original with as many characters.

        Raises:
            AocrError: The number of characters does not fit the embedding.
        """
        rows = self._shape(_EMBEDDING, 2)[0] - 3
        alphabet = _ALPHABETS.get(rows, "") if given is None else given
        if len(alphabet) == rows:
            return alphabet
        remedies = {len(DIGITS_AND_CAPITALS): "leave out --full-ascii",
                    len(PRINTABLE_ASCII): "give --full-ascii"}
        remedy = remedies.get(rows, "the original's own alphabets have 36 and 95 (--full-ascii)")
        source = (f"{self.path}, whose variable {_EMBEDDING} has shape "
                  f"{self._shapes[_EMBEDDING]}, which is {rows} characters")
        problem = ("its alphabet is needed to read" if given is None else
                   f"an alphabet of {len(given)} characters does not fit")
        raise AocrError(f"{problem} {source}; {remedy}")


def _debias(norms: Sequence[BatchNorm], share: float) -> None:
    """Removes start values, whose weight in the averages is `share`, in [0, 1)."""
    for norm in norms:
        norm.moving_mean.assign(norm.moving_mean / (1 - share))
        variance = (norm.moving_variance - share) / (1 - share)
        norm.moving_variance.assign(tf.maximum(variance, 0.0))


def _spellings(name: str) -> Iterator[str]:
    """Yields a name as in version 0.7.6, and in every mixture with names of the port."""
    spellings = [""]
    for part in name.split("/"):
        choices = [part, _SYNONYMS[part]] if part in _SYNONYMS else [part]
        spellings = [f"{prefix}/{choice}" for prefix in spellings for choice in choices]
    return (spelling[1:] for spelling in spellings)


def _legacy_names(model: AttentionOCR) -> Iterator[tuple[tf.Variable, str]]:
    """Yields each variable that the original has as well, with its name in version 0.7.6."""
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
        yield from _cell_names(cell)


def _cell_names(cell: GruCell | LstmCell) -> Iterator[tuple[tf.Variable, str]]:
    """Yields the variables of a decoder layer; all layers share one cell in the original."""
    if isinstance(cell, GruCell):
        yield cell.gates_kernel, f"{_GRU}/gates/kernel"
        yield cell.gates_bias, f"{_GRU}/gates/bias"
        yield cell.candidate_kernel, f"{_GRU}/candidate/kernel"
        yield cell.candidate_bias, f"{_GRU}/candidate/bias"
    else:
        yield cell.kernel, f"{_LSTM}/kernel"
        yield cell.bias, f"{_LSTM}/bias"
