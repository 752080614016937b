"""A training that starts from another model's weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from aocr.checkpoints import loader
from aocr.checkpoints.loader import CheckpointChoice, LoadedModel
from aocr.config import ModelConfig
from aocr.model import AttentionOCR
from aocr.runtime.console import log
from aocr.tokenizer import FIRST_CHARACTER_ID

_SHAPES = ("color", "use_gru", "attn_num_layers", "attn_num_hidden", "target_embedding_size")
_LIMITS = ("max_width", "max_height", "max_prediction")


def load(model_dir: str, given: Mapping[str, Any], choice: CheckpointChoice) -> tuple[LoadedModel,
                                                                                      ModelConfig]:
    """The model to start from, and the settings of the new one.

    Args:
        model_dir: Its folder, written by us or by the original.
        given: The settings that the user named for the new model; those that shape the weights
            must be the old one's, but for the alphabet.
        choice: See `checkpoint.load`.

    Raises:
        AocrError: There is no model, or it has other shapes.
    """
    names = _SHAPES + _LIMITS if loader.is_original(model_dir) else _SHAPES
    fixed = {name: value for name, value in given.items() if name in names}
    old = loader.load(model_dir, fixed, choice)
    return old, dataclasses.replace(old.config, **given)


def copy(old: LoadedModel, model: AttentionOCR, config: ModelConfig) -> None:
    """Gives a new network the old one's weights.

    Rows of characters that both alphabets have are kept; those of other characters stay as they
    started. The batch-norm averages begin to follow the new data at once (see `BatchNorm`).

    Args:
        old: The old model.
        model: The new network.
        config: Its settings.
    """
    by_character = {id(model.decoder.embedding): 0, id(model.decoder.output.kernel): 1,
                    id(model.decoder.output.bias): 0}
    kept = _shared_ids(old.config.alphabet, config.alphabet)
    for source, target in zip(old.model.variables, model.variables, strict=True):
        axis = by_character.get(id(target))
        target.assign(source if axis is None else _merged(source, target, kept, axis))
    for conv in model.cnn.convs:
        if conv.norm is not None:
            conv.norm.updates.assign(0)
    same = len(kept[0]) - FIRST_CHARACTER_ID
    log.info(f"Starting from {old.path}: {same} characters keep their weights, "
             f"{len(config.alphabet) - same} start anew, {len(old.config.alphabet) - same} are "
             "no longer used.")


def _shared_ids(old: str, new: str) -> tuple[np.ndarray, np.ndarray]:
    """Ids in the old and in the new alphabet of all that both have, the special ids first."""
    special = list(range(FIRST_CHARACTER_ID))
    places = {character: n + FIRST_CHARACTER_ID for n, character in enumerate(old)}
    pairs = [(places[character], n + FIRST_CHARACTER_ID)
             for n, character in enumerate(new) if character in places]
    return (np.array(special + [pair[0] for pair in pairs]),
            np.array(special + [pair[1] for pair in pairs]))


def _merged(source: tf.Variable, target: tf.Variable, kept: tuple[np.ndarray, np.ndarray],
            axis: int) -> np.ndarray:
    merged = np.moveaxis(target.numpy().copy(), axis, 0)
    merged[kept[1]] = np.moveaxis(source.numpy(), axis, 0)[kept[0]]
    return np.moveaxis(merged, 0, axis)
