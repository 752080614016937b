"""Converts text to ids and back: an id for each character, and three special ids."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from aocr.errors import SkipError

PAD_ID = 0
GO_ID = 1
EOS_ID = 2
FIRST_CHARACTER_ID = 3
UNKNOWN_CHARACTER = "unknown character"  # reason of a `SkipError`


def normalize(text: str) -> str:
    """Returns a text in Unicode form NFC, the form of every label."""
    return unicodedata.normalize("NFC", text)


class Tokenizer:
    """Encodes labels and decodes predictions; character n of the alphabet has id n + 3.

    Args:
        alphabet: The characters, each one code point.
    """

    def __init__(self, alphabet: str) -> None:
        self.alphabet = alphabet
        self._ids = {character: n + FIRST_CHARACTER_ID for n, character in enumerate(alphabet)}

    def encode(self, text: str) -> list[int]:
        """Returns the ids of the characters, then EOS.

        Raises:
            SkipError: A character is not in the alphabet.
        """
        unknown = self.unknown(text)
        if unknown:
            raise SkipError(UNKNOWN_CHARACTER, f"{unknown!r} in label {text!r}")
        return [self._ids[character] for character in text] + [EOS_ID]

    def unknown(self, text: str) -> str:
        """Returns the characters of a text that are not in the alphabet, each once."""
        return "".join(sorted(set(text) - self._ids.keys()))

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the characters before the first EOS; PAD and GO have none."""
        return "".join(character for _, character in self.characters(ids))

    def characters(self, ids: Iterable[int]) -> list[tuple[int, str]]:
        """Returns `(step, character)` of every step before EOS that has a character."""
        characters = []
        for step, token_id in enumerate(ids):
            if token_id == EOS_ID:
                break
            if token_id >= FIRST_CHARACTER_ID:
                characters.append((step, self.alphabet[token_id - FIRST_CHARACTER_ID]))
        return characters

    def symbols(self) -> list[str]:
        """Returns the text of every id, in the order of the ids."""
        return ["", "", "", *self.alphabet]
