"""Texts of the images, which are their labels."""

from __future__ import annotations

import string
from collections.abc import Callable
from random import Random

from datasets.drawn import number_texts as numbers
from datasets.drawn import receipt_texts as receipts
from datasets.drawn.alphabet import CURRENCY, LOWER, SIGNS, UPPER
from datasets.drawn.words import SHARP_S, Vocabulary, clean, usable, with_long_s

TextMaker = Callable[[Random, Vocabulary], str]
_ENDINGS = (".", ",", ".", ",", ":", ";", "!", "?", "…", "...", "!!!", "?!", "-", ")", "'", "’",
            '"', "”", "“", "»", "*", "®", "™", "°")
_QUOTES = ("“”", "„“", "‚‘", "‘’", "«»", "»«", "‹›", '""', "''", "()", "[]", "„”", "{}", "<>", "**",
           "››", "¡!", "¿?", "––", "||", "//")
_JOINTS = ("-", "-", "-", "–", "/", "&", "+", "_", "'", "’", ".", "·", "@", "=", "|", "\\", "~",
           "^", "`", "#", "*", ":", ";", "•")
_DOMAINS = ("com", "org", "net", "de", "fr", "it", "es", "nl", "pl", "co.uk", "eu", "se", "info",
            "com.my", "ch", "at", "cz", "dk", "fi", "hu", "pt", "ro", "gov", "edu", "io")
_SIGN_TEXTS = ("©", "©", "®", "™", "§", "¶", "†", "‡", "№", "•", "°", "·", "—", "–", "…", "¹", "²",
               "³", "ª", "º", "¬", "‰", "⸗", "½", "¼", "¾")
_ACCENTED = LOWER + UPPER


def word(rng: Random, words: Vocabulary) -> str:
    """Returns one word in any case, sometimes with punctuation at its end."""
    text = case(rng, words.word(rng))
    kind = rng.random()
    if kind < 0.12:
        return text + rng.choice(_ENDINGS)
    if kind < 0.17:
        quotes = rng.choice(_QUOTES)
        return quotes[0] + text + quotes[1]
    if kind < 0.2:
        return text + rng.choice(_JOINTS) + case(rng, words.word(rng))
    return text


def case(rng: Random, text: str) -> str:
    """Converts to lower, title or upper case, rarely to mixed case."""
    kind = rng.random()
    if kind < 0.36:
        return text.upper()
    if kind < 0.64:
        return text[:1].upper() + text[1:]
    if kind < 0.97:
        return text
    return "".join(letter.upper() if rng.random() < 0.4 else letter for letter in text)


def name(rng: Random, words: Vocabulary) -> str:
    """Returns the name of a person, a town or a company."""
    kind = rng.choice(("name", "last_name", "first_name", "city", "company", "last_name"))
    text = words.name(rng, kind)
    return text.upper() if rng.random() < 0.35 else text


def phrase(rng: Random, words: Vocabulary) -> str:
    """Returns several words of one language in one case."""
    language = words.language(rng)
    text = " ".join(language.pick(rng) for _ in range(rng.randint(2, 5)))
    kind = rng.random()
    if kind < 0.35:
        text = text.upper()
    elif kind < 0.6:
        text = " ".join(part[:1].upper() + part[1:] for part in text.split())
    elif kind < 0.8:
        text = text[:1].upper() + text[1:]
    return text + rng.choice(("", "", "", rng.choice(_ENDINGS)))


def prose(rng: Random, words: Vocabulary) -> str:
    """Returns a line of a book or letter, with commas, full stops, quotes, a hyphen at the end."""
    language = words.language(rng)
    parts, capital = [], rng.random() < 0.3
    for _ in range(rng.randint(3, 9)):
        part = rng.choice(SHARP_S) if rng.random() < 0.012 else language.pick(rng)
        part = part[:1].upper() + part[1:] if capital or rng.random() < 0.12 else part
        capital = False
        kind = rng.random()
        if kind < 0.1:
            part += rng.choice((",", ",", ";", ":"))
        elif kind < 0.15:
            part, capital = part + rng.choice(".!?"), True
        elif kind < 0.17:
            quotes = rng.choice(_QUOTES[:12])
            part = quotes[0] + part + quotes[1]
        elif kind < 0.185:
            part += rng.choice((" –", " —", " -", " …", " &", " =", "’s", "'s"))
        elif kind < 0.2:
            part = numbers.integer(rng)
        parts.append(part)
    text = " ".join(parts)
    return text + "-" if rng.random() < 0.08 else text


def blackletter(rng: Random, words: Vocabulary) -> str:
    """Returns German prose, mostly with long s, sometimes with a double hyphen at its end."""
    language = words.languages.get("de", words.language(rng))
    german = Vocabulary({"de": language}, (1.0,), words.names)
    text = rng.choice((prose, prose, prose, word))(rng, german)
    if rng.random() < 0.25:
        text = f"{text} {rng.choice(SHARP_S)}"
    if text.endswith("-") or rng.random() < 0.06:
        text = text.rstrip("-.,") + "⸗"
    return with_long_s(text) if rng.random() < 0.85 else text


def web(rng: Random, words: Vocabulary) -> str:
    """Returns an e-mail or web address, a file name, an account name."""
    plain = [_plain(words.word(rng)) for _ in range(3)]
    domain = plain[0] + rng.choice(("", "", "-" + plain[1], plain[1])) + "." + rng.choice(_DOMAINS)
    text = rng.choice((
        f"www.{domain}", f"www.{domain}", f"http://{domain}", f"https://www.{domain}/{plain[2]}",
        domain, f"{plain[2]}@{domain}", f"{plain[2]}.{plain[1]}@{domain}", f"info@{domain}",
        f"@{plain[0]}_{plain[1]}", f"#{plain[0]}",
        f"{domain}/{plain[2]}?id={numbers.digits(rng, 1, 4)}",
        f"{plain[0]}_{plain[1]}.{rng.choice(('pdf', 'txt', 'html', 'jpg'))}"))
    kind = rng.random()
    return text.upper() if kind < 0.12 else text.title() if kind < 0.17 else text


def _plain(text: str) -> str:
    return "".join(letter for letter in text if letter in string.ascii_lowercase) or "mail"


def rare(rng: Random, words: Vocabulary) -> str:
    """Returns a text with characters that are rare elsewhere."""
    kind = rng.random()
    if kind < 0.28:
        return with_random_accents(rng, words)
    if kind < 0.42:
        return "".join(rng.choice(string.ascii_letters + LOWER + UPPER)
                       for _ in range(rng.randint(2, 8)))
    if kind < 0.55:
        sign = rng.choice(_SIGN_TEXTS + tuple(SIGNS))
        near = rng.choice((words.word, numbers.integer, words.word))
        return rng.choice((f"{sign}{near(rng)}", f"{near(rng)}{sign}", f"{sign} {near(rng)}",
                           f"{near(rng)} {sign} {near(rng)}", f"{near(rng)}{sign}{near(rng)}"))
    if kind < 0.67:
        sign = rng.choice(CURRENCY)
        return rng.choice((f"{sign}{numbers.amount(rng)}", f"{numbers.amount(rng)}{sign}",
                           f"{numbers.amount(rng)} {sign}"))
    if kind < 0.82:
        return numbers.symbols(rng)
    return "".join(rng.choices(string.punctuation * 2 + string.digits + string.ascii_letters,
                               k=rng.randint(1, 10)))


def with_random_accents(rng: Random, words: Vocabulary) -> str:
    """Returns a word in which some letters are replaced by letters beyond ASCII."""
    letters = list(words.word(rng))
    upper = rng.random() < 0.4
    pool = UPPER if upper else LOWER
    for _ in range(rng.randint(1, 4)):
        letters[rng.randrange(len(letters))] = rng.choice(pool)
    text = "".join(letters)
    if upper:
        return text.upper()
    return rng.choice(_ACCENTED) + text if rng.random() < 0.3 else text


def accented_word(rng: Random, words: Vocabulary) -> str:
    """Returns a word with a letter beyond ASCII as its language spells it, in any case.

    All languages in which such words are usual are equally frequent. Where there are none, the word
    gets random letters.
    """
    if not words.accented:
        return with_random_accents(rng, words)
    return case(rng, rng.choice(words.accented).pick(rng))


def code(rng: Random, words: Vocabulary) -> str:
    """Returns a random code, as in captchas."""
    del words
    return numbers.captcha(rng)


def clock(rng: Random, words: Vocabulary) -> str:
    """Returns a text such as segment displays show."""
    del words
    maker = rng.choice((numbers.time, numbers.amount, numbers.integer, numbers.date,
                        numbers.serial, numbers.measure))
    return maker(rng).upper()


def scene_number(rng: Random, words: Vocabulary) -> str:
    """Returns a number on a sign: a house number, price, telephone number, year or number plate."""
    del words
    makers = (numbers.integer, numbers.integer, numbers.price, numbers.phone, numbers.measure,
              numbers.date, numbers.serial, numbers.time, numbers.serial, numbers.percentage)
    return rng.choice(makers)(rng)


def fit(text: str, longest: int, rng: Random) -> str | None:
    """Returns a label from a text: in NFC, one space at a time, cut at a space if it is too long.

    Args:
        text: The text.
        longest: Most characters.
        rng: Where to cut.

    Returns:
        The label, or `None` when the text has a character outside the alphabet.
    """
    label = clean(text)
    if len(label) > longest:
        parts = label.split(" ")
        start = rng.randrange(len(parts))
        label = " ".join(parts[start:])[:longest + 1]
        label = (label.rpartition(" ")[0] or label) if len(label) > longest else label
        label = label[:longest].strip()
    return label if usable(label) else None


RECEIPT_NUMBERS: tuple[tuple[TextMaker, float], ...] = ((receipts.number, 1),)
RECEIPT_LINES: tuple[tuple[TextMaker, float], ...] = (
    (receipts.heading, 5), (receipts.labeled, 6), (receipts.item, 6), (receipts.address, 6),
    (receipts.calculation, 2), (phrase, 2), (web, 0.5), (name, 1), (rare, 0.9))
SCENE_WORDS: tuple[tuple[TextMaker, float], ...] = (
    (word, 10), (name, 3), (scene_number, 4), (web, 0.7), (code, 0.6), (rare, 2.5))
SCENE_LINES: tuple[tuple[TextMaker, float], ...] = (
    (phrase, 6), (name, 2), (web, 1), (scene_number, 1), (receipts.address, 1), (rare, 1))
DOCUMENTS: tuple[tuple[TextMaker, float], ...] = (
    (prose, 7), (phrase, 2), (word, 4), (accented_word, 8), (name, 1), (receipts.address, 1),
    (web, 1), (scene_number, 1), (rare, 5), (code, 0.5))
CAPTCHAS: tuple[tuple[TextMaker, float], ...] = ((code, 8), (word, 1))
BLACKLETTER: tuple[tuple[TextMaker, float], ...] = ((blackletter, 1),)
DISPLAYS: tuple[tuple[TextMaker, float], ...] = ((clock, 1),)
