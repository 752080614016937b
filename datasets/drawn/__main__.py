r"""Draws labeled images of text lines into TFRecord shards, or on a contact sheet.

    python -m datasets.drawn OUT --count 100000 --seed 1 --shards 8 --jobs 2 --fonts FOLDER
    python -m datasets.drawn --sheet sheet.png --fonts FOLDER

The fonts come from `datasets/drawn/install_fonts.sh FOLDER`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from multiprocessing import ProcessError
from pathlib import Path

from datasets.drawn import writer
from datasets.drawn.alphabet import ALPHABET
from datasets.drawn.fonts import Face, FontError, load_catalogue
from datasets.drawn.sample import Settings
from datasets.drawn.sheet import save_sheet
from datasets.drawn.styles import STYLES
from datasets.drawn.words import load_vocabulary

_FONTS = Path("~/.cache/aocr-fonts")
_SHEET_COUNT = 100
_RAREST = 8


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    result = argparse.ArgumentParser(
        prog="python -m datasets.drawn",
        description="Draws labeled images of text lines to train on.")
    add = result.add_argument
    add("output", nargs="?", type=Path, metavar="OUT", help="name of the TFRecords file or shards")
    add("--count", type=int, help="images (10000; on a sheet 100)")
    add("--seed", type=int, default=0, help="seed of all random choices (%(default)s)")
    add("--shards", type=int, default=1, help="files to write (%(default)s)")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)")
    add("--fonts", type=Path, default=_FONTS, help="folder of install_fonts.sh (%(default)s)")
    add("--max-length", type=int, default=48, help="most characters of a label (%(default)s)")
    add("--max-width", type=int, metavar="N",
        help="most pixels of an image's width at height 32 (no limit)")
    add("--styles", nargs="+", choices=list(STYLES), default=[], metavar="STYLE",
        help=f"only these: {', '.join(STYLES)}")
    add("--sheet", type=Path, metavar="PNG", help="draw a contact sheet instead of records")
    return result


def checked(args: argparse.Namespace) -> argparse.Namespace:
    """Returns the arguments, with dependent defaults; exits if they are invalid."""
    if (args.output is None) == (args.sheet is None):
        parser().error("give either OUT or --sheet PNG")
    if args.count is None:
        args.count = _SHEET_COUNT if args.sheet else 10_000
    if not (args.count >= args.shards >= 1 and args.jobs >= 1 and args.max_length >= 1):
        parser().error("--count >= --shards >= 1, --jobs >= 1 and --max-length >= 1 must hold")
    return args


def label_face(faces: Sequence[Face]) -> Face:
    """Returns the font that has the most characters, for the labels of a sheet."""
    return max(faces, key=lambda face: (face.category == "sans", len(face.characters)))


def run(args: argparse.Namespace) -> None:
    """Draws the images.

    Raises:
        FontError: The fonts are missing.
    """
    faces = load_catalogue(args.fonts.expanduser())
    settings = Settings(args.seed, args.max_length, tuple(args.styles), args.max_width)
    samples = writer.draw_all(args.count, args.jobs, settings, faces, load_vocabulary(args.seed))
    if args.sheet:
        save_sheet(args.sheet, samples, label_face(faces))
        return
    summary = writer.write(args.output, args.shards, args.count, samples)
    rarest = sorted(ALPHABET, key=lambda character: summary.characters[character])[:_RAREST]
    print(f"{summary.images} images of {len(summary.fonts)} fonts in {len(summary.paths)} files, "
          f"{summary.bytes / summary.images:.0f} bytes an image; the rarest characters: "
          + ", ".join(f"{character} {summary.characters[character]}" for character in rarest))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    args = checked(parser().parse_args(argv))
    try:
        run(args)
    except (FontError, OSError, ProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
