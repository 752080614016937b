"""The images of a training: those that are learned, and those that it is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from aocr.config import ModelConfig, TrainConfig
from aocr.data import scan, skipping
from aocr.data.index import RecordIndex, build_index, resolve_paths
from aocr.errors import AocrError
from aocr.runtime.console import log
from aocr.tokenizer import Tokenizer


class Splits(NamedTuple):
    """What is learned, and what is only read to see how well it goes.

    Attributes:
        training: What is learned.
        validation: What is not; `None` for nothing.
        split: Whether both are of one dataset.
    """

    training: RecordIndex
    validation: RecordIndex | None = None
    split: bool = False


def load_splits(patterns: Sequence[str], config: ModelConfig, settings: TrainConfig,
                tokenizer: Tokenizer) -> Splits:
    """Looks over the datasets.

    Args:
        patterns: Names or globs of TFRecords files.
        config: Limits of width and label.
        settings: What to validate on.
        tokenizer: The alphabet.

    Raises:
        AocrError: Nothing is left to train or to validate on.
    """
    index = build_index(resolve_paths(patterns), config, tokenizer, settings.max_pixels)
    skipping.require_usable(len(index), index.skipped)
    if settings.val:
        validation = build_index(resolve_paths(settings.val), config, tokenizer,
                                   settings.max_pixels)
        skipping.report(validation.skipped, len(validation), "to validate on")
        skipping.require_usable(len(validation), validation.skipped)
        return Splits(index, validation)
    if not settings.val_split:
        return Splits(index)
    training, validation = split(index, settings.val_split)
    if not len(training) or not len(validation):
        raise AocrError(f"--val-split {settings.val_split} leaves {len(training)} images to train "
                        f"and {len(validation)} to validate on; choose another share, or give "
                        "--val DATASET")
    log.info(f"Validating on {len(validation)} of the {len(index)} images, which are not learned.")
    return Splits(training, validation, split=True)


def split(index: RecordIndex, share: float) -> tuple[RecordIndex, RecordIndex]:
    """Two parts of the records: the rest with all that is skipped, and about this share.

    An image is always on the same side, whatever stands beside it.
    """
    chosen = index.bucket < share * scan.BUCKETS
    return index.subset(~chosen), replace(index.subset(chosen), skipped=[])
