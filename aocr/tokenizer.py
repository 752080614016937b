"""Text ↔ ids: the three special ids and the alphabet."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from aocr.errors import SkipError

PAD_ID = 0
GO_ID = 1
EOS_ID = 2
FIRST_CHARACTER_ID = 3


def normalize(text: str) -> str:
    """Text in Unicode form NFC, the form of every label."""
    return unicodedata.normalize("NFC", text)


class Tokenizer:
    """An immutable alphabet: the character at place n has id n + 3.

    Args:
        alphabet: The characters, each one code point.
    """

    def __init__(self, alphabet: str) -> None:
        self.alphabet = alphabet
        self._ids = {character: n + FIRST_CHARACTER_ID for n, character in enumerate(alphabet)}

    def encode(self, text: str) -> list[int]:
        """Ids of the characters, then EOS.

        Raises:
            SkipError: A character is not in the alphabet.
        """
        unknown = sorted(set(text) - self._ids.keys())
        if unknown:
            raise SkipError("unknown character", f"{''.join(unknown)!r} in label {text!r}")
        return [self._ids[character] for character in text] + [EOS_ID]

    def decode(self, ids: Iterable[int]) -> str:
        """Characters up to the first EOS; PAD and GO print nothing."""
        return "".join(character for _, character in self.characters(ids))

    def characters(self, ids: Iterable[int]) -> list[tuple[int, str]]:
        """`(step, character)` for every step before EOS that prints something."""
        found = []
        for step, number in enumerate(ids):
            if number == EOS_ID:
                break
            if number >= FIRST_CHARACTER_ID:
                found.append((step, self.alphabet[number - FIRST_CHARACTER_ID]))
        return found

    def symbols(self) -> list[str]:
        """What every id prints, in the order of the ids."""
        return ["", "", "", *self.alphabet]
