"""A contact sheet: images with their labels below."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from datasets.drawn.fonts import Face
from datasets.drawn.sample import Sample

_HEIGHT, _LABEL_HEIGHT, _GAP = 40, 15, 8
_WIDTH = 1200
_BACK = 110


def save_sheet(path: Path, samples: Iterable[Sample], face: Face | None = None) -> None:
    """Writes a PNG of images at one height, in rows, each above its label.

    Args:
        path: The PNG.
        samples: The images.
        face: Font of the labels; Pillow's own when there is none.
    """
    font = ImageFont.truetype(face.path, 11) if face else ImageFont.load_default(11)
    placed, x, y = [], _GAP, _GAP
    for sample in samples:
        image = Image.open(io.BytesIO(sample.image)).convert("L")
        width = min(_WIDTH - 2 * _GAP, max(1, round(image.width * _HEIGHT / image.height)))
        cell = max(width, round(font.getlength(sample.label)))
        if x + cell + _GAP > _WIDTH and x > _GAP:
            x, y = _GAP, y + _HEIGHT + _LABEL_HEIGHT + _GAP
        placed.append((x, y, image.resize((width, _HEIGHT), Image.Resampling.BICUBIC), sample))
        x += cell + _GAP
    sheet = Image.new("L", (_WIDTH, y + _HEIGHT + _LABEL_HEIGHT + _GAP), _BACK)
    canvas = ImageDraw.Draw(sheet)
    for x, y, image, sample in placed:
        sheet.paste(image, (x, y))
        canvas.text((x, y + _HEIGHT), sample.label, 255, font)
    sheet.save(path)
