"""The kinds of images, how often each is drawn, and how strong its effects are."""

from __future__ import annotations

from dataclasses import dataclass, replace

from datasets.drawn import texts
from datasets.drawn.texts import TextMaker

Range = tuple[float, float]


@dataclass(frozen=True)
class Style:
    """A kind of images. Numbers are probabilities unless said otherwise.

    Attributes:
        share: How often the style is drawn, relative to the others.
        makers: What is written, with weights.
        fonts: Categories of fonts, with weights.
        longest: Most characters, if less than asked for.
        italic: Italic fonts are drawn with, too.
        stretch: Range of the factor of the width.
        slant: Deviation of the letters' slant.
        angle: Deviation of the rotation in degrees.
        perspective: Most movement of a corner, in heights of the line.
        curved: Bent baseline.
        margin: Range of the margin at each side, in heights of the line.
        cut: A side is cut instead.
        neighbors: Other lines are close.
        rules: Underlines and table rules.
        boxed: A frame around the text, as of plates, buttons and table cells.
        spaced: Letter spacing other than the font's.
        uneven_letters: Letters of unequal size, position and angle.
        spread: Thicker letters.
        thin: Thinner letters.
        ragged: Uneven edges.
        dots: Letters of dots.
        faded: Pale and missing parts.
        broken: Gaps.
        contrast: Range of the difference of ink and paper, of 255.
        white: The paper, or the light side of it, is nearly white.
        inverted: Light letters on dark.
        decorated: Outline, shadow or relief.
        uneven: Gradients and shadows on the paper.
        texture: Rough paper, walls, cloth.
        clutter: Shapes behind the letters.
        strokes: Lines across the text.
        border: A line along the edges of the image.
        uneven_brightness: Letters of different brightness.
        blur: Most deviation of the blur in pixels.
        motion: Blur of a movement.
        small: Low resolution.
        noise: Most deviation of the noise, of 255.
        sharpened: Halos of a sharpening filter.
        binary: Black and white only.
        quality: Range of the quality of JPEG.
    """

    share: float
    makers: tuple[tuple[TextMaker, float], ...]
    fonts: dict[str, float]
    longest: int = 48
    italic: float = 0.5
    stretch: Range = (0.75, 1.25)
    slant: float = 0.03
    angle: float = 0.6
    perspective: float = 0.03
    curved: float = 0.02
    margin: Range = (0.02, 0.25)
    cut: float = 0.05
    neighbors: float = 0.1
    rules: float = 0.05
    boxed: float = 0.02
    spaced: float = 0.2
    uneven_letters: float = 0.03
    spread: float = 0.15
    thin: float = 0.1
    ragged: float = 0.08
    dots: float = 0.0
    faded: float = 0.1
    broken: float = 0.03
    contrast: Range = (80, 250)
    white: float = 0.4
    inverted: float = 0.06
    decorated: float = 0.0
    uneven: float = 0.35
    texture: float = 0.15
    clutter: float = 0.0
    strokes: float = 0.01
    border: float = 0.01
    uneven_brightness: float = 0.0
    blur: float = 1.1
    motion: float = 0.06
    small: float = 0.15
    noise: float = 12
    sharpened: float = 0.15
    binary: float = 0.03
    quality: Range = (25, 95)


_PRINT = {"receipt": 3.0, "mono": 4.0, "sans": 4.0, "serif": 0.8, "ocr": 0.8}
_SIGNS = {"sans": 5.0, "display": 3.5, "serif": 2.8, "script": 1.2, "mono": 0.8, "ocr": 0.2,
          "receipt": 0.3, "blackletter": 0.1, "gothic": 0.1}
_BOOKS = {"serif": 5.0, "sans": 3.0, "mono": 1.0, "script": 1.3, "display": 0.4}

_RECEIPT_NUMBERS = Style(
    share=20, makers=texts.RECEIPT_NUMBERS, fonts=_PRINT, longest=24, italic=0.12,
    stretch=(0.55, 1.3), angle=0.7, margin=(0.0, 0.22), cut=0.06, neighbors=0.08, rules=0.06,
    spaced=0.3, spread=0.25, thin=0.12, ragged=0.1, dots=0.1, faded=0.4, broken=0.08,
    contrast=(60, 250), inverted=0.01, uneven=0.25, texture=0.04, noise=8, white=0.7,
    strokes=0.02, blur=1.3, small=0.22, sharpened=0.4, binary=0.08, quality=(35, 95))
_RECEIPT_LINES = replace(
    _RECEIPT_NUMBERS, share=24, makers=texts.RECEIPT_LINES, longest=40, stretch=(0.55, 1.25),
    angle=0.5, neighbors=0.15, dots=0.07, faded=0.35, broken=0.06, strokes=0.01, blur=1.2)
_SCENE_WORDS = Style(
    share=23, makers=texts.SCENE_WORDS, fonts=_SIGNS, longest=24, stretch=(0.6, 1.5), slant=0.09,
    angle=3.2, perspective=0.16, curved=0.09, margin=(0.0, 0.3), cut=0.06, neighbors=0.14,
    rules=0.03, boxed=0.07, spaced=0.35, uneven_letters=0.08, spread=0.12, thin=0.05, ragged=0.06,
    faded=0.08, broken=0.04, contrast=(42, 230), inverted=0.45, decorated=0.3, uneven=0.6,
    texture=0.4, clutter=0.15, strokes=0.02, uneven_brightness=0.03, blur=1.5, motion=0.12,
    small=0.28, white=0.3, sharpened=0.2, binary=0.03, quality=(20, 95))
_SCENE_LINES = Style(
    share=5, makers=texts.SCENE_LINES, fonts=_SIGNS, longest=40, stretch=(0.65, 1.2), slant=0.06,
    angle=1.0, perspective=0.08, curved=0.06, neighbors=0.2, spaced=0.25, uneven_letters=0.04,
    contrast=(45, 230), inverted=0.4, decorated=0.2, uneven=0.5, texture=0.35, clutter=0.1,
    blur=1.3, motion=0.1, small=0.18, quality=(20, 95))
_DOCUMENTS = Style(
    share=13, makers=texts.DOCUMENTS, fonts=_BOOKS, stretch=(0.75, 1.2), neighbors=0.15,
    white=0.6, noise=9, contrast=(80, 250), inverted=0.08, binary=0.12, thin=0.12, ragged=0.12)
_CAPTCHAS = Style(
    share=8, makers=texts.CAPTCHAS, fonts={"sans": 4, "serif": 1.5, "display": 0.7, "mono": 1},
    longest=10, stretch=(0.7, 1.3), slant=0.12, angle=3, perspective=0.08, curved=0.25,
    margin=(0.05, 0.6), cut=0.0, neighbors=0.0, rules=0.0, boxed=0.03,
    border=0.25, spaced=0.7, uneven_letters=0.65, spread=0.15,
    faded=0.05, ragged=0.1, contrast=(110, 250), inverted=0.08, uneven=0.5, texture=0.12,
    clutter=0.15, strokes=0.75, uneven_brightness=0.35, blur=0.8, small=0.05, noise=14, binary=0.0,
    quality=(40, 95))
_BLACKLETTER = Style(
    share=5, makers=texts.BLACKLETTER, fonts={"blackletter": 3, "gothic": 1},
    stretch=(0.75, 1.15), white=0.7, blur=0.8,
    neighbors=0.15, spread=0.3, thin=0.15, ragged=0.3, faded=0.08, broken=0.05, binary=0.55,
    inverted=0.01, spaced=0.3, contrast=(110, 250), noise=8)
_DISPLAYS = Style(
    share=2, makers=texts.DISPLAYS, fonts={"segments7": 3, "segments14": 2, "receipt": 1},
    longest=14, inverted=0.5, slant=0.06, angle=1.5, perspective=0.08, neighbors=0.03, spread=0.3,
    contrast=(45, 230), blur=1.5, spaced=0.1, uneven=0.5, boxed=0.1)

STYLES: dict[str, Style] = {
    "receipt-number": _RECEIPT_NUMBERS, "receipt-line": _RECEIPT_LINES,
    "scene-word": _SCENE_WORDS, "scene-line": _SCENE_LINES, "document": _DOCUMENTS,
    "captcha": _CAPTCHAS, "blackletter": _BLACKLETTER, "display": _DISPLAYS,
}
