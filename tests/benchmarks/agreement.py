"""How many test images of the image sets of README.md two models read differently.

    python -m tests.benchmarks.agreement MODEL OTHER

For example the checkpoint that a built-in model was packed from, and the packed model with its
weights rounded to float16. Prints each difference, and the number of images by set.
"""

from __future__ import annotations

import argparse

import aocr
from tests.benchmarks import peers


def main() -> None:
    """Reads all sets with both models."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs=2, metavar="MODEL",
                        help="directory of a model, or the name of a built-in one")
    args = parser.parse_args()
    models = [aocr.Recognizer.load(name) for name in args.models]
    images = differences = 0
    for name in peers.SETS:
        paths, _ = peers.images_of(name)
        texts = [peers.read_with_aocr(model, paths) for model in models]
        different = [(path, *pair) for path, *pair in zip(paths, *texts, strict=True)
                     if pair[0] != pair[1]]
        for path, first, second in different:
            print(f"{path}: {first!r}, {second!r}")
        print(f"{name}: {len(different)} of {len(paths)} images", flush=True)
        images += len(paths)
        differences += len(different)
    print(f"all: {differences} of {images} images")


if __name__ == "__main__":
    main()
