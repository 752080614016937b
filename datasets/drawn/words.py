"""The words, names and addresses that texts are made of."""

from __future__ import annotations

import bisect
import functools
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from random import Random

from datasets.drawn.alphabet import ALPHABET

LANGUAGES = {  # of wordfreq, with their shares
    "en": 22, "de": 10, "fr": 8, "es": 7, "it": 6, "pt": 5, "nl": 5, "pl": 5, "cs": 4, "sv": 4,
    "da": 3, "nb": 3, "fi": 4, "hu": 4, "ro": 4, "tr": 4, "sh": 3, "sk": 3, "sl": 3, "lt": 3,
    "lv": 3, "is": 3, "ca": 3, "ms": 2, "id": 1,
}
LOCALES = ("en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "pt_PT", "nl_NL", "pl_PL",
           "cs_CZ", "sv_SE", "da_DK", "no_NO", "fi_FI", "hu_HU", "ro_RO", "tr_TR", "hr_HR",
           "sk_SK", "lt_LT", "lv_LV", "de_AT", "id_ID")
_KINDS = ("name", "last_name", "first_name", "street_address", "city", "company")
SHARP_S = (
    "daß", "muß", "Straße", "groß", "weiß", "heißt", "großen", "Fuß", "außer", "Maß", "Größe",
    "schließlich", "Füße", "müßte", "läßt", "Schloß", "ließ", "Gruß", "Spaß", "süß", "Stoß",
    "fleißig", "bloß", "draußen", "gemäß", "Kuß", "Roß", "Fluß", "Paß", "eßbar", "genießen",
    "grüßen", "Soße", "mäßig", "Preußen", "dreißig", "Weiß", "Groß", "Strauß", "Meißen",
)
_WORDS_A_LANGUAGE = 30_000
_LONGEST = 22
_ACCENTED_SHARE = 0.005  # of a language's words: Dutch has more than twice that, English less
_FLATTENING = 0.6  # exponent of the frequencies, so that rare words come as well
_NAMES_A_KIND = 150  # and locale


@dataclass(frozen=True)
class WordList:
    """The words of a language, drawn by their frequency.

    Attributes:
        words: The words.
        sums: Running sums of their weights.
    """

    words: tuple[str, ...]
    sums: tuple[float, ...]

    def pick(self, rng: Random) -> str:
        """Returns one word."""
        return self.words[bisect.bisect(self.sums, rng.random() * self.sums[-1])]

    @functools.cached_property
    def accented(self) -> WordList:
        """The words of letters only, some of them beyond ASCII."""
        weights = [after - before for before, after in pairwise((0.0, *self.sums))]
        chosen = [(word, weight) for word, weight in zip(self.words, weights, strict=True)
                  if word.isalpha() and not word.isascii()]
        return WordList(tuple(word for word, _ in chosen),
                        tuple(accumulate(weight for _, weight in chosen)))


@dataclass(frozen=True)
class Vocabulary:
    """All material for texts.

    Attributes:
        languages: Word lists.
        shares: Running sums of how often each language is drawn.
        names: Made-up names, addresses, companies and so on, by kind.
    """

    languages: dict[str, WordList]
    shares: tuple[float, ...]
    names: dict[str, tuple[str, ...]]

    @functools.cached_property
    def accented(self) -> tuple[WordList, ...]:
        """The accented words of each language in which they are usual."""
        return tuple(language.accented for language in self.languages.values()
                     if len(language.accented.words) > _ACCENTED_SHARE * len(language.words))

    def language(self, rng: Random) -> WordList:
        """Returns the word list of a random language."""
        position = bisect.bisect(self.shares, rng.random() * self.shares[-1])
        return self.languages[tuple(self.languages)[position]]

    def word(self, rng: Random) -> str:
        """Returns a word of any language."""
        return self.language(rng).pick(rng)

    def name(self, rng: Random, kind: str) -> str:
        """Returns a made-up name: one of `_KINDS`."""
        return rng.choice(self.names[kind])


def usable(text: str) -> bool:
    """Returns whether a text consists of the alphabet's characters."""
    return bool(text) and all(character in ALPHABET for character in text)


def clean(text: str) -> str:
    """Returns a text on one line in NFC."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def load_vocabulary(seed: int) -> Vocabulary:
    """Loads word lists from `wordfreq` and makes up names with `faker`.

    Args:
        seed: Seed of the names.

    Returns:
        The vocabulary.
    """
    import wordfreq
    from faker import Faker

    languages = {}
    for language in LANGUAGES:
        frequencies = wordfreq.get_frequency_dict(language, wordlist="small")
        languages[language] = _word_list(frequencies)
    names: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for locale in LOCALES:
        fake = Faker(locale)
        fake.seed_instance(f"{seed} {locale}")
        for kind, made in names.items():
            texts = (clean(getattr(fake, kind)()) for _ in range(_NAMES_A_KIND))
            made += filter(usable, texts)
    made_up = {kind: tuple(made) for kind, made in names.items()}
    return Vocabulary(languages, tuple(accumulate(LANGUAGES.values())), made_up)


def plain_vocabulary(words: Iterable[str]) -> Vocabulary:
    """Returns a small vocabulary of equally frequent words, which needs no package."""
    chosen = tuple(words)
    words_only = WordList(chosen, tuple(accumulate([1.0] * len(chosen))))
    return Vocabulary({"any": words_only}, (1.0,), dict.fromkeys(_KINDS, chosen))


def _word_list(frequencies: dict[str, float]) -> WordList:
    pairs = ((clean(word), frequency) for word, frequency in frequencies.items())
    usual = [pair for pair in pairs if len(pair[0]) <= _LONGEST and usable(pair[0])]
    usual = sorted(usual, key=lambda pair: (-pair[1], pair[0]))[:_WORDS_A_LANGUAGE]
    weights = accumulate(frequency ** _FLATTENING for _, frequency in usual)
    return WordList(tuple(word for word, _ in usual), tuple(weights))


def with_long_s(text: str) -> str:
    """Returns the blackletter spelling of a German text: long s except at the end of a word."""
    letters = list(text)
    for position, letter in enumerate(letters[:-1]):
        if letter == "s" and letters[position + 1].isalpha():
            letters[position] = "ſ"
    return "".join(letters)
