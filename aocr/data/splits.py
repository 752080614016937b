"""Training and validation splits."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from aocr.config import ModelConfig, TrainConfig
from aocr.data import skipping
from aocr.data.index import RecordIndex, build_index, index_checksum, resolve_paths
from aocr.data.sampler import Mixture
from aocr.data.scan import BUCKETS
from aocr.data.skipping import SkippedRecord
from aocr.errors import AocrError
from aocr.runtime.console import log
from aocr.tokenizer import Tokenizer


class Splits(NamedTuple):
    """The records to train on and to validate on.

    Attributes:
        training: Records to train on; those of the mixture are the last ones.
        validation: Records to validate on; `None` for no validation.
        split: Whether both are parts of one dataset.
        mixture: Which records are mixed into every batch; `None` for none.
        mixed_skipped: Records to mix in that are not used.
    """

    training: RecordIndex
    validation: RecordIndex | None = None
    split: bool = False
    mixture: Mixture | None = None
    mixed_skipped: Sequence[SkippedRecord] = ()

    @property
    def own_count(self) -> int:
        """Number of records to train on without those of the mixture."""
        return len(self.training) if self.mixture is None else self.mixture.start

    def training_checksum(self, seed: int) -> int:
        """Returns a 32-bit checksum of the records to train on and of their order."""
        return zlib.crc32(f"{index_checksum(self.training)} {self.own_count} {seed}".encode())


def load_splits(patterns: Sequence[str], config: ModelConfig, settings: TrainConfig,
                tokenizer: Tokenizer) -> Splits:
    """Builds the indexes of the training and validation records.

    Args:
        patterns: Names or globs of TFRecords files.
        config: Limits of image width and label length.
        settings: The validation dataset or the share of the records to validate on, and the
            datasets to mix into every batch.
        tokenizer: Characters that labels may contain.

    Raises:
        AocrError: No record is usable for training, or none for validation.
    """
    splits = _load_unmixed(patterns, config, settings, tokenizer)
    if not settings.mix:
        return splits
    mixed = build_index(resolve_paths(settings.mix), config, tokenizer, settings.max_pixels)
    skipping.report(mixed.skipped, len(mixed), "to mix in")
    skipping.require_usable(len(mixed), mixed.skipped)
    mixture = Mixture.plan(len(splits.training), len(mixed), settings)
    own = round(mixture.start / mixture.batches_per_epoch)
    log.info(f"Mixing in: {mixture.per_batch} images in every batch of {own + mixture.per_batch}.")
    return splits._replace(training=splits.training.join(mixed), mixture=mixture,
                           mixed_skipped=mixed.skipped)


def _load_unmixed(patterns: Sequence[str], config: ModelConfig, settings: TrainConfig,
                  tokenizer: Tokenizer) -> Splits:
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
                        f"on and {len(validation)} to validate on; choose another share, or give "
                        "--val DATASET")
    log.info(f"Validating on {len(validation)} of the {len(index)} images, which are not used for "
             "training.")
    return Splits(training, validation, split=True)


def split(index: RecordIndex, share: float) -> tuple[RecordIndex, RecordIndex]:
    """Splits records into a training part, which keeps `skipped`, and about `share` of them.

    The part of an image depends only on its encoded bytes, not on the rest of the dataset.
    """
    validation = index.bucket < share * BUCKETS
    return index.subset(~validation), replace(index.subset(validation), skipped=[])
