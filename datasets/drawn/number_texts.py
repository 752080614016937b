"""Texts of digits, and codes: amounts, dates, times, telephone numbers, serials."""

from __future__ import annotations

import string
from random import Random

from datasets.drawn.alphabet import ALPHABET, CURRENCY, RARE

DIGITS = string.digits
_PREFIXES = ("$", "€", "£", "RM", "$ ", "€ ", "£ ", "RM ", "USD ", "EUR ", "CHF ", "Fr. ", "R$ ")
_SUFFIXES = (" €", "€", " EUR", " kr", " zł", " Kč", " Ft", " lei", ",-", " TL", " ₺", "-", " A",
             " SR", "T", " ₽", " CHF", " kn", "¢")
_UNITS = ("g", "kg", "mg", "ml", "l", "L", "cl", "cm", "mm", "m", "km", "km/h", "m²", "cm³", "°C",
          "°F", "°", "V", "W", "kW", "kWh", "A", "Hz", "MHz", "GB", "MB", "TB", "h", "min", "s",
          "µg", "µm", "‰", "€/kg", "x", "X", "PCS", "pcs", "St", "Stk", "Stück", "szt.",
          "ks", "oz", "lb", "lbs", "ft", "in", '"', "'", "G", "KG", "ML", "LTR", "th", "st", "nd")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
           "January", "February", "March", "April", "June", "July", "August", "September",
           "October", "November", "December", "Januar", "März", "Mai", "Juni", "Oktober",
           "janvier", "février", "août", "décembre", "enero", "julio", "maggio", "luglio")
_DATES = ("{d:02}/{m:02}/{y}", "{d:02}-{m:02}-{y}", "{d:02}.{m:02}.{y}", "{y}-{m:02}-{d:02}",
          "{d:02}/{m:02}/{s:02}", "{d:02}-{m:02}-{s:02}", "{d:02}.{m:02}.{s:02}", "{d}/{m}/{y}",
          "{d}.{m}.{y}", "{d}. {m}. {y}", "{m:02}/{d:02}/{y}", "{y}/{m:02}/{d:02}", "{d} {n} {y}",
          "{d:02} {n} {y}", "{d:02}-{n}-{y}", "{n} {d}, {y}", "{d}. {n} {y}", "{n} {y}",
          "{d}/{m}", "{m:02}/{s:02}", "{y}", "{d:02}{m:02}{y}", "'{s:02}", "{d:02}/{n}/{s:02}")
_CODE_SETS = (DIGITS, DIGITS + string.ascii_uppercase, string.ascii_uppercase,
              DIGITS + string.ascii_lowercase, string.ascii_lowercase,
              DIGITS + string.ascii_letters, string.ascii_letters, DIGITS + "ABCDEF")


def digits(rng: Random, fewest: int, most: int) -> str:
    """Returns a string of random digits."""
    return "".join(rng.choices(DIGITS, k=rng.randint(fewest, most)))


def amount(rng: Random) -> str:
    """Returns an amount of money without its unit: `12.40`, `1,204.00`, `-0.05`."""
    units = int(10 ** rng.uniform(0, rng.choice((1.3, 2, 2, 2.5, 3, 4.5))))
    if rng.random() < 0.12:
        units = 0
    separator, point = rng.choice(((",", "."), (",", "."), ("", "."), ("", "."), (".", ","),
                                   ("", ","), (" ", ","), ("'", ".")))
    text = f"{units:,}".replace(",", separator)
    cents = rng.choice(("00", "50", "90", "99", digits(rng, 2, 2), digits(rng, 2, 2)))
    text += point + cents + ("" if rng.random() < 0.97 else digits(rng, 1, 1))
    return rng.choice(("", "", "", "", "", "", "", "-", "- ", "+")) + text


def price(rng: Random) -> str:
    """Returns an amount with its currency."""
    kind = rng.random()
    if kind < 0.15:
        sign = rng.choice(CURRENCY)
        return rng.choice((f"{sign}{amount(rng)}", f"{amount(rng)} {sign}", f"{sign} {amount(rng)}",
                           f"{amount(rng)}{sign}"))
    if kind < 0.6:
        return rng.choice(_PREFIXES) + amount(rng).lstrip("-+ ")
    return amount(rng) + rng.choice(_SUFFIXES)


def integer(rng: Random) -> str:
    """Returns an integer; most are short."""
    return str(int(10 ** rng.uniform(0, rng.choice((1, 1, 2, 3, 4, 6)))) - (rng.random() < 0.1))


def date(rng: Random) -> str:
    """Returns a date in one of the usual forms."""
    year = rng.randint(1950, 2035) if rng.random() < 0.4 else rng.randint(2010, 2026)
    name = rng.choice(_MONTHS)
    return rng.choice(_DATES).format(
        d=rng.randint(1, 31), m=rng.randint(1, 12), y=year, s=year % 100,
        n=name.upper() if rng.random() < 0.3 else name)


def time(rng: Random) -> str:
    """Returns a time of day."""
    hour, minute, second = rng.randint(0, 23), rng.randint(0, 59), rng.randint(0, 59)
    return rng.choice((
        f"{hour:02}:{minute:02}", f"{hour:02}:{minute:02}:{second:02}", f"{hour}:{minute:02}",
        f"{hour % 12 + 1}:{minute:02} {rng.choice(('AM', 'PM', 'am', 'pm'))}",
        f"{hour % 12 + 1:02}:{minute:02}:{second:02} {rng.choice(('AM', 'PM'))}",
        f"{hour}h{minute:02}", f"{hour:02}.{minute:02}", f"{hour:02}.{minute:02} Uhr"))


def date_time(rng: Random) -> str:
    """Returns a date with a time."""
    return f"{date(rng)}{rng.choice((' ', ' ', ', ', ' - '))}{time(rng)}"


def phone(rng: Random) -> str:
    """Returns a telephone number."""
    if rng.random() < 0.15:
        groups = [digits(rng, 2, 2) for _ in range(rng.randint(4, 5))]
    else:
        groups = [digits(rng, 3, 4) for _ in range(rng.randint(2, 3))]
    joined = rng.choice((" ", "-", "-", ".", "", "/")).join(groups)
    start = rng.choice(("", "", "0", "+", f"+{digits(rng, 1, 3)} ", f"({digits(rng, 2, 4)}) ",
                        f"0{digits(rng, 1, 3)}-", f"0{digits(rng, 1, 3)} - ",
                        f"0{digits(rng, 2, 3)}/", f"({digits(rng, 3, 3)})", "1-800-"))
    return start + joined


def measure(rng: Random) -> str:
    """Returns a number with a unit, or a size such as `10 x 20`."""
    value = rng.choice((integer(rng), integer(rng), amount(rng).lstrip("-+ "), digits(rng, 1, 3)))
    if rng.random() < 0.05:
        value = rng.choice(("", "", str(rng.randint(1, 9)))) + rng.choice("½¼¾")
    if rng.random() < 0.12:
        return value + rng.choice(("x", "×", " x ", " × ", "±", " ± ", "/", "÷")) + integer(rng)
    return value + rng.choice(("", "", " ")) + rng.choice(_UNITS)


def percentage(rng: Random) -> str:
    """Returns a rate such as `6%`, `19 %`, `-50%` or `2.5%`."""
    value = str(rng.randint(0, 100))
    if rng.random() < 0.2:
        value = f"{rng.randint(0, 30)}{rng.choice('.,')}{digits(rng, 1, 2)}"
    return rng.choice(("", "", "", "", "-", "+")) + value + rng.choice(("%", "%", "%", " %"))


def long_number(rng: Random) -> str:
    """Returns a number such as those of bar codes and invoices, with or without groups."""
    if rng.random() < 0.6:
        return digits(rng, 5, 16)
    joint = rng.choice((" ", "-", ".", "/"))
    return joint.join(digits(rng, 3, 5) for _ in range(rng.randint(2, 4)))


def serial(rng: Random) -> str:
    """Returns a code of capitals and digits, often in groups."""
    if rng.random() < 0.5:
        letters = "".join(rng.choices(string.ascii_uppercase, k=rng.randint(1, 4)))
        return letters + rng.choice(("", "", "-", " ", "/")) + digits(rng, 2, 7)
    characters = rng.choice(_CODE_SETS[:4])
    joint = rng.choice(("-", "-", " ", "/", ".", ""))
    return joint.join("".join(rng.choices(characters, k=rng.randint(2, 5)))
                      for _ in range(rng.randint(1, 4)))


def captcha(rng: Random) -> str:
    """Returns a random code, as in captchas."""
    return "".join(rng.choices(rng.choice(_CODE_SETS), k=rng.randint(3, 8)))


def symbols(rng: Random) -> str:
    """Returns a string over the whole alphabet, without spaces at its ends."""
    drawn = "".join(rng.choices(ALPHABET if rng.random() < 0.5 else RARE, k=rng.randint(1, 7)))
    return " ".join(drawn.split()) or "-"
