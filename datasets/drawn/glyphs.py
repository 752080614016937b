"""Determines the characters that a font file draws.

A character counts when the font maps it to a glyph that is not `.notdef`, not blank and not the
bare base letter, and, for lower-case letters, when it does not look like the capital. A font whose
hyphen is double has `⸗` in its place.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from fontTools.ttLib import TTFont
from PIL import ImageFont

_SIZE = 48  # pixels at which glyphs are compared
_BOX = 24  # side of the square in which shapes are compared
_DIFFERENT_CAPITALS = "abdeghnqrt"  # never like their capitals, unless there are only capitals
_ALIKE = 0.12  # mean difference of two shapes, 0…1, below which they are the same
_MOST_ALIKE = 3
_STROKED = {"ø": "o", "Ø": "O", "đ": "d", "Đ": "D", "ł": "l", "Ł": "L", "ħ": "h", "Ħ": "H",
            "ŧ": "t", "Ŧ": "T", "ı": "i", "ſ": "s", "ð": "d", "þ": "p", "ŋ": "n", "Ŋ": "N",
            "æ": "a", "Æ": "A", "œ": "o", "Œ": "O", "ß": "B", "ẞ": "S", "ə": "e", "Ə": "E"}

_APOSTROPHES = "ďľťĽ"  # whose accent does stand beside the letter
_PAIRS = {"ẞ": "SS", "ß": "ss"}  # how some fonts draw these letters


class Glyph(NamedTuple):
    """A drawn character: its pixels and the position of the upper left one."""

    pixels: np.ndarray
    offset: tuple[int, int]

    def same(self, other: Glyph) -> bool:
        """Returns whether both have the same pixels at the same position."""
        return self.offset == other.offset and np.array_equal(self.pixels, other.pixels)


def drawable(path: Path, wanted: Iterable[str]) -> str:
    """Returns the characters that a font draws.

    Args:
        path: Font file.
        wanted: The characters of interest.

    Returns:
        Those of `wanted` that the font has, in their order.
    """
    with TTFont(path, lazy=True, fontNumber=0) as file:
        mapped = {chr(code) for code, name in (file.getBestCmap() or {}).items()
                  if name != ".notdef"}
    font = ImageFont.truetype(str(path), _SIZE, layout_engine=ImageFont.Layout.BASIC)
    missing = _glyph(font, "\uffff")
    drawable = "".join(character for character in wanted
                       if character in mapped and _is_real(font, character, missing))
    if _hyphen_is_double(font):
        drawable = drawable.replace("⸗", "").replace("-", "⸗")
    if _has_only_capitals(font, drawable):
        drawable = "".join(character for character in drawable if not character.islower())
    return drawable


def _glyph(font: ImageFont.FreeTypeFont, character: str) -> Glyph:
    mask, offset = font.getmask2(character, mode="L")
    width, height = mask.size
    pixels = np.frombuffer(bytes(mask), np.uint8) if width * height else np.zeros(0, np.uint8)
    return Glyph(pixels.reshape(height, width), offset)


def _is_real(font: ImageFont.FreeTypeFont, character: str, missing: Glyph) -> bool:
    if character == " ":
        return font.getlength(" ") > 0
    glyph = _glyph(font, character)
    if not glyph.pixels.any() or glyph.same(missing):
        return False
    if character in _PAIRS and _difference(glyph, _glyph(font, _PAIRS[character])) < _ALIKE:
        return False
    if _accent_is_beside(font, character, glyph):
        return False
    base = _STROKED.get(character, unicodedata.normalize("NFD", character)[0])
    return base == character or not any(
        glyph.same(_glyph(font, other)) for other in {base, base.upper(), base.lower()})


def _accent_is_beside(font: ImageFont.FreeTypeFont, character: str, glyph: Glyph) -> bool:
    """Returns whether an accent stands after its letter, as some fonts have it by mistake."""
    parts = unicodedata.normalize("NFD", character)
    if len(parts) == 1 or character in _APOSTROPHES:
        return False
    letter = _glyph(font, parts[0]).pixels.shape[1]
    return glyph.pixels.shape[1] > max(letter, _SIZE // 3) + _SIZE // 5


def _hyphen_is_double(font: ImageFont.FreeTypeFont) -> bool:
    """Returns whether the hyphen has two strokes, as in blackletter, where it stands for `⸗`."""
    pixels = _glyph(font, "-").pixels
    if not pixels.size:
        return False
    with_ground = cv2.connectedComponents((pixels > 96).astype(np.uint8))[0]
    return with_ground == 3


def _has_only_capitals(font: ImageFont.FreeTypeFont, found: str) -> bool:
    pairs = [letter for letter in _DIFFERENT_CAPITALS
             if letter in found and letter.upper() in found]
    alike = sum(_difference(_glyph(font, letter), _glyph(font, letter.upper())) < _ALIKE
                for letter in pairs)
    return alike >= _MOST_ALIKE


def _difference(one: Glyph, other: Glyph) -> float:
    """Returns the mean difference of two shapes that are scaled to the same box, 0…1."""
    first, second = (_boxed(glyph.pixels) for glyph in (one, other))
    return float(np.abs(first - second).mean())


def _boxed(pixels: np.ndarray) -> np.ndarray:
    """Returns the inked part, `[_BOX, _BOX]` float32 in 0…1."""
    rows, columns = np.nonzero(pixels > 64)
    if not len(rows):
        return np.zeros((_BOX, _BOX), np.float32)
    inked = pixels[rows.min():rows.max() + 1, columns.min():columns.max() + 1]
    return cv2.resize(inked.astype(np.float32) / 255, (_BOX, _BOX), interpolation=cv2.INTER_AREA)
