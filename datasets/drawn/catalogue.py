r"""Makes the catalogue of the fonts that `install_fonts.sh` has unpacked.

    python -m datasets.drawn.catalogue FOLDER

The files of npm packages hold the letters of one subset each; those of a face are merged into
one TrueType file in FOLDER/merged.
"""

from __future__ import annotations

import fnmatch
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from fontTools.merge import Merger, Options
from fontTools.ttLib import TTFont, TTLibError
from tqdm import tqdm

from datasets.drawn.alphabet import ALPHABET
from datasets.drawn.fonts import Face, fitting_size, save_catalogue
from datasets.drawn.glyphs import drawable

PACKAGES = Path(__file__).with_name("font_packages.txt")
FREE_LICENSES = ("OFL-1.1", "APACHE-2.0", "MIT", "UFL-1.0")
_SEGMENTED = {"segments7": "0123456789 -.:", "segments14": (
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ -.:")}  # what displays of segments show distinctly
_FEWEST_CHARACTERS = 11  # digits and a sign
_LIGHTEST = 250  # of the weights 1…1000: hairlines vanish in small images
_MOST_FACES = 8  # of a family
_STYLES = ("400-normal", "700-normal", "400-italic", "700-italic", "900-normal", "500-normal",
           "600-normal", "300-normal")
_MOST_STYLES = 4
_SUBSETS = ("latin", "latin-ext")
_DROPPED = ["GSUB", "GPOS", "GDEF", "DSIG", "STAT", "MATH", "BASE", "VDMX", "hdmx", "LTSH"]


class Package(NamedTuple):
    """A line of the package list."""

    source: str
    name: str
    category: str
    patterns: tuple[str, ...]


class Source(NamedTuple):
    """A font file, or the files that make one, before it is checked."""

    parts: tuple[Path, ...]
    target: Path
    category: str
    family: str


def read_packages(text: str) -> list[Package]:
    """Returns the packages of a list; `#` begins a comment line."""
    rows = [line.split() for line in text.splitlines() if line.strip() and line[0] != "#"]
    return [Package(row[0], row[1], row[2], tuple(row[3].split(",")) if row[3:] else ("*",))
            for row in rows]


def sources(folder: Path, packages: Iterable[Package]) -> Iterator[Source]:
    """Yields the font files of the packages."""
    for package in packages:
        if package.source == "npm":
            yield from _npm_sources(folder, package)
        else:
            yield from _debian_sources(folder, package)


def _debian_sources(folder: Path, package: Package) -> Iterator[Source]:
    seen = set()
    root = folder / "debian" / package.name
    files = [path for path in root.rglob("*") if path.suffix.lower() in (".ttf", ".otf")]
    for path in sorted(files, key=lambda path: (path.suffix.lower() != ".otf", path)):
        listed = any(fnmatch.fnmatch(path.name, pattern) for pattern in package.patterns)
        if listed and path.stem not in seen and not path.is_symlink():
            seen.add(path.stem)
            yield Source((path,), path, package.category, "")


def _npm_sources(folder: Path, package: Package) -> Iterator[Source]:
    root = folder / "npm" / "node_modules" / "@fontsource" / package.name
    if not root.is_dir():
        print(f"{package.name}: not installed", file=sys.stderr)
        return
    description = json.loads((root / "package.json").read_text(encoding="utf-8"))
    license_name = description.get("license", "")
    if license_name.upper() not in FREE_LICENSES:
        print(f"{package.name}: left out, its license is {license_name}", file=sys.stderr)
        return
    names = {path.name: path for path in (root / "files").glob("*.woff2")}
    styles = [style for style in _STYLES if f"{package.name}-latin-{style}.woff2" in names]
    for style in styles[:_MOST_STYLES]:
        wanted = [f"{package.name}-{subset}-{style}.woff2" for subset in _SUBSETS]
        parts = tuple(names[name] for name in wanted if name in names)
        target = folder / "merged" / f"{package.name}-{style}.ttf"
        yield Source(parts, target, package.category, package.name)


def checked(source: Source) -> Face | None:
    """Returns the face of a source; `None` when it is too light or draws too little."""
    try:
        if not source.target.exists():
            _merge(source.parts, source.target)
        family, weight, italic = _description(source.target)
        characters = drawable(source.target, _SEGMENTED.get(source.category, ALPHABET))
        size = fitting_size(source.target)
    except (TTLibError, OSError, AssertionError, KeyError) as error:
        print(f"{source.target.name}: left out: {error}", file=sys.stderr)
        return None
    if weight < _LIGHTEST or len(characters) < _FEWEST_CHARACTERS:
        return None
    return Face(str(source.target), source.family or family, source.category, characters, size,
                italic)


def _merge(parts: tuple[Path, ...], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    options = Options()
    options.drop_tables = _DROPPED
    font = Merger(options=options).merge(list(map(str, parts))) if len(parts) > 1 else TTFont(
        parts[0])
    font.flavor = None
    font.save(target)


def _description(path: Path) -> tuple[str, int, bool]:
    """Returns the family, weight and slant that a font file states."""
    with TTFont(path, lazy=True) as file:
        names = file["name"]
        family = names.getDebugName(16) or names.getDebugName(1) or path.stem
        weight = file["OS/2"].usWeightClass if "OS/2" in file else 400
        italic = bool("post" in file and file["post"].italicAngle)
    return family, weight * 100 if weight < 10 else weight, italic


def limit_per_family(faces: Iterable[Face]) -> list[Face]:
    """Returns at most `_MOST_FACES` of each family, spread over its files."""
    families: dict[tuple[str, str], list[Face]] = defaultdict(list)
    for face in faces:
        families[face.category, face.family].append(face)
    chosen = []
    for family in families.values():
        number = min(len(family), _MOST_FACES)
        chosen += [family[n * len(family) // number] for n in range(number)]
    return chosen


def main(folder: Path) -> None:
    """Checks all fonts in a folder and writes the catalogue."""
    fonts = list(sources(folder, read_packages(PACKAGES.read_text(encoding="utf-8"))))
    with ProcessPoolExecutor() as pool:
        results = tqdm(pool.map(checked, fonts, chunksize=4), total=len(fonts), unit="font")
        faces = limit_per_family(face for face in results if face)
    save_catalogue(folder, faces)
    print(f"{len(faces)} font files of {len({face.family for face in faces})} families")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
