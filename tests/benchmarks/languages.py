"""Word accuracy of a model on drawn words, by language and by kind of typeface.

    python -m tests.benchmarks.languages [--model MODEL] [--fonts FOLDER] [--count N]

Draws the most frequent words of three letters or more, black on white and without distortion, each
in a typeface chosen at random, and compares texts with case; "-" where a language has fewer words.
The typefaces are those with which `latin` was trained. Needs the packages of
`datasets/drawn/requirements.txt` and the fonts of `datasets/drawn/install_fonts.sh`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw

import aocr
from datasets.drawn import fonts
from datasets.drawn.words import LANGUAGES, WordList, load_vocabulary

_CATEGORIES = ("sans", "serif", "mono", "display", "script", "gothic", "blackletter")
_PLAIN = ("sans", "serif")
_MARGIN = 8  # pixels around a word; capitals are 34 pixels tall
_SHORTEST = 3


def main() -> None:
    """Prints a table of languages, and one of typefaces."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="latin", help="(default: %(default)s)")
    parser.add_argument("--fonts", type=Path, default=Path("~/.cache/aocr-fonts"),
                        help="folder of install_fonts.sh (default: %(default)s)")
    parser.add_argument("--count", type=int, default=200, help="words (default: %(default)s)")
    args = parser.parse_args()
    model = aocr.Recognizer.load(args.model)
    faces = fonts.load_catalogue(args.fonts.expanduser())
    languages = load_vocabulary(0).languages
    plain = [face for face in fonts_of(faces, _PLAIN) if not face.italic]
    print("language  ASCII  beyond ASCII")
    for name in LANGUAGES:
        parts = (frequent(languages[name], ascii_only, args.count) for ascii_only in (True, False))
        accuracies = [f"{accuracy(model, words, draw(words, plain)):.0%}"
                      if len(words) == args.count else "-" for words in parts]
        print(f"{name:<8}{accuracies[0]:>7}{accuracies[1]:>14}", flush=True)
    words = frequent(languages["en"], True, args.count)
    print("\ntypeface, English words")
    for category in _CATEGORIES:
        images = draw(words, fonts_of(faces, [category]))
        print(f"{category:<12}{accuracy(model, words, images):>5.0%}", flush=True)
    turned = [image.transpose(Image.Transpose.ROTATE_90) for image in draw(words, plain)]
    print(f"{'turned 90°':<12}{accuracy(model, words, turned):>5.0%}")


def fonts_of(faces: Sequence[fonts.Face], categories: Sequence[str]) -> list[fonts.Face]:
    """Returns the fonts of some categories; exits if there are none."""
    chosen = [face for face in faces if face.category in categories]
    if not chosen:
        raise SystemExit(f"no fonts of {', '.join(categories)}: run install_fonts.sh again")
    return chosen


def frequent(words: WordList, ascii_only: bool, count: int) -> list[str]:
    """Returns the most frequent words that have only ASCII letters, or also others."""
    chosen = (word for word in words.words
              if len(word) >= _SHORTEST and word.isalpha() and word.isascii() == ascii_only)
    return [word for word, _ in zip(chosen, range(count), strict=False)]


def draw(words: Sequence[str], faces: Sequence[fonts.Face]) -> list[Image.Image]:
    """Draws each word in a typeface that has all its characters."""
    rng = Random(0)
    images = []
    for word in words:
        needed = fonts.bits(word)
        able = [face for face in faces if face.coverage & needed == needed]
        images.append(_draw_word(word, rng.choice(able)))
    return images


def accuracy(model: aocr.Recognizer, words: Sequence[str], images: Sequence[Image.Image]) -> float:
    """Returns the share of the words that the model reads without any error."""
    results = model.predict(images)
    assert isinstance(results, list)
    correct = [result.text == word for result, word in zip(results, words, strict=True)]
    return sum(correct) / len(correct)


def _draw_word(word: str, face: fonts.Face) -> Image.Image:
    font = fonts.load(face.path, face.size)
    left, top, right, bottom = map(round, font.getbbox(word))
    size = (right - left + 2 * _MARGIN, bottom - top + 2 * _MARGIN)
    image = Image.new("L", size, 255)
    ImageDraw.Draw(image).text((_MARGIN - left, _MARGIN - top), word, fill=0, font=font)
    return image


if __name__ == "__main__":
    main()
