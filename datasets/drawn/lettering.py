"""Draws text as a mask: letter spacing, sizes of letters, neighboring lines, rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from datasets.drawn.fonts import CAP_HEIGHT, Face, load

ABOVE, BELOW = 3 * CAP_HEIGHT, 2 * CAP_HEIGHT  # pixels above and below the baseline
_BESIDE = 2 * CAP_HEIGHT
_NEXT_WORD = 0.25  # probability, where there are neighbors at all
_WIDE_LETTERS = "ABDEGHKMNORSUZ"  # of which the image never shows all
_LOWEST_INK = 0.45  # of the height of capitals: the box of `-` is not only the stroke


class Box(NamedTuple):
    """A rectangle in pixels, right and bottom exclusive."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def height(self) -> float:
        """From top to bottom."""
        return self.bottom - self.top

    @property
    def width(self) -> float:
        """From left to right."""
        return self.right - self.left


@dataclass(frozen=True)
class Spacing:
    """Spacing and irregularity of letters.

    Attributes:
        letters: Space added after each letter, in heights of a capital.
        words: Factor of the width of a space.
        rise: Most pixels by which single letters leave the baseline.
        sizes: Least and greatest factor of the letters' size.
        capital: Factor of the size of the first letter of each word.
        turn: Most degrees by which single letters are turned.
    """

    letters: float = 0.0
    words: float = 1.0
    rise: float = 0.0
    sizes: tuple[float, float] = (1.0, 1.0)
    capital: float = 1.0
    turn: float = 0.0


@dataclass(frozen=True)
class Lettering:
    """Drawn text.

    Attributes:
        mask: `[height, width]` uint8, 255 where there is ink.
        box: The ink of the text; at least some height around the middle of a capital.
        spans: Left and right end of each letter.
    """

    mask: np.ndarray
    box: Box
    spans: tuple[tuple[float, float], ...]


def draw(text: str, face: Face, spacing: Spacing, rng: Random) -> Lettering:
    """Draws a text.

    Args:
        text: At least one character that is not blank; all of them known to the face.
        face: The font.
        spacing: How the letters are set.
        rng: Source of what is random in the spacing.

    Returns:
        The mask with a margin around the text.
    """
    text = face.spelled(text)
    if spacing == Spacing():
        font = load(face.path, face.size)
        width = math.ceil(font.getlength(text)) + 2 * _BESIDE
        image = Image.new("L", (width, ABOVE + BELOW))
        ImageDraw.Draw(image).text((_BESIDE, ABOVE), text, 255, font, "ls")
        spans: tuple[tuple[float, float], ...] = ((_BESIDE, width - _BESIDE),)
    else:
        image, spans = _draw_letters(text, face, spacing, rng)
    return Lettering(np.asarray(image), _ink_box(image), spans)


def _draw_letters(text: str, face: Face, spacing: Spacing, rng: Random
                  ) -> tuple[Image.Image, tuple[tuple[float, float], ...]]:
    places, spans, x = [], [], float(_BESIDE)
    before = " "
    for letter in text:
        factor = rng.uniform(*spacing.sizes) * (spacing.capital if before == " " else 1)
        font = load(face.path, max(8, round(face.size * factor)))
        advance = font.getlength(letter) * (spacing.words if letter == " " else 1)
        places.append((x, letter, font))
        spans.append((x, x + advance))
        x += max(2.0, advance + spacing.letters * CAP_HEIGHT)
        before = letter
    image = Image.new("L", (math.ceil(x) + _BESIDE, ABOVE + BELOW))
    canvas = ImageDraw.Draw(image)
    for x, letter, font in places:
        position = (x, ABOVE + rng.uniform(-spacing.rise, spacing.rise))
        if spacing.turn:
            _draw_turned(image, position, letter, font, rng.uniform(-spacing.turn, spacing.turn))
        else:
            canvas.text(position, letter, 255, font, "ls")
    return image, tuple(spans)


def _draw_turned(image: Image.Image, position: tuple[float, float], letter: str,
                 font: ImageFont.FreeTypeFont, angle: float) -> None:
    side = 3 * CAP_HEIGHT
    single = Image.new("L", (side, side))
    ImageDraw.Draw(single).text((side / 3, side * 2 / 3), letter, 255, font, "ls")
    turned = single.rotate(angle, Image.Resampling.BILINEAR)
    image.paste(255, (round(position[0] - side / 3), round(position[1] - side * 2 / 3)), turned)


def _ink_box(image: Image.Image) -> Box:
    left, top, right, bottom = image.getbbox() or (0, ABOVE - CAP_HEIGHT, image.width, ABOVE)
    if bottom - top < _LOWEST_INK * CAP_HEIGHT:
        top = min(top, round(ABOVE - 0.8 * CAP_HEIGHT))
        bottom = max(bottom, ABOVE)
    return Box(left, top, right, bottom)


def with_neighbors(drawn: Lettering, texts: Sequence[str], face: Face, pitch: float,
                    rng: Random) -> Lettering:
    """Adds lines above and below, and sometimes the beginning of the next word.

    Args:
        drawn: The line.
        texts: The line above and the one below; none where empty.
        face: The font.
        pitch: From one baseline to the next, in heights of a capital.
        rng: Source of where the lines begin.

    Returns:
        The lettering with more in its mask and the same box, cut where lines would overlap.
    """
    image = Image.fromarray(drawn.mask.copy())
    canvas, font = ImageDraw.Draw(image), load(face.path, face.size)
    top = max(pitch * CAP_HEIGHT, drawn.box.bottom - ABOVE + CAP_HEIGHT * 1.08)
    up = max(pitch * CAP_HEIGHT, ABOVE - drawn.box.top + CAP_HEIGHT * 0.33)
    for text, baseline in zip(texts, (ABOVE - up, ABOVE + top), strict=True):
        if text:
            left = drawn.box.left - rng.uniform(0, 0.5) * CAP_HEIGHT * len(text) / 2
            canvas.text((left, baseline), text, 255, font, "ls")
    letter = rng.choice(_WIDE_LETTERS)
    if rng.random() < _NEXT_WORD and letter in face.characters:
        gap = rng.uniform(0.2, 0.35) * CAP_HEIGHT
        canvas.text((drawn.box.right + gap, ABOVE), letter, 255, font, "ls")
    return replace(drawn, mask=np.asarray(image))


def with_rules(drawn: Lettering, rng: Random) -> Lettering:
    """Adds an underline, a line above, or the lines of a table around the text."""
    mask, box = drawn.mask.copy(), drawn.box
    thick, level = rng.choice((1, 1, 2, 2, 3)), rng.choice((255, 255, 200, 150))
    gap = rng.randint(2, CAP_HEIGHT // 3)
    kind = rng.random()
    if kind < 0.45:
        row = max(ABOVE + 3, round(box.bottom if rng.random() < 0.5 else ABOVE)) + gap // 2
        _rule(mask[row:row + thick], level, rng)
    elif kind < 0.6:
        _rule(mask[max(0, round(box.top) - gap - thick):round(box.top) - gap], level, rng)
    elif kind < 0.8:
        _rule(mask[max(0, round(box.top) - gap - thick):round(box.top) - gap], level, rng)
        _rule(mask[round(box.bottom) + gap:round(box.bottom) + gap + thick], level, rng)
    if kind > 0.65:
        side = round(box.left) - gap - 4 if rng.random() < 0.5 else round(box.right) + gap + 2
        mask[:, side:side + thick] = level
    return replace(drawn, mask=mask)


def with_box(drawn: Lettering, rng: Random) -> Lettering:
    """Adds a frame around the text, with square or round corners, which the image may show or cut.

    The frame belongs to the line's box in two of three cases. Otherwise the margins decide how much
    of it is in the image.
    """
    image, box = Image.fromarray(drawn.mask.copy()), drawn.box
    beside, above, below = (rng.uniform(*limits) * CAP_HEIGHT
                            for limits in ((0.18, 0.6), (0.18, 0.4), (0.18, 0.4)))
    frame = Box(max(0, box.left - beside), max(0, box.top - above),
                min(image.width - 1, box.right + beside), min(image.height - 1, box.bottom + below))
    radius = 0 if rng.random() < 0.5 else rng.uniform(0.1, 0.5) * CAP_HEIGHT
    ImageDraw.Draw(image).rounded_rectangle(
        frame, radius, outline=rng.choice((255, 255, 200, 150)), width=rng.choice((1, 2, 2, 3, 4)))
    return replace(drawn, mask=np.asarray(image), box=frame if rng.random() < 0.67 else box)


def _rule(rows: np.ndarray, level: int, rng: Random) -> None:
    """Draws a horizontal line, whole or of dashes or dots."""
    kind = rng.random()
    if kind < 0.75:
        rows[:] = np.maximum(rows, level)
    else:
        period = rng.randint(4, 14)
        dashes = np.arange(rows.shape[1]) % period < max(2, period * 2 // 3)
        rows[:, dashes] = np.maximum(rows[:, dashes], level)
