"""Text to ids and back."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aocr.config import DIGITS_AND_CAPITALS
from aocr.data.stats import alphabet_of
from aocr.errors import SkipError
from aocr.tokenizer import EOS_ID, FIRST_CHARACTER_ID, GO_ID, PAD_ID, Tokenizer, normalize

TOKENIZER = Tokenizer(DIGITS_AND_CAPITALS)


def test_ids_are_those_of_the_original() -> None:
    assert (PAD_ID, GO_ID, EOS_ID, FIRST_CHARACTER_ID) == (0, 1, 2, 3)
    assert TOKENIZER.encode("09AZ") == [3, 12, 13, 38, EOS_ID]


def test_an_empty_label_is_eos_only() -> None:
    assert TOKENIZER.encode("") == [EOS_ID]


@given(st.text(DIGITS_AND_CAPITALS))
def test_decode_inverts_encode(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(st.lists(st.integers(0, 38)))
def test_decode_stops_at_the_first_eos_and_ignores_pad_and_go(ids: list[int]) -> None:
    before = ids[:ids.index(EOS_ID)] if EOS_ID in ids else ids
    printed = [(n, DIGITS_AND_CAPITALS[i - 3]) for n, i in enumerate(before) if i > 2]
    assert TOKENIZER.characters(ids) == printed
    assert TOKENIZER.decode(ids) == "".join(character for _, character in printed)


@pytest.mark.parametrize(("label", "unknown"), [("Ab", "b"), ("a-ba", "-ab"), ("É1", "É")])
def test_each_unknown_character_is_named_once(label: str, unknown: str) -> None:
    with pytest.raises(SkipError) as caught:
        TOKENIZER.encode(label)
    assert caught.value.reason == "unknown character"
    assert repr(unknown) in caught.value.detail
    assert repr(label) in caught.value.detail


def test_symbols_are_in_the_order_of_ids() -> None:
    symbols = Tokenizer("ab ").symbols()
    assert symbols == ["", "", "", "a", "b", " "]
    assert all(symbols[Tokenizer("ab ").encode(c)[0]] == c for c in "ab ")


def test_alphabet_of_labels_is_sorted_without_repeats() -> None:
    assert alphabet_of(["ba", "", "é a"]) == " abé"
    assert alphabet_of([]) == ""


@given(st.text())
def test_normalize_is_nfc(text: str) -> None:
    assert unicodedata.is_normalized("NFC", normalize(text))


def test_characters_beyond_the_first_plane_are_one_character_each() -> None:
    emoji = Tokenizer("a😀")
    assert emoji.encode("😀a") == [4, 3, EOS_ID]
    assert emoji.decode([4, 3, EOS_ID]) == "😀a"
