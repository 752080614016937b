"""Warm start: new training that starts from the weights of another model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from aocr.checkpoints import loader
from aocr.checkpoints.choice import CheckpointChoice
from aocr.checkpoints.loader import LoadedModel
from aocr.config import ALPHA_RULES, ModelConfig
from aocr.model import AttentionOCR
from aocr.runtime.console import log
from aocr.tokenizer import FIRST_CHARACTER_ID

_SHAPES = ("color", "use_gru", "attn_num_layers", "attn_num_hidden", "target_embedding_size")
_LIMITS = ("max_width", "max_height", "max_prediction")


def load(model_dir: str, given: Mapping[str, Any], choice: CheckpointChoice
         ) -> tuple[LoadedModel, ModelConfig]:
    """Loads the model to start from.

    Args:
        model_dir: Its model directory, of this aocr or of the original aocr.
        given: The settings that the user named for the new model. Those that determine the shapes
            of weights must equal the old model's, except the alphabet.
        choice: See `loader.load`.

    Returns:
        The old model, and the settings of the new one.

    Raises:
        AocrError: There is no model, or its weights have other shapes.
    """
    names = _SHAPES + _LIMITS if loader.is_legacy(model_dir) else _SHAPES
    fixed = {name: value for name, value in given.items() if name in names}
    old = loader.load(model_dir, fixed, choice)
    return old, dataclasses.replace(old.config, **{"alpha": ALPHA_RULES[0], "temperature": 1.0,
                                                **given})


def copy(old: LoadedModel, model: AttentionOCR, config: ModelConfig) -> None:
    """Copies the weights of an old model to a new one.

    Weights of characters that only the new alphabet has keep their start values. The batch-norm
    averages follow the new data from the first step (see `BatchNorm`).

    Args:
        old: The old model.
        model: The new network.
        config: The settings of the new network.
    """
    character_axes = {id(model.decoder.embedding): 0, id(model.decoder.output.kernel): 1,
                      id(model.decoder.output.bias): 0}
    ids = _shared_ids(old.config.alphabet, config.alphabet)
    for source, target in zip(old.model.variables, model.variables, strict=True):
        axis = character_axes.get(id(target))
        target.assign(source if axis is None else _merge(source, target, ids, axis))
    for conv in model.cnn.convs:
        if conv.norm is not None:
            conv.norm.updates.assign(0)
    shared = len(ids[0]) - FIRST_CHARACTER_ID
    log.info(f"Starting from {old.path}: {shared} characters keep their weights, "
             f"{len(config.alphabet) - shared} get new ones, {len(old.config.alphabet) - shared} "
             "are no longer used.")


def _shared_ids(old: str, new: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ids, in the old and in the new alphabet, of the tokens that both have.

    The special ids come first.
    """
    special = list(range(FIRST_CHARACTER_ID))
    old_ids = {character: n + FIRST_CHARACTER_ID for n, character in enumerate(old)}
    pairs = [(old_ids[character], n + FIRST_CHARACTER_ID)
             for n, character in enumerate(new) if character in old_ids]
    return (np.array(special + [pair[0] for pair in pairs]),
            np.array(special + [pair[1] for pair in pairs]))


def _merge(source: tf.Variable, target: tf.Variable, ids: tuple[np.ndarray, np.ndarray], axis: int
           ) -> np.ndarray:
    """Returns the target's values, with those of shared ids replaced by the source's."""
    old_ids, new_ids = ids
    merged = np.moveaxis(target.numpy().copy(), axis, 0)
    merged[new_ids] = np.moveaxis(source.numpy(), axis, 0)[old_ids]
    return np.moveaxis(merged, 0, axis)
