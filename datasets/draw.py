r"""Draw labelled pictures of single words, to train and to test on.

A set of 3000 training and 300 testing words, none of them in both::

    python datasets/draw.py OUT_DIR

writes ``OUT_DIR/images/000001.png`` and so on (every fifth one is a JPEG),
``OUT_DIR/annotations-training.txt`` and ``OUT_DIR/annotations-testing.txt``. An annotation
line is the path of a picture and its label, with a space between; the paths begin with
OUT_DIR as it was given, so they hold for the working directory of this command.

The small set in this folder is drawn, from the root of the project, by::

    python datasets/draw.py datasets --words datasets/words.txt --names word \
        --count 30 --test-count 12 --shared 2

Only Pillow is needed: 10.1 or newer with FreeType, whose own scalable font is used.
"""

from __future__ import annotations

import argparse
import math
import string
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

CHARSET = string.digits + string.ascii_uppercase
HEIGHTS = (24, 48)  # of the finished pictures, in pixels
FONT_SIZE = 48  # the letters are drawn at this size, then scaled down
PAD = 16  # room beside the letters while they are drawn and slanted
LONGEST_WORD = 64
FRUITLESS_TRIES = 10_000  # this many repeated words in a row: there are hardly any others
JPEG_EVERY = 5
MOST = 999_999  # pictures in a list

Color = tuple[int, ...]


class DrawError(Exception):
    """Something the user asked for cannot be done."""


# Pictures


@cache
def load_font() -> ImageFont.FreeTypeFont:
    """Load the scalable font that comes with Pillow.

    Returns:
        The font, at the size the letters are drawn at.

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
    """Tell whether the font can draw a character (it draws a box for all the others)."""
    font = load_font()
    return bytes(font.getmask(character)) != bytes(font.getmask("\uffff"))


def draw_word(text: str, rng: Random, color: bool = False) -> Image.Image:
    """Draw a word in a manner chosen at random.

    Size, slant, rotation, letter spacing, margins, brightness, blur and noise vary.

    Args:
        text: The word, at least one character, every one known to the font.
        rng: The source of every choice: the same state gives the same picture.
        color: Use colours; else shades of grey.

    Returns:
        The picture, in mode ``RGB`` with `color`, else ``L``.
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
    """Draw upright letters, white on black, as tall as a capital letter or taller."""
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
    """Lean the letters a little, forwards more often than backwards."""
    shear = rng.uniform(-0.1, 0.25)
    matrix = (1.0, shear, -shear * ink.height / 2, 0.0, 1.0, 0.0)
    return ink.transform(
        ink.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BICUBIC
    )


def _rotated(ink: Image.Image, rng: Random, length: int) -> Image.Image:
    """Cut off the blank sides and turn the word by at most 3 degrees, a long one by less."""
    left, _, right, _ = ink.getbbox() or (0, 0, *ink.size)
    ink = ink.crop((left, 0, right, ink.height))
    limit = min(3.0, 24 / length)
    return ink.rotate(rng.uniform(-limit, limit), resample=Image.Resampling.BICUBIC, expand=True)


def _fitted(ink: Image.Image, rng: Random) -> Image.Image:
    """Scale the word to a final size, with margins."""
    height = rng.randint(*HEIGHTS)
    above, below = (rng.randint(1, height // 8) for _ in range(2))
    before, after = (rng.randint(1, height // 4) for _ in range(2))
    inner = height - above - below
    width = max(1, round(ink.width * inner / ink.height * rng.uniform(0.94, 1.06)))
    fitted = Image.new("L", (before + width + after, height), 0)
    fitted.paste(ink.resize((width, inner), Image.Resampling.BICUBIC), (before, above))
    return fitted


def _painted(ink: Image.Image, rng: Random, color: bool) -> Image.Image:
    """Put dark letters on a light ground, or one time in four the reverse."""
    channels = 3 if color else 1
    dark: Color = tuple(rng.randint(0, 90) for _ in range(channels))
    light: Color = tuple(rng.randint(170, 255) for _ in range(channels))
    letters, ground = (light, dark) if rng.random() < 0.25 else (dark, light)
    mode = "RGB" if color else "L"
    image = Image.new(mode, ink.size, ground)
    image.paste(Image.new(mode, ink.size, letters), mask=ink)
    return image


def _noisy(image: Image.Image, rng: Random) -> Image.Image:
    """Brighten or darken every pixel by up to 10 levels, or fewer."""
    strength = rng.randint(0, 10)
    channels = len(image.getbands())
    grain = rng.randbytes(channels * image.width * image.height)
    levels = [level * (2 * strength + 1) // 256 for level in range(256)]
    noise = Image.frombytes(image.mode, image.size, grain).point(levels * channels)
    return ImageChops.add(image, noise, offset=-strength)


# Words


def random_words(rng: Random, charset: str, shortest: int, longest: int) -> Iterator[str]:
    """Make up different words, as long as there are any.

    Words that differ in nothing but case count as the same.

    Args:
        rng: The source of lengths and characters.
        charset: The characters to choose from.
        shortest: The least number of characters of a word.
        longest: The greatest number of characters of a word.

    Yields:
        One word after another, never the same one twice.
    """
    seen: set[str] = set()
    tries = 0
    while tries < FRUITLESS_TRIES:
        word = "".join(rng.choices(charset, k=rng.randint(shortest, longest)))
        tries += 1
        if word.upper() not in seen:
            seen.add(word.upper())
            tries = 0
            yield word


def read_words(path: Path) -> list[str]:
    """Read a UTF-8 file with one word per line.

    Args:
        path: The file; blank lines in it, and spaces around a word, are skipped.

    Returns:
        The words in their order, each once (upper and lower case are not told apart).

    Raises:
        DrawError: The file is not UTF-8, or a word in it cannot be drawn.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DrawError(f"{path} is not UTF-8 text") from error
    words: dict[str, str] = {}
    for word in filter(None, map(str.strip, lines)):
        check_text(word, f"a word in {path}")
        if len(word) > LONGEST_WORD:
            raise DrawError(f"a word in {path} is longer than {LONGEST_WORD} characters")
        words.setdefault(word.upper(), word)
    return list(words.values())


def check_text(text: str, what: str) -> None:
    """Make sure that every character of a text can be drawn and be part of a label.

    Args:
        text: The text.
        what: What the text is, for the error message.

    Raises:
        DrawError: There is white space in it, or a character the font does not have.
    """
    for character in text:
        if character.isspace():
            raise DrawError(f"{what} has white space in it")
        if not has_glyph(character):
            raise DrawError(f"{what} has {character!a} in it, which the font cannot draw")


def choose_words(args: argparse.Namespace) -> list[str]:
    """Choose the words of all the pictures.

    Args:
        args: The parsed command line.

    Returns:
        As many different words as there are pictures, those to train on first.

    Raises:
        DrawError: There are too few words.
    """
    rng = Random(f"words {args.seed}")
    needed = args.count + args.test_count - args.shared
    if args.words is None:
        source = random_words(rng, args.charset, args.min_length, args.max_length)
        words = list(islice(source, needed))
    else:
        listed = read_words(args.words)
        rest = listed[args.shared :]
        rng.shuffle(rest)
        words = (listed[: args.shared] + rest)[:needed]
    if len(words) < needed:
        raise DrawError(f"{needed} different words are needed, but only {len(words)} were found")
    return words


# Files


def image_name(number: int, word: str, names: str) -> str:
    """Name a picture.

    Args:
        number: Its number, from 1.
        word: The word in it.
        names: ``number`` or ``word``: what it is named after.

    Returns:
        The name of the file.

    Raises:
        DrawError: The word does not make a file name.
    """
    if names == "word" and not word.isalnum():
        raise DrawError(f"no picture can be named after {word!r}: not letters and digits alone")
    stem = word if names == "word" else f"{number:06d}"
    return stem + (".jpg" if number % JPEG_EVERY == 0 else ".png")


def write_images(words: Sequence[str], args: argparse.Namespace) -> list[str]:
    """Draw a picture of every word.

    What a picture looks like depends on the seed, its number and its word alone.

    Args:
        words: The words.
        args: The parsed command line.

    Returns:
        One annotation line per word.
    """
    names = [image_name(number, word, args.names) for number, word in enumerate(words, 1)]
    folder = args.out_dir / "images"
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (name, word) in enumerate(zip(names, words, strict=True), 1):
        image = draw_word(word, Random(f"image {args.seed} {number}"), args.color)
        image.save(folder / name, quality=90)
        lines.append(f"{(folder / name).as_posix()} {word}")
    return lines


def write_set(args: argparse.Namespace) -> None:
    """Draw the pictures and write both annotation files.

    Args:
        args: The parsed command line.
    """
    lines = write_images(choose_words(args), args)
    training = lines[: args.count]
    testing = lines[: args.shared] + lines[args.count :]
    for name, part in (("training", training), ("testing", testing)):
        text = "".join(f"{line}\n" for line in part)
        path = args.out_dir / f"annotations-{name}.txt"
        path.write_text(text, encoding="utf-8", newline="\n")


# Command line


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(description="Draw labelled pictures of single words.")
    add = parser.add_argument
    add("out_dir", metavar="OUT_DIR", type=Path, help="folder to write into")
    add("--count", type=int, default=3000, help="pictures to train on (%(default)s)")
    add("--test-count", type=int, default=300, help="pictures to test on (%(default)s)")
    add("--shared", type=int, default=0, help="how many of the first are in both (%(default)s)")
    add("--seed", type=int, default=0, help="another one, another set (%(default)s)")
    add("--charset", metavar="CHARS", default=CHARSET, help="characters of words (%(default)s)")
    add("--min-length", type=int, default=3, help="of a word (%(default)s)")
    add("--max-length", type=int, default=6, help="of a word (%(default)s)")
    add("--words", metavar="FILE", type=Path, help="take the words from here, one per line")
    add("--names", choices=["number", "word"], default="number", help="what to name pictures by")
    add("--color", action="store_true", help="use colours, not shades of grey")
    return parser


def check_arguments(args: argparse.Namespace) -> None:
    """Make sure that the command line makes sense, before anything is written.

    Args:
        args: The parsed command line.

    Raises:
        DrawError: It does not.
    """
    if any(character.isspace() for character in str(args.out_dir)):
        raise DrawError("OUT_DIR must have no white space in it: annotation lines end paths there")
    if args.out_dir.exists() and not args.out_dir.is_dir():
        raise DrawError(f"{args.out_dir} is not a folder")
    if not (1 <= args.count <= MOST and 0 <= args.test_count <= MOST):
        raise DrawError(f"--count must be 1 to {MOST}, and --test-count 0 to {MOST}")
    if not 0 <= args.shared <= min(args.count, args.test_count):
        raise DrawError("--shared must be between 0 and the lesser of --count and --test-count")
    if not 1 <= args.min_length <= args.max_length <= LONGEST_WORD:
        raise DrawError(f"1 <= --min-length <= --max-length <= {LONGEST_WORD} must hold")
    if not args.charset:
        raise DrawError("--charset must not be empty")
    check_text(args.charset, "--charset")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: The arguments, by default those of the process.

    Returns:
        The exit status: 0, or 1 after an error (told in one line on stderr).
    """
    args = build_parser().parse_args(argv)
    try:
        check_arguments(args)
        write_set(args)
    except (DrawError, OSError, UnicodeError) as error:
        print(f"draw.py: error: {error}", file=sys.stderr)
        return 1
    print(f"{args.out_dir}: {args.count} pictures to train on, {args.test_count} to test on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
