"""One labeled image from a seed and a number."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from random import Random
from typing import NamedTuple

import cv2
import numpy as np

from datasets.drawn import camera, ink, texts
from datasets.drawn.fonts import Face, FontError, bits
from datasets.drawn.geometry import View, framed
from datasets.drawn.lettering import Lettering, Spacing, draw, with_box, with_neighbors, with_rules
from datasets.drawn.paint import painted
from datasets.drawn.styles import STYLES, Style
from datasets.drawn.words import Vocabulary

_TRIES = 100
_NARROWEST = 8.5  # pixels a character: narrower ones are hard to read


class Sample(NamedTuple):
    """A labeled image.

    Attributes:
        image: The encoded file.
        label: Its text.
        style: Name of its style.
        font: Path of its font.
    """

    image: bytes
    label: str
    style: str
    font: str


@dataclass(frozen=True)
class Settings:
    """Options of the images to draw.

    Attributes:
        seed: Seed of all random choices.
        longest: Most characters of a label.
        styles: Names of the styles; all when empty.
        widest: Largest width of an image in pixels at height 32, `None` for no limit; wider ones
            are replaced.
    """

    seed: int = 0
    longest: int = 48
    styles: tuple[str, ...] = ()
    widest: int | None = None


class Drawer:
    """Draws images by their number; the same number gives the same image in any process."""

    def __init__(self, settings: Settings, faces: Sequence[Face], vocabulary: Vocabulary) -> None:
        """Sorts the fonts.

        Args:
            settings: What to draw.
            faces: The fonts.
            vocabulary: Material for texts.

        Raises:
            FontError: There are no fonts.
        """
        if not faces:
            raise FontError("no fonts to draw with")
        self._settings, self._vocabulary = settings, vocabulary
        self._names = settings.styles or tuple(STYLES)
        self._shares = tuple(accumulate(STYLES[name].share for name in self._names))
        self._families: dict[str, dict[str, list[Face]]] = defaultdict(lambda: defaultdict(list))
        for face in faces:
            self._families[face.category][face.family].append(face)

    def draw(self, number: int) -> Sample:
        """Draws image `number`.

        Raises:
            FontError: No image is narrow enough.
        """
        for attempt in range(_TRIES):
            rng = Random(f"{self._settings.seed} {number}" + f" {attempt}" * (attempt > 0))
            sample, (height, width) = self._draw(rng)
            if self._settings.widest is None or width * 32 <= self._settings.widest * height:
                return sample
        raise FontError(f"no image is at most {self._settings.widest} pixels wide; give a larger "
                        "--max-width")

    def _draw(self, rng: Random) -> tuple[Sample, tuple[int, ...]]:
        """Draws an image; returns it with its shape, `(height, width)`."""
        position = bisect.bisect(self._shares, rng.random() * self._shares[-1])
        name = self._names[position]
        style = _drawn_style(STYLES[name], rng)
        label, face = self._label_and_face(style, rng)
        lettering = self._lettering(label, face, style, rng)
        image = _image(lettering, label, style, rng)
        sample = Sample(camera.encoded(image, style, rng), label, name, face.path)
        return sample, image.shape

    def _label_and_face(self, style: Style, rng: Random) -> tuple[str, Face]:
        for _ in range(_TRIES):
            label = self._text(style, rng)
            face = self._face(label, style, rng) if label else None
            if label and face:
                return label, face
        raise FontError(f"no font for texts such as {label!r}")

    def _text(self, style: Style, rng: Random) -> str | None:
        makers, weights = zip(*style.makers, strict=True)
        text = rng.choices(makers, weights)[0](rng, self._vocabulary)
        return texts.fit(text, min(style.longest, self._settings.longest), rng)

    def _face(self, label: str, style: Style, rng: Random) -> Face | None:
        """Returns a font that has all the characters: first a category, then a family, then a file.

        Where the category has no such font, the style's other categories may, also in italics.
        """
        needed = bits(label)
        categories = [name for name in style.fonts if name in self._families]
        italic = rng.random() < style.italic
        weights = [style.fonts[name] for name in categories]
        tried = rng.choices(categories, weights) if categories else []
        return (self._any_face(tried, needed, italic, rng)
                or self._any_face(categories or list(self._families), needed, True, rng))

    def _any_face(self, categories: Sequence[str], needed: int, italic: bool, rng: Random
                  ) -> Face | None:
        fitting = []
        for category in categories:
            for faces in self._families[category].values():
                able = [face for face in faces if face.coverage & needed == needed
                        and (italic or not face.italic)]
                if able:
                    fitting.append(able)
        return rng.choice(rng.choice(fitting)) if fitting else None

    def _lettering(self, label: str, face: Face, style: Style, rng: Random) -> Lettering:
        lettering = draw(label, face, _spacing(style, rng), rng)
        if rng.random() < style.boxed:
            return with_box(lettering, rng)
        if rng.random() < style.neighbors:
            near = [self._neighbor(face, style, rng) if rng.random() < 0.7 else ""
                    for _ in range(2)]
            lettering = with_neighbors(lettering, near, face, rng.uniform(1.2, 1.9), rng)
        return with_rules(lettering, rng) if rng.random() < style.rules else lettering

    def _neighbor(self, face: Face, style: Style, rng: Random) -> str:
        text = self._text(style, rng) or ""
        return "".join(character for character in text if character in face.characters).strip()


def _drawn_style(style: Style, rng: Random) -> Style:
    """Returns the style of one image: if black and white, without an uneven background."""
    if rng.random() >= style.binary:
        return replace(style, binary=0.0)
    return replace(style, binary=1.0, uneven=0.0, texture=0.0, clutter=0.0, inverted=0.0,
                   decorated=0.0, contrast=(120, 250), small=style.small / 2)


def _spacing(style: Style, rng: Random) -> Spacing:
    if rng.random() < style.uneven_letters:
        return Spacing(letters=rng.uniform(-0.08, 0.25), rise=rng.uniform(0, 7),
                       sizes=(rng.uniform(0.8, 1), rng.uniform(1, 1.2)),
                       turn=rng.choice((0, rng.uniform(2, 18))))
    if rng.random() >= style.spaced:
        return Spacing()
    kind = rng.random()
    if kind < 0.6:
        return Spacing(letters=rng.uniform(-0.05, 0.15), words=rng.uniform(0.8, 2.2))
    if kind < 0.8:
        return Spacing(letters=rng.uniform(0.1, 0.6), words=rng.uniform(1, 1.8))
    return Spacing(capital=rng.uniform(1.15, 1.35), letters=rng.uniform(0, 0.08))


def _view(label: str, style: Style, rng: Random) -> View:
    long = max(1.0, len(label) / 5)
    low, high = style.margin
    margins = [low + (high - low) * rng.random() ** 1.5 for _ in range(4)]
    if rng.random() < style.cut:
        side = rng.choice((1, 3) if label.isascii() else (0, 2))  # accents tell letters apart
        margins[side] = -rng.uniform(0.02, 0.08 if side in (1, 3) else 0.04)
    curved = rng.random() < style.curved
    return View(
        stretch=rng.uniform(*style.stretch), slant=rng.gauss(0, style.slant),
        angle=rng.gauss(0, style.angle) / long ** 0.8,
        perspective=style.perspective * rng.random() ** 2 if rng.random() < 0.6 else 0.0,
        bend=rng.uniform(0.1, 0.45) * rng.choice((1, 1, -1)) if curved else 0.0,
        waves=rng.choice((0.0, 0.0, rng.uniform(0.5, 1.5))),
        margins=(margins[0], margins[1], margins[2], margins[3]))


def _image(lettering: Lettering, label: str, style: Style, rng: Random) -> np.ndarray:
    """Returns the finished image, `[height, width]` uint8."""
    mask = lettering.mask
    for effect, probability in ((ink.spread, style.spread), (ink.thin, style.thin),
                                (ink.dots, style.dots), (ink.ragged, style.ragged),
                                (ink.faded, style.faded), (ink.broken, style.broken)):
        if rng.random() < probability:
            mask = effect(mask, rng)
    height = rng.randint(*camera.HEIGHTS)
    view = _view(label, style, rng)
    least = _NARROWEST * len(label) * lettering.box.height / (0.75 * height * lettering.box.width)
    view = replace(view, stretch=max(view.stretch, min(1.0, least)))
    ink_share = framed(mask, lettering.box, view, height, rng)
    image = painted(ink_share, _shares(lettering), style, rng)
    photo = camera.photograph(image, len(label), style, rng)
    return cv2.copyMakeBorder(photo, 0, 0, 0, max(0, 8 - photo.shape[1]), cv2.BORDER_REPLICATE)


def _shares(lettering: Lettering) -> list[tuple[float, float]]:
    """Returns the letters' spans as shares of the line's box."""
    box = lettering.box
    return [tuple(min(1.0, max(0.0, (end - box.left) / box.width)) for end in span)  # type: ignore
            for span in lettering.spans]
