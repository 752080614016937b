"""Texts with invisible characters made visible."""

from __future__ import annotations

import unicodedata

_SPACE = "␣"
_NOTHING = "∅"
_DOTTED_CIRCLE = "◌"  # Unicode's base for a combining character without one
_INVISIBLE = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs")


def code_point(character: str) -> str:
    """Returns the code point of a character that cannot be seen, as `U+200B`; otherwise ""."""
    invisible = unicodedata.category(character) in _INVISIBLE and character != " "
    return f"U+{ord(character):04X}" if invisible else ""


def visible(text: str) -> str:
    """Returns a few characters so that spaces, code points and combining marks can be seen."""
    shown = "".join(code_point(character) or character for character in text)
    mark = bool(shown) and unicodedata.category(shown[0]).startswith("M")
    return (_DOTTED_CIRCLE * mark + shown.replace(" ", _SPACE)) or _NOTHING
