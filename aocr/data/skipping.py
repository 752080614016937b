"""Nothing is left out in silence: what was skipped, counted by reason and named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aocr.config import ModelConfig
from aocr.data import scan
from aocr.data.example import decode_label, decode_labels
from aocr.errors import AocrError, SkipError
from aocr.images import header_ops
from aocr.runtime import filesystem
from aocr.runtime.console import log
from aocr.tokenizer import Tokenizer

SKIPPED_FILE = "skipped.tsv"
_REMEDIES = {
    "image too wide": "train with a larger --max-width, or --oversize shrink",
    "label too long": "train with a larger --max-prediction",
    "unknown character": "train with --charset auto or --full-ascii",
    "image too large": "give a larger --max-pixels",
}


def count_by_reason(skipped: Sequence[SkippedRecord]) -> dict[str, int]:
    """How many for each reason, the most frequent first."""
    return dict(Counter(skip.reason for skip in skipped).most_common())


def report(skipped: Sequence[SkippedRecord], used: int, purpose: str = "") -> None:
    """Logs the table of reasons.

    Args:
        skipped: The records left out.
        used: How many are used.
        purpose: What the images are used for, if it is not the command's own purpose.
    """
    log.info(f"Using {used} of {used + len(skipped)} images{' ' * bool(purpose)}{purpose}, "
             f"skipping {len(skipped)}.")
    for reason, number in count_by_reason(skipped).items():
        first = next(skip for skip in skipped if skip.reason == reason)
        remedy = f"; {_REMEDIES[reason]}" if reason in _REMEDIES else ""
        log.warning(f"Skipped: {number} x {reason} (first: record {first.record} of "
                    f"{first.path}, {first.detail}{remedy})")


def write(skipped: Sequence[SkippedRecord], path: str) -> None:
    """The list as tab-separated values: dataset, record, reason, detail."""
    lines = ["dataset\trecord\treason\tdetail"]
    for skip in skipped:
        detail = skip.detail.replace("\t", " ").replace("\n", " ")
        lines.append(f"{skip.path}\t{skip.record}\t{skip.reason}\t{detail}")
    filesystem.write(path, "\n".join(lines) + "\n")


def require_usable(used: int, skipped: Sequence[SkippedRecord]) -> None:
    """Refuses to go on with nothing.

    Raises:
        AocrError: No image is used; names the commonest reason and the flag to change.
    """
    if used:
        return
    if not skipped:
        raise AocrError("the dataset holds no record; write it again with `aocr dataset`")
    reason, number = next(iter(count_by_reason(skipped).items()))
    remedy = _REMEDIES.get(reason, "write the dataset again with `aocr dataset`")
    raise AocrError(f"no image can be used: {number} of {len(skipped)} are skipped for "
                    f"{reason!r}; {remedy}")


class SkippedRecord(NamedTuple):
    """One record that is not used, and why; `record` counts from 1 in its file."""

    path: str
    record: int
    reason: str
    detail: str


def suspects(one: scan.RecordMetadata, config: ModelConfig, tokenizer: Tokenizer, max_pixels: int
              ) -> np.ndarray:
    """Places of all records of a scan that cannot be used, and maybe of others."""
    widest = config.max_width if config.oversize == "skip" else np.inf
    plain = (one.heights > 0) & (one.widths > 0) & (one.pixels <= max_pixels) & (
        one.widths <= widest)
    known = frozenset(tokenizer.alphabet)
    texts = decode_labels([label or b"" for label in one.labels])
    fits = [len(text) <= config.max_prediction and known.issuperset(text) for text in texts]
    there = [label is not None for label in one.labels]
    return np.flatnonzero(~(plain & np.array(fits, bool) & np.array(there, bool)))


def check_record(one: scan.RecordMetadata, n: int, config: ModelConfig, tokenizer: Tokenizer,
                 max_pixels: int
           ) -> None:
    """Raises what is wrong with record `n` of a scan."""
    if one.labels[n] is None:
        raise SkipError("not an image with a label", "expected one string of bytes for each")
    size = int(one.widths[n]), int(one.heights[n])
    _check_size(size, int(one.pixels[n]), config, max_pixels)
    _check_label(one.labels[n], config, tokenizer)


def _check_size(size: tuple[int, int], pixels: int, config: ModelConfig, max_pixels: int) -> None:
    if 0 in size:
        raise SkipError("unreadable image", "not PNG, JPEG, GIF, BMP or WebP without animation")
    if pixels > max_pixels:
        raise SkipError(header_ops.TOO_LARGE, f"{size[0]} x {size[1]}, {pixels} pixels to decode; "
                        f"--max-pixels is {max_pixels}")
    if config.oversize == "skip" and size[0] > config.max_width:
        raise SkipError("image too wide", f"{size[0]} pixels; --max-width is {config.max_width}")


def _check_label(label: bytes, config: ModelConfig, tokenizer: Tokenizer) -> None:
    text = decode_label(label)
    if len(text) > config.max_prediction:
        shown = repr(text[:40]) + "…" * (len(text) > 40)
        raise SkipError("label too long", f"{len(text)} characters in {shown}; "
                        f"--max-prediction is {config.max_prediction}")
    tokenizer.encode(text)
