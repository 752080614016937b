"""The catalogue of the installed fonts, and the fonts as Pillow draws them."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import ImageFont

from datasets.drawn.alphabet import ALPHABET

CATALOGUE = "fonts.json"
CAP_HEIGHT = 34  # pixels of a capital letter as it is drawn
_TRIAL_SIZE = 100


class FontError(Exception):
    """Error for fonts that are missing or cannot be used."""


@dataclass(frozen=True)
class Face:
    """One font file.

    Attributes:
        path: Where it is.
        family: Name of its family.
        category: sans, serif, mono, receipt, ocr, display, script, blackletter, gothic,
            segments7 or segments14.
        characters: Those of the alphabet that it draws.
        size: In pixels, so that a capital letter is `CAP_HEIGHT` tall.
        italic: Its letters are slanted.
    """

    path: str
    family: str
    category: str
    characters: str
    size: int
    italic: bool = False

    @functools.cached_property
    def coverage(self) -> int:
        """Returns the characters as bits (see `bits`)."""
        return bits(self.characters)

    def spelled(self, text: str) -> str:
        """Returns the text to draw: where the font's hyphen is double, it stands for `⸗`."""
        return text if "-" in self.characters else text.replace("⸗", "-")


def bits(text: Iterable[str]) -> int:
    """Returns a set of characters as a number: bit n is set for character n of the alphabet.

    Characters outside the alphabet set one more bit, which no font has.
    """
    number = 0
    for character in set(text):
        position = ALPHABET.find(character)
        number |= 1 << (position if position >= 0 else len(ALPHABET))
    return number


def fitting_size(path: Path) -> int:
    """Returns the size in pixels at which a capital, or else a digit, is `CAP_HEIGHT` tall."""
    font = ImageFont.truetype(str(path), _TRIAL_SIZE, layout_engine=ImageFont.Layout.BASIC)
    heights = [box[3] - box[1] for box in map(font.getbbox, "HX08")]
    return max(8, round(_TRIAL_SIZE * CAP_HEIGHT / max(*heights, 1)))


@functools.lru_cache(maxsize=4096)
def load(path: str, size: int) -> ImageFont.FreeTypeFont:
    """Returns the font for drawing; the same object for the same file and size."""
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def save_catalogue(folder: Path, faces: Iterable[Face]) -> None:
    """Writes the catalogue, with paths relative to the folder."""
    entries = [{**asdict(face), "path": str(Path(face.path).relative_to(folder))}
               for face in faces]
    text = json.dumps(entries, ensure_ascii=False, indent=0)
    (folder / CATALOGUE).write_text(text + "\n", encoding="utf-8")


def load_catalogue(folder: Path) -> list[Face]:
    """Returns the fonts that `install_fonts.sh` has installed into a folder.

    Raises:
        FontError: There is no catalogue.
    """
    try:
        entries = json.loads((folder / CATALOGUE).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FontError(f"no {CATALOGUE} in {folder}; run datasets/drawn/install_fonts.sh "
                        f"{folder} first") from error
    return [Face(**{**entry, "path": str(folder / entry["path"])}) for entry in entries]
