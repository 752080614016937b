"""Word lists: the texts that a model may return, one in each line of a file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import tensorflow as tf

from aocr.config import shown
from aocr.errors import AocrError, SkipError, reason
from aocr.runtime.console import log
from aocr.tokenizer import UNKNOWN_CHARACTER, Tokenizer, normalize

_NAMED = 3  # entries that the log names for each reason


def read(path: str, tokenizer: Tokenizer, longest: int) -> list[str]:
    """Reads a word list, and logs which entries the model cannot return.

    Args:
        path: A UTF-8 text file; empty lines are ignored.
        tokenizer: That of the model.
        longest: Maximum length of an entry in characters.

    Returns:
        The entries in Unicode form NFC, each once.

    Raises:
        AocrError: The file cannot be read, or has no entry that the model can return.
    """
    entries = _entries(path)
    skipped: defaultdict[str, list[str]] = defaultdict(list)
    usable = []
    for entry, number in entries.items():
        problem = _problem(entry, tokenizer, longest)
        if problem is None:
            usable.append(entry)
        else:
            skipped[problem.reason].append(f"line {number}: {problem.detail}")
    reasons = "; ".join(f"{len(skipped[name])} x {name} ({_first(skipped[name])})"
                        for name in sorted(skipped, key=lambda name: -len(skipped[name])))
    if not usable:
        raise AocrError(f"--lexicon {path}: the model can return none of the {len(entries)} "
                        f"entries: {reasons or 'the file is empty'}")
    if skipped:
        log.warning(f"Lexicon {path}: {len(usable)} of {len(entries)} entries are used; not used: "
                    f"{reasons}")
    return usable


def _entries(path: str) -> dict[str, int]:
    """Returns the entries of a file, and the number of the first line of each."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            lines = file.read().decode("utf-8-sig").split("\n")
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise AocrError(f"--lexicon {path}: expected a UTF-8 text file with one entry a line: "
                        f"{reason(error)}") from error
    entries: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        entry = normalize(line.removesuffix("\r"))
        if entry:
            entries.setdefault(entry, number)
    return entries


def _problem(entry: str, tokenizer: Tokenizer, longest: int) -> SkipError | None:
    """Returns why the model cannot return an entry, or `None` if it can."""
    if len(entry) > longest:
        return SkipError(f"longer than {longest} characters", shown(entry))
    unknown = tokenizer.unknown(entry)
    return SkipError(UNKNOWN_CHARACTER, f"{unknown!r} in {entry!r}") if unknown else None


def _first(examples: Sequence[str]) -> str:
    return ", ".join(examples[:_NAMED]) + ", …" * (len(examples) > _NAMED)
