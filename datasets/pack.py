"""Packs the weights of a model directory into a compact model, such as those that come with aocr.

The packages of the extra `onnx` must be installed.

    python datasets/pack.py MODEL_DIR DIRECTORY --trained-on TEXT

The weights are those of the best checkpoint, or of the latest if there is no best one, rounded to
float16. `config.json` keeps TEXT, which `aocr --version` shows for a built-in model, and has a
temperature of 1. `graph.onnx`, with which ONNX Runtime runs the model, depends on its sizes, not on
its weights.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from aocr.checkpoints import compact, config_file, loader
from aocr.errors import AocrError
from aocr.inference import onnx_export


def main() -> None:
    """Writes the compact model."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_dir", metavar="MODEL_DIR")
    parser.add_argument("directory", type=Path, metavar="DIRECTORY")
    parser.add_argument("--trained-on", required=True, metavar="TEXT")
    args = parser.parse_args()
    try:
        onnx_export.require_packages()
        loaded = loader.load(args.model_dir)
    except AocrError as error:
        parser.exit(1, f"{error}\n")
    args.directory.mkdir(parents=True, exist_ok=True)
    compact.save(loaded.model, str(args.directory))
    # A temperature that fits drawn validation images makes the probabilities of real ones too high.
    config = dataclasses.replace(loaded.config, temperature=1.0)
    config_file.save(str(args.directory), config, {"about": {"trained_on": args.trained_on}})
    onnx_export.write_graph(loaded.model, config, str(args.directory))
    size = sum(path.stat().st_size for path in args.directory.iterdir())
    print(f"{loaded.path}: packed into {args.directory}, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
