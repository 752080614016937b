"""Draws an image of a word with Pillow's own font, with random variations."""

from __future__ import annotations

import math
from functools import cache
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

HEIGHTS = (24, 48)  # of the images, in pixels
FONT_SIZE = 48  # letters are drawn at this size and then scaled down
PAD = 16  # beside the letters while they are drawn and slanted, in pixels
Color = tuple[int, ...]


class DrawError(Exception):
    """The arguments cannot be satisfied."""


@cache
def load_font() -> ImageFont.FreeTypeFont:
    """Loads the scalable font of Pillow.

    Returns:
        The font, at the size at which letters are drawn.

    Raises:
        DrawError: This Pillow is too old, or was built without FreeType.
    """
    try:
        font = ImageFont.load_default(FONT_SIZE)
    except (TypeError, ImportError):
        font = None
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise DrawError("Pillow 10.1 or newer with FreeType support is needed to draw letters")
    return font


@cache
def has_glyph(character: str) -> bool:
    """Returns whether the font has a character; it draws a box for all others."""
    font = load_font()
    return bytes(font.getmask(character)) != bytes(font.getmask("\uffff"))


def draw_word(text: str, rng: Random, color: bool = False) -> Image.Image:
    """Draws a word with random variations.

    Size, slant, rotation, letter spacing, margins, brightness, blur and noise vary.

    Args:
        text: The word, of at least one character; the font must have all of them.
        rng: Source of the variations: the same state gives the same image.
        color: Draw in color instead of gray.

    Returns:
        The image, in mode ``RGB`` with `color`, otherwise ``L``.
    """
    ink = _letters(text, rng)
    ink = _slanted(ink, rng)
    ink = _rotated(ink, rng, len(text))
    ink = _fitted(ink, rng)
    image = _painted(ink, rng, color)
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
    return _noisy(image, rng)


def _letters(text: str, rng: Random) -> Image.Image:
    """Draws upright letters, white on black, at least as high as a capital letter."""
    font = load_font()
    spacing = FONT_SIZE * rng.uniform(0.0, 0.1)
    boxes = [font.getbbox(sample, anchor="ls") for sample in (text, "H")]
    top = math.floor(min(box[1] for box in boxes))
    bottom = math.ceil(max(0, *(box[3] for box in boxes)))
    width = sum(font.getlength(character) + spacing for character in text)
    ink = Image.new("L", (math.ceil(width) + 2 * PAD, bottom - top), 0)
    draw = ImageDraw.Draw(ink)
    left = float(PAD)
    for character in text:
        draw.text((left, -top), character, fill=255, font=font, anchor="ls")
        left += font.getlength(character) + spacing
    return ink


def _slanted(ink: Image.Image, rng: Random) -> Image.Image:
    """Slants the letters a little, to the right more often than to the left."""
    shear = rng.uniform(-0.1, 0.25)
    matrix = (1.0, shear, -shear * ink.height / 2, 0.0, 1.0, 0.0)
    return ink.transform(
        ink.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BICUBIC
    )


def _rotated(ink: Image.Image, rng: Random, length: int) -> Image.Image:
    """Crops the blank sides and rotates the word by at most 3 degrees, long ones by less."""
    left, _, right, _ = ink.getbbox() or (0, 0, *ink.size)
    ink = ink.crop((left, 0, right, ink.height))
    limit = min(3.0, 24 / length)
    return ink.rotate(rng.uniform(-limit, limit), resample=Image.Resampling.BICUBIC, expand=True)


def _fitted(ink: Image.Image, rng: Random) -> Image.Image:
    """Scales the word to the size of the image, with margins."""
    height = rng.randint(*HEIGHTS)
    above, below = (rng.randint(1, height // 8) for _ in range(2))
    before, after = (rng.randint(1, height // 4) for _ in range(2))
    inner = height - above - below
    width = max(1, round(ink.width * inner / ink.height * rng.uniform(0.94, 1.06)))
    fitted = Image.new("L", (before + width + after, height), 0)
    fitted.paste(ink.resize((width, inner), Image.Resampling.BICUBIC), (before, above))
    return fitted


def _painted(ink: Image.Image, rng: Random, color: bool) -> Image.Image:
    """Paints dark letters on a light background, or in one of four cases the reverse."""
    channels = 3 if color else 1
    dark: Color = tuple(rng.randint(0, 90) for _ in range(channels))
    light: Color = tuple(rng.randint(170, 255) for _ in range(channels))
    letters, background = (light, dark) if rng.random() < 0.25 else (dark, light)
    mode = "RGB" if color else "L"
    image = Image.new(mode, ink.size, background)
    image.paste(Image.new(mode, ink.size, letters), mask=ink)
    return image


def _noisy(image: Image.Image, rng: Random) -> Image.Image:
    """Adds uniform noise of up to 10 levels to every pixel."""
    strength = rng.randint(0, 10)
    channels = len(image.getbands())
    grain = rng.randbytes(channels * image.width * image.height)
    levels = [level * (2 * strength + 1) // 256 for level in range(256)]
    noise = Image.frombytes(image.mode, image.size, grain).point(levels * channels)
    return ImageChops.add(image, noise, offset=-strength)
