"""A small world that the commands themselves have made: images, records, a model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # two libraries' threads fight for two cores

import pytest
from PIL import Image, ImageDraw, ImageFont

from aocr.cli import main

WORDS = ("HELLO", "WORLD", "A1", "B22", "C333", "TEN", "42", "X")


@dataclass(frozen=True)
class World:
    """Where everything is.

    Attributes:
        root: The folder of it all; its annotations hold relative to it.
        images: The image files, one for each of `WORDS`.
        annotations: The annotation file.
        records: The TFRecords file, with comments.
        model_dir: A model of two steps on the records.
        log: What `dataset` and `train` have logged.
    """

    root: Path
    images: list[Path]
    annotations: Path
    records: Path
    model_dir: Path
    log: Path


def draw(word: str, path: Path, size: tuple[int, int] | None = None) -> Path:
    """Draws a word, dark on light; the ending of the path chooses the format."""
    font = ImageFont.load_default(24)
    image = Image.new("L", size or (int(font.getlength(word)) + 12, 32), 230)
    ImageDraw.Draw(image).text((6, 2), word, fill=20, font=font)
    image.save(path)
    return path


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Eight words, their records, and a model that has seen them twice."""
    root = tmp_path_factory.mktemp("world")
    (root / "images").mkdir()
    images = [draw(word, root / "images" / f"{n}{('.png', '.jpg')[n % 2]}")
              for n, word in enumerate(WORDS)]
    lines = [f"images/{path.name} {word}" for path, word in zip(images, WORDS, strict=True)]
    annotations = root / "annotations.txt"
    annotations.write_text("\n".join(lines) + "\n", encoding="utf-8")
    made = World(root, images, annotations, root / "words.tfrecords", root / "checkpoints",
                 root / "world.log")
    log = ["--log-path", str(made.log)]
    assert main(["dataset", str(annotations), str(made.records), "--save-filename", *log]) == 0
    assert main(["train", str(made.records), "--model-dir", str(made.model_dir), "--batch-size",
                 "4", "--max-steps", "2", "--steps-per-checkpoint", "1", *log]) == 0
    return made
