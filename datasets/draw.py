r"""Draws labeled images of single words for training and testing.

A set of 3000 training words and 300 other testing words::

    python datasets/draw.py OUT_DIR

writes ``OUT_DIR/images/000001.png`` and so on (every fifth file is a JPEG),
``OUT_DIR/annotations-training.txt`` and ``OUT_DIR/annotations-testing.txt``. An annotation
line is the path of an image and its label, separated by a space. The paths begin with OUT_DIR
as it was given, so they are relative to the working directory of this command.

The small set in this directory is drawn, from the root of the project, by::

    python datasets/draw.py datasets --words datasets/words.txt --names word \
        --count 30 --test-count 12 --shared 2

Only Pillow is needed: 10.1 or newer with FreeType, which includes a scalable font.
"""

from __future__ import annotations

import argparse
import string
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random

from word_image import DrawError, draw_word, has_glyph

CHARSET = string.digits + string.ascii_uppercase
MAX_WORD_LENGTH = 64
MAX_REPETITIONS = 10_000  # in a row; then hardly any other words remain
JPEG_EVERY = 5
MAX_COUNT = 999_999  # images in a list

# Words


def random_words(rng: Random, charset: str, shortest: int, longest: int) -> Iterator[str]:
    """Generates different words, until there are hardly any others.

    Words that differ only in case count as equal.

    Args:
        rng: Source of lengths and characters.
        charset: Characters to choose from.
        shortest: Smallest number of characters of a word.
        longest: Largest number of characters of a word.

    Yields:
        The words.
    """
    seen: set[str] = set()
    repetitions = 0
    while repetitions < MAX_REPETITIONS:
        word = "".join(rng.choices(charset, k=rng.randint(shortest, longest)))
        repetitions += 1
        if word.upper() not in seen:
            seen.add(word.upper())
            repetitions = 0
            yield word


def read_words(path: Path) -> list[str]:
    """Reads a UTF-8 file with one word per line.

    Args:
        path: The file; blank lines, and spaces around a word, are ignored.

    Returns:
        The words in their order, without repetitions; case does not count.

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
        if len(word) > MAX_WORD_LENGTH:
            raise DrawError(f"a word in {path} is longer than {MAX_WORD_LENGTH} characters")
        words.setdefault(word.upper(), word)
    return list(words.values())


def check_text(text: str, what: str) -> None:
    """Checks that every character of a text can be drawn and be part of a label.

    Args:
        text: The text.
        what: What the text is, for the error message.

    Raises:
        DrawError: The text holds white space, or a character that the font does not have.
    """
    for character in text:
        if character.isspace():
            raise DrawError(f"{what} holds white space")
        if not has_glyph(character):
            raise DrawError(f"{what} holds {character!a}, which the font cannot draw")


def choose_words(args: argparse.Namespace) -> list[str]:
    """Chooses the words of all images.

    Args:
        args: The parsed command line.

    Returns:
        As many different words as there are images, those for training first.

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
        others = listed[args.shared :]
        rng.shuffle(others)
        words = (listed[: args.shared] + others)[:needed]
    if len(words) < needed:
        raise DrawError(f"{needed} different words are needed, but only {len(words)} were found")
    return words


def testing_indices(words: Sequence[str], args: argparse.Namespace) -> set[int]:
    """Selects the words to test on: the shared ones, and the last of the others.

    Short random words are used up first, so that the last of them are all long. Therefore the
    same share of the words of every length is selected, from the end.

    Args:
        words: All words, the shared ones first.
        args: The parsed command line.

    Returns:
        Indices into ``words``, as many as there are images to test on.
    """
    lengths = [len(word) if args.words is None else 0 for word in words[args.shared :]]
    totals, counts = Counter(lengths), Counter[int]()
    positions = []  # of each word among those of its length, from 0 to 1
    for length in lengths:
        counts[length] += 1
        positions.append((counts[length] - 0.5) / totals[length])
    last_first = sorted(range(len(lengths)), key=positions.__getitem__, reverse=True)
    selected = last_first[: args.test_count - args.shared]
    return {*range(args.shared), *(args.shared + i for i in selected)}


# Files


def image_name(number: int, word: str, names: str) -> str:
    """Returns the file name of an image.

    Args:
        number: Its number, from 1.
        word: Its word.
        names: ``number`` or ``word``, by which it is named.

    Raises:
        DrawError: The word cannot be a file name.
    """
    if names == "word" and not word.isalnum():
        raise DrawError(f"no image can be named after {word!r}: not letters and digits alone")
    stem = word if names == "word" else f"{number:06d}"
    return stem + (".jpg" if number % JPEG_EVERY == 0 else ".png")


def write_images(words: Sequence[str], args: argparse.Namespace) -> list[str]:
    """Draws an image of every word.

    An image depends only on the seed, its number and its word.

    Args:
        words: The words.
        args: The parsed command line.

    Returns:
        One annotation line per word.
    """
    names = [image_name(number, word, args.names) for number, word in enumerate(words, 1)]
    directory = args.out_dir / "images"
    directory.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (name, word) in enumerate(zip(names, words, strict=True), 1):
        image = draw_word(word, Random(f"image {args.seed} {number}"), args.color)
        image.save(directory / name, quality=90)
        lines.append(f"{(directory / name).as_posix()} {word}")
    return lines


def write_set(args: argparse.Namespace) -> None:
    """Draws the images and writes both annotation files.

    Args:
        args: The parsed command line.
    """
    words = choose_words(args)
    lines = write_images(words, args)
    testing = testing_indices(words, args)
    training = [i for i in range(len(words)) if i < args.shared or i not in testing]
    for name, part in (("training", training), ("testing", sorted(testing))):
        text = "".join(f"{lines[i]}\n" for i in part)
        path = args.out_dir / f"annotations-{name}.txt"
        path.write_text(text, encoding="utf-8", newline="\n")


# Command line


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(description="Draws labeled images of single words.")
    add = parser.add_argument
    add("out_dir", metavar="OUT_DIR", type=Path, help="directory to write to")
    add("--count", type=int, default=3000, help="images to train on (%(default)s)")
    add("--test-count", type=int, default=300, help="images to test on (%(default)s)")
    add("--shared", type=int, default=0, help="number of images in both lists (%(default)s)")
    add("--seed", type=int, default=0, help="seed of the set (%(default)s)")
    add("--charset", metavar="CHARS", default=CHARSET, help="characters of words (%(default)s)")
    add("--min-length", type=int, default=3, help="shortest word (%(default)s)")
    add("--max-length", type=int, default=6, help="longest word (%(default)s)")
    add("--words", metavar="FILE", type=Path, help="file of words, one per line")
    add("--names", choices=["number", "word"], default="number", help="what images are named by")
    add("--color", action="store_true", help="draw in color instead of gray")
    return parser


def check_arguments(args: argparse.Namespace) -> None:
    """Checks the arguments, before anything is written.

    Args:
        args: The parsed command line.

    Raises:
        DrawError: An argument is out of its range.
    """
    if any(character.isspace() for character in str(args.out_dir)):
        raise DrawError("OUT_DIR must not hold white space, which ends a path in annotations")
    if args.out_dir.exists() and not args.out_dir.is_dir():
        raise DrawError(f"{args.out_dir} is not a directory")
    if not (1 <= args.count <= MAX_COUNT and 0 <= args.test_count <= MAX_COUNT):
        raise DrawError(f"--count must be 1 to {MAX_COUNT}, and --test-count 0 to {MAX_COUNT}")
    if not 0 <= args.shared <= min(args.count, args.test_count):
        raise DrawError("--shared must be between 0 and the smaller of --count and --test-count")
    if not 1 <= args.min_length <= args.max_length <= MAX_WORD_LENGTH:
        raise DrawError(f"1 <= --min-length <= --max-length <= {MAX_WORD_LENGTH} must hold")
    if not args.charset:
        raise DrawError("--charset must not be empty")
    check_text(args.charset, "--charset")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: The arguments, by default those of the process.

    Returns:
        The exit code: 0, or 1 after an error, which is one line on standard error.
    """
    args = build_parser().parse_args(argv)
    try:
        check_arguments(args)
        write_set(args)
    except (DrawError, OSError, UnicodeError) as error:
        print(f"draw.py: error: {error}", file=sys.stderr)
        return 1
    print(f"{args.out_dir}: {args.count} images to train on, {args.test_count} to test on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
