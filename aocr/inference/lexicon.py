"""Word lists: the texts that a model may return, one in each line of a file."""

from __future__ import annotations

from collections import Counter

import tensorflow as tf

from aocr.errors import AocrError, SkipError, reason
from aocr.runtime.console import log, printable
from aocr.tokenizer import Tokenizer, normalize


def read(path: str, tokenizer: Tokenizer, longest: int) -> list[str]:
    """Reads a word list, and logs which entries the model cannot return.

    Args:
        path: A UTF-8 text file; empty lines are ignored.
        tokenizer: Encodes the entries.
        longest: Maximum length of an entry in characters.

    Returns:
        The entries in Unicode form NFC, each once.

    Raises:
        AocrError: The file cannot be read, or has no entry that the model can return.
    """
    entries = _entries(path)
    skipped: Counter[str] = Counter()
    examples: dict[str, str] = {}
    usable = []
    for entry, number in entries.items():
        problem = _problem(entry, tokenizer, longest)
        if problem is None:
            usable.append(entry)
        else:
            skipped[problem] += 1
            examples.setdefault(problem, f"line {number}: {printable(entry)}")
    reasons = "; ".join(f"{count} x {problem} (first: {examples[problem]})"
                        for problem, count in skipped.most_common())
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


def _problem(entry: str, tokenizer: Tokenizer, longest: int) -> str | None:
    """Returns why the model cannot return an entry, or `None` if it can."""
    if len(entry) > longest:
        return f"longer than {longest} characters"
    try:
        tokenizer.encode(entry)
    except SkipError as error:
        return error.reason
    return None
