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
from aocr.config import ALPHA_RULES, NETWORK_SETTINGS, OVERSIZE, ModelConfig
from aocr.model import AttentionOCR
from aocr.runtime.console import log
from aocr.tokenizer import FIRST_CHARACTER_ID

_LIMITS = ("max_width", "max_height", "max_prediction")
# Weights of red, green and blue in a gray image, as JPEG decoders and `tf.image` compute it.
# Source: ITU-R BT.601.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def load(model_dir: str, given: Mapping[str, Any], choice: CheckpointChoice
         ) -> tuple[LoadedModel, ModelConfig]:
    """Loads the model to start from.

    Settings that the user did not name are those of the old model, except what is done with
    transparent and with oversize images, which is the default, and the temperature.

    Args:
        model_dir: Its model directory, of this aocr or of the original aocr.
        given: The settings that the user named for the new model. The sizes of the network
            (`aocr.config.NETWORK_SETTINGS`) must equal the old model's.
        choice: See `loader.load`.

    Returns:
        The old model, and the settings of the new one.

    Raises:
        AocrError: There is no model, or its network has other sizes.
    """
    names = NETWORK_SETTINGS + _LIMITS if loader.is_legacy(model_dir) else NETWORK_SETTINGS
    fixed = {name: value for name, value in given.items() if name in names}
    old = loader.load(model_dir, fixed, choice)
    return old, dataclasses.replace(old.config, **{
        "alpha": ALPHA_RULES[0], "oversize": OVERSIZE[0], "temperature": 1.0, **given})


def copy(old: LoadedModel, model: AttentionOCR, config: ModelConfig) -> None:
    """Copies the weights of an old model to a new one.

    Weights of characters that only the new alphabet has keep their start values. A new network for
    color images computes at first what the old one computes of the same images in gray, and the
    reverse. The batch-norm averages follow the new data from the first step (see `BatchNorm`).

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
        if axis is not None:
            target.assign(_merge(source, target, ids, axis))
        elif target is model.cnn.convs[0].kernel:
            target.assign(_for_channels(source.numpy(), config.channels))
        else:
            target.assign(source)
    for conv in model.cnn.convs:
        if conv.norm is not None:
            conv.norm.updates.assign(0)
    shared = len(ids[0]) - FIRST_CHARACTER_ID
    log.info(f"Starting from {old.path}: {shared} characters keep their weights, "
             f"{len(config.alphabet) - shared} get new ones, {len(old.config.alphabet) - shared} "
             "are no longer used.")


def _for_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Returns the first kernel for images with this number of channels.

    Args:
        kernel: `[3, 3, 1 or 3, 64]`.
        channels: 1 or 3.
    """
    if kernel.shape[2] == channels:
        return kernel
    converted: np.ndarray = (
        kernel.sum(2, keepdims=True) if channels == 1 else kernel * _LUMA[:, None])
    return converted


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
