"""Nothing is left out in silence: what was skipped, counted by reason and named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from aocr import files
from aocr.console import log
from aocr.errors import AocrError
from aocr.records import Skipped

SKIPPED_FILE = "skipped.tsv"
_REMEDIES = {
    "image too wide": "train with a larger --max-width, or --oversize shrink",
    "label too long": "train with a larger --max-prediction",
    "unknown character": "train with --charset auto or --full-ascii",
    "image too large": "give a larger --max-pixels",
}


def count(skipped: Sequence[Skipped]) -> dict[str, int]:
    """How many for each reason, the most frequent first."""
    return dict(Counter(skip.reason for skip in skipped).most_common())


def report(skipped: Sequence[Skipped], used: int, purpose: str = "") -> None:
    """Logs the table of reasons.

    Args:
        skipped: The records left out.
        used: How many are used.
        purpose: What the images are used for, if it is not the command's own purpose.
    """
    log.info(f"Using {used} of {used + len(skipped)} images{' ' * bool(purpose)}{purpose}, "
             f"skipping {len(skipped)}.")
    for reason, number in count(skipped).items():
        first = next(skip for skip in skipped if skip.reason == reason)
        remedy = f"; {_REMEDIES[reason]}" if reason in _REMEDIES else ""
        log.warning(f"Skipped: {number} x {reason} (first: record {first.record} of "
                    f"{first.path}, {first.detail}{remedy})")


def write(skipped: Sequence[Skipped], path: str) -> None:
    """The list as tab-separated values: dataset, record, reason, detail."""
    lines = ["dataset\trecord\treason\tdetail"]
    for skip in skipped:
        detail = skip.detail.replace("\t", " ").replace("\n", " ")
        lines.append(f"{skip.path}\t{skip.record}\t{skip.reason}\t{detail}")
    files.write(path, "\n".join(lines) + "\n")


def require_some(used: int, skipped: Sequence[Skipped]) -> None:
    """Refuses to go on with nothing.

    Raises:
        AocrError: No image is used; names the commonest reason and the flag to change.
    """
    if used:
        return
    if not skipped:
        raise AocrError("the dataset holds no record; write it again with `aocr dataset`")
    reason, number = next(iter(count(skipped).items()))
    remedy = _REMEDIES.get(reason, "write the dataset again with `aocr dataset`")
    raise AocrError(f"no image can be used: {number} of {len(skipped)} are skipped for "
                    f"{reason!r}; {remedy}")
