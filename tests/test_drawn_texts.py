"""Labels of the drawn images: alphabet, NFC, lengths."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from random import Random

import pytest

from datasets.drawn import texts
from datasets.drawn.alphabet import ALPHABET
from datasets.drawn.styles import STYLES
from datasets.drawn.words import plain_vocabulary, usable, with_long_s

WORDS = plain_vocabulary(("Straße", "maison", "łódź", "año", "öl", "être", "words", "many"))
MAKERS = sorted({maker for style in STYLES.values() for maker, _ in style.makers},
                key=lambda maker: (maker.__module__, maker.__name__))


def test_alphabet_has_each_character_once_and_in_nfc() -> None:
    assert len(set(ALPHABET)) == len(ALPHABET)
    assert all(unicodedata.is_normalized("NFC", character) for character in ALPHABET)
    assert set(map(chr, range(32, 127))) | set("ßẞſæœøđłþðıİșț€“„…⸗") <= set(ALPHABET)


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_labels_are_clean(maker: texts.TextMaker) -> None:
    labels = [texts.fit(maker(Random(n), WORDS), 32, Random(n)) for n in range(300)]
    made = [label for label in labels if label]
    assert len(made) > 250
    for label in made:
        assert 1 <= len(label) <= 32
        assert usable(label)
        assert unicodedata.is_normalized("NFC", label)
        assert label == " ".join(label.split())


def test_the_same_seed_makes_the_same_text() -> None:
    for maker in MAKERS:
        assert maker(Random(7), WORDS) == maker(Random(7), WORDS)


def test_accented_words_are_those_of_the_vocabulary() -> None:
    plain = plain_vocabulary(["words", "many"]).languages["any"]
    words = replace(WORDS, languages={**WORDS.languages, "plain": plain})
    made = {texts.accented_word(Random(n), words).casefold() for n in range(200)}
    assert made == {"łódź", "año", "öl", "être", "straße".casefold()}


def test_every_character_is_written_often_enough() -> None:
    labels = "".join(texts.rare(Random(n), WORDS) for n in range(20_000))
    assert not [character for character in ALPHABET if labels.count(character) < 20]


@pytest.mark.parametrize(("text", "label"), [
    ("  two   words ", "two words"), ("e\u0301", "é"), ("snow ☃", None), ("a" * 40, "a" * 32)])
def test_fit(text: str, label: str | None) -> None:
    assert texts.fit(text, 32, Random(0)) == label


def test_long_text_is_cut_at_a_space() -> None:
    text = "one two three four five six seven eight nine ten"
    for n in range(20):
        assert f" {texts.fit(text, 16, Random(n))} " in f" {text} "


def test_long_s_is_not_at_the_end_of_a_word() -> None:
    assert with_long_s("das Haus, sie ist groß") == "das Haus, ſie iſt groß"
