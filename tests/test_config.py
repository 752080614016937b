"""Settings: defaults, derived sizes, and errors of values out of range."""

from __future__ import annotations

import dataclasses
import json
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aocr.config import PRINTABLE_ASCII, ModelConfig, TrainConfig, flag
from aocr.errors import AocrError

MODEL_NUMBERS = ("max_width", "max_height", "max_prediction", "attn_num_layers",
                 "attn_num_hidden", "target_embedding_size")
TRAIN_NUMBERS = ("batch_size", "num_epoch", "max_steps", "steps_per_checkpoint")


def test_defaults_are_the_originals() -> None:
    config = ModelConfig()
    assert (config.max_width, config.max_height, config.max_prediction) == (160, 60, 8)
    assert config.alphabet == "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    assert not config.color
    assert not config.use_gru
    assert (config.attn_num_layers, config.attn_num_hidden) == (2, 128)
    assert config.target_embedding_size == 10
    train = TrainConfig()
    assert (train.batch_size, train.num_epoch, train.steps_per_checkpoint) == (65, 1000, 100)
    assert (train.new_optimizer, train.new_learning_rate) == ("adam", 0.002)
    assert train.max_gradient_norm == 5.0


def test_derived_sizes() -> None:
    config = ModelConfig(max_prediction=5, attn_num_layers=3, attn_num_hidden=7, color=True)
    assert config.input_width == 86
    assert config.channels == 3
    assert ModelConfig().channels == 1
    assert config.vocab_size == 39
    assert (config.encoder_units, config.memory_units) == (21, 42)
    assert config.decode_steps == 7


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_input_width_is_the_exact_ceiling(max_width: int, max_height: int) -> None:
    config = ModelConfig(max_width=max_width, max_height=max_height)
    assert config.input_width == math.ceil(Fraction(max_width, max_height) * 32)


def test_printable_ascii_has_95_characters() -> None:
    assert len(PRINTABLE_ASCII) == 95
    assert PRINTABLE_ASCII.isascii()
    assert PRINTABLE_ASCII.isprintable()


def test_json_restores_the_same_config() -> None:
    config = ModelConfig(max_width=99, alphabet="é a", color=True, oversize="shrink")
    assert ModelConfig(**json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize("config", [ModelConfig(), TrainConfig()])
def test_configs_are_frozen(config: Any) -> None:
    name = dataclasses.fields(config)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, name, 5)


@pytest.mark.parametrize("value", [0, -1, 1.5, "8", True])
@pytest.mark.parametrize("name", MODEL_NUMBERS + TRAIN_NUMBERS)
def test_refused_numbers_are_named_with_their_flag(name: str, value: object) -> None:
    kind: Any = ModelConfig if name in MODEL_NUMBERS else TrainConfig
    with pytest.raises(AocrError) as caught:
        kind(**{name: value})
    assert flag(name) in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["initial_learning_rate", "max_gradient_norm"])
def test_rates_must_be_above_0_and_finite(name: str, value: float) -> None:
    settings: Any = {name: value}
    with pytest.raises(AocrError, match=flag(name)):
        TrainConfig(**settings)


def test_bounds_of_clipping_steps_and_seed() -> None:
    train = TrainConfig(max_gradient_norm=None, max_steps=None, seed=0)
    assert train.max_gradient_norm is None
    with pytest.raises(AocrError, match="--seed"):
        TrainConfig(seed=-1)


def test_runs_with_a_validation_and_without_an_end_stop_after_ten_validations() -> None:
    assert TrainConfig(val_split=0.1).patience == TrainConfig(val=("words",)).patience == 10
    assert TrainConfig().patience is TrainConfig(val_split=0.1, max_steps=9).patience is None
    assert TrainConfig(val_split=0.1, max_steps=9, early_stop=3).patience == 3


@pytest.mark.parametrize("alphabet", ["", "aa", "abca"])
def test_alphabet_holds_each_character_once(alphabet: str) -> None:
    with pytest.raises(AocrError, match="alphabet"):
        ModelConfig(alphabet=alphabet)


@pytest.mark.parametrize(("name", "wrong", "right"), [
    ("oversize", "crop", "shrink"), ("kernel", "nearest", "bicubic-antialias")])
def test_choices_are_listed_when_refused(name: str, wrong: str, right: str) -> None:
    settings: Any = {name: wrong}
    with pytest.raises(AocrError) as caught:
        ModelConfig(**settings)
    assert all(word in str(caught.value) for word in (name, wrong, right))


def test_flag_is_the_name_on_the_command_line() -> None:
    assert flag("max_width") == "--max-width"


@pytest.mark.parametrize("name", ["max_width", "max_prediction", "attn_num_hidden"])
def test_sizes_that_are_too_large_are_refused(name: str) -> None:
    with pytest.raises(AocrError, match="must be at most"):
        ModelConfig(**{name: 10 ** 12})  # type: ignore[arg-type]


def test_surrogates_are_refused() -> None:
    with pytest.raises(AocrError, match="contains a surrogate"):
        ModelConfig(alphabet="a\ud800")
