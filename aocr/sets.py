"""The images of a training: those that are learned, and those that it is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aocr import records, skips
from aocr.charmap import CharMap
from aocr.config import ModelConfig, TrainConfig
from aocr.console import log
from aocr.errors import AocrError
from aocr.records import Index


class Sets(NamedTuple):
    """What is learned, and what is only read to see how well it goes.

    Attributes:
        training: What is learned.
        validation: What is not; `None` for nothing.
        split: Whether both are of one dataset.
    """

    training: Index
    validation: Index | None = None
    split: bool = False


def find(patterns: Sequence[str], config: ModelConfig, settings: TrainConfig) -> Sets:
    """Looks over the datasets.

    Args:
        patterns: Names or globs of TFRecords files.
        config: Limits of width and label, and the alphabet.
        settings: What to validate on.

    Raises:
        AocrError: Nothing is left to train or to validate on.
    """
    characters = CharMap(config.alphabet)
    index = records.index(records.find(patterns), config, characters, settings.max_pixels)
    skips.require_some(len(index), index.skipped)
    if settings.val:
        validation = records.index(records.find(settings.val), config, characters,
                                   settings.max_pixels)
        skips.report(validation.skipped, len(validation), "to validate on")
        skips.require_some(len(validation), validation.skipped)
        return Sets(index, validation)
    if not settings.val_split:
        return Sets(index)
    training, validation = records.split(index, settings.val_split)
    if not len(training) or not len(validation):
        raise AocrError(f"--val-split {settings.val_split} leaves {len(training)} images to train "
                        f"and {len(validation)} to validate on; choose another share, or give "
                        "--val DATASET")
    log.info(f"Validating on {len(validation)} of the {len(index)} images, which are not learned.")
    return Sets(training, validation, split=True)
