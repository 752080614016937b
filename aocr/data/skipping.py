"""Skipped records: which records cannot be used, why, and the report about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aocr.config import ModelConfig
from aocr.data.example import decode_label
from aocr.data.scan import RecordMetadata
from aocr.errors import AocrError, SkipError
from aocr.images import headers
from aocr.runtime import filesystem
from aocr.runtime.console import log
from aocr.tokenizer import UNKNOWN_CHARACTER, Tokenizer

SKIPPED_FILE = "skipped.tsv"
_REMEDIES = {
    "image too wide": "train with a larger --max-width, or --oversize shrink",
    "label too long": "train with a larger --max-prediction",
    UNKNOWN_CHARACTER: "train with --charset auto, --charset FILE or --full-ascii",
    "image too large": "give a larger --max-pixels",
}
_SHOWN_CHARACTERS = 40


class SkippedRecord(NamedTuple):
    """A record that is not used, and why; `record` counts from 1 in its file."""

    path: str
    record: int
    reason: str
    detail: str


@dataclass(frozen=True)
class RecordChecker:
    """Checks records against the limits of a model.

    Attributes:
        config: Limits of image width and label length.
        tokenizer: Characters that labels may contain.
        max_pixels: Maximum number of pixels to decode for an image.
    """

    config: ModelConfig
    tokenizer: Tokenizer
    max_pixels: int

    def unusable(self, metadata: RecordMetadata) -> Iterator[tuple[int, SkipError]]:
        """Yields the position in the batch and the error of every record that cannot be used."""
        usable = self._usable_sizes(metadata) & self._usable_labels(metadata)
        for n in np.flatnonzero(~usable).tolist():
            try:
                self._check(metadata, n)
            except SkipError as error:
                yield n, error

    def _usable_sizes(self, metadata: RecordMetadata) -> np.ndarray:
        max_width = self.config.max_width if self.config.oversize == "skip" else np.inf
        return ((metadata.heights > 0) & (metadata.widths > 0) & (metadata.widths <= max_width)
                & (metadata.pixels <= self.max_pixels))

    def _usable_labels(self, metadata: RecordMetadata) -> np.ndarray:
        known, longest = frozenset(self.tokenizer.alphabet), self.config.max_prediction
        labels = (None if label is None else decode_label(label) for label in metadata.labels)
        return np.array([label is not None and len(label) <= longest and known.issuperset(label)
                         for label in labels])

    def _check(self, metadata: RecordMetadata, n: int) -> None:
        """Raises a `SkipError` that states why record `n` of a batch cannot be used."""
        label = metadata.labels[n]
        if label is None:
            raise SkipError("not an image with a label", "expected one string of bytes for each")
        self._check_size(metadata.widths[n], metadata.heights[n], metadata.pixels[n])
        self._check_label(decode_label(label))

    def _check_size(self, width: int, height: int, pixels: int) -> None:
        if 0 in (width, height):
            raise SkipError("unreadable image", "not PNG, JPEG, GIF, BMP or WebP without animation")
        if pixels > self.max_pixels:
            raise SkipError(headers.TOO_LARGE, f"{width} x {height}, {pixels} pixels to decode; "
                            f"--max-pixels is {self.max_pixels}")
        if self.config.oversize == "skip" and width > self.config.max_width:
            raise SkipError("image too wide",
                            f"{width} pixels; --max-width is {self.config.max_width}")

    def _check_label(self, label: str) -> None:
        if len(label) > self.config.max_prediction:
            shown = repr(label[:_SHOWN_CHARACTERS]) + "…" * (len(label) > _SHOWN_CHARACTERS)
            raise SkipError("label too long", f"{len(label)} characters in {shown}; "
                            f"--max-prediction is {self.config.max_prediction}")
        self.tokenizer.encode(label)


def count_by_reason(skipped: Sequence[SkippedRecord]) -> dict[str, int]:
    """Returns the number of skipped records for each reason, most frequent first."""
    return dict(Counter(skip.reason for skip in skipped).most_common())


def report(skipped: Sequence[SkippedRecord], used: int, purpose: str = "") -> None:
    """Logs how many images are used, and how many are skipped for each reason.

    Args:
        skipped: The skipped records.
        used: Number of records that are used.
        purpose: What the images are used for, unless it is obvious from the command.
    """
    log.info(f"Using {used} of {used + len(skipped)} images{' ' * bool(purpose)}{purpose}, "
             f"skipping {len(skipped)}.")
    for reason, number in count_by_reason(skipped).items():
        first = next(skip for skip in skipped if skip.reason == reason)
        remedy = f"; {_REMEDIES[reason]}" if reason in _REMEDIES else ""
        log.warning(f"Skipped: {number} x {reason} (first: record {first.record} of "
                    f"{first.path}, {first.detail}{remedy})")


def write(skipped: Sequence[SkippedRecord], path: str) -> None:
    """Writes the skipped records as tab-separated values: dataset, record, reason, detail."""
    lines = ["dataset\trecord\treason\tdetail"]
    for skip in skipped:
        detail = skip.detail.replace("\t", " ").replace("\n", " ")
        lines.append(f"{skip.path}\t{skip.record}\t{skip.reason}\t{detail}")
    filesystem.write(path, "\n".join(lines) + "\n")


def require_usable(used: int, skipped: Sequence[SkippedRecord]) -> None:
    """Raises an error if no image is usable.

    Raises:
        AocrError: `used` is 0; names the most frequent reason and the flag to change.
    """
    if used:
        return
    if not skipped:
        raise AocrError("the dataset holds no record; write it again with `aocr dataset`")
    reason, number = next(iter(count_by_reason(skipped).items()))
    remedy = _REMEDIES.get(reason, "write the dataset again with `aocr dataset`")
    raise AocrError(f"no image can be used: {number} of {len(skipped)} are skipped for "
                    f"{reason!r}; {remedy}")
