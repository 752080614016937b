"""The images of the benchmarks: real ones from `../shared/data` if it exists, otherwise drawn."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aocr.config import PRINTABLE_ASCII, ModelConfig
from aocr.data import pipeline, sampler, writer
from aocr.data.index import build_index
from aocr.tokenizer import Tokenizer
from tests import drawing

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
_DIGITS = "0123456789"
_SEED = 1
_DRAWN_IMAGES = 400


@dataclass(frozen=True)
class ImageSet:
    """A set of labeled images with a training and a test part.

    Attributes:
        name: Directory name of the set in the shared data.
        config: Sizes that fit the set, and a fixed alphabet.
        min_width: Smallest width of drawn images in pixels.
        max_width: Largest width of drawn images in pixels.
        height: Height of drawn images in pixels.
    """

    name: str
    config: ModelConfig
    min_width: int
    max_width: int
    height: int

    def annotations(self, part: str, directory: Path) -> Path:
        """Returns the annotation file of "train" or "test"; draws the images if necessary."""
        real = SHARED / self.name / f"annotations-{part}.txt"
        return real if real.exists() else self._draw(part, directory)

    def records(self, part: str, directory: Path, limit: int | None = None) -> Path:
        """Writes the first `limit` images of "train" or "test" to a TFRecords file."""
        annotations = self.annotations(part, directory)
        lines = annotations.read_text(encoding="utf-8").splitlines()[:limit]
        absolute = directory / f"{self.name}-{part}.txt"
        absolute.write_text("".join(f"{annotations.parent}/{line}\n" for line in lines),
                            encoding="utf-8")
        output = directory / f"{self.name}-{part}.tfrecords"
        writer.write_dataset(str(absolute), str(output),
                             writer.DatasetOptions(force_uppercase=False))
        return output

    def _draw(self, part: str, directory: Path) -> Path:
        random = np.random.default_rng([_SEED, len(part)])
        images = directory / f"{self.name}-{part}-images"
        images.mkdir(exist_ok=True)
        lines = []
        for n in range(_DRAWN_IMAGES):
            size = (int(random.integers(self.min_width, self.max_width + 1)), self.height)
            text = "".join(random.choice(list(_DIGITS), min(4, self.config.max_prediction)))
            (images / f"{n}.png").write_bytes(drawing.encoded(drawing.word(text, size)))
            lines.append(f"{images.name}/{n}.png {text}\n")
        path = directory / f"{self.name}-{part}-annotations.txt"
        path.write_text("".join(lines), encoding="utf-8")
        return path


DIGITS = ImageSet("captcha-digits", ModelConfig(70, 30, 4, _DIGITS), 70, 70, 30)
LINES = ImageSet("receipt-lines", ModelConfig(1800, 125, 40, PRINTABLE_ASCII), 200, 1440, 60)
WORDS = ImageSet("scene-words", ModelConfig(537, 42, 25, PRINTABLE_ASCII), 20, 430, 40)


def training_batches(image_set: ImageSet, part: str, batch_size: int, directory: Path,
                     limit: int | None = None, augment: str = "off"
                     ) -> Iterator[tuple[pipeline.Batch, np.ndarray]]:
    """Yields the batches of a training run without end, each with the widths of its images."""
    config = image_set.config
    tokenizer = Tokenizer(config.alphabet)
    index = build_index([str(image_set.records(part, directory, limit))], config, tokenizer)

    def plans() -> Iterator[sampler.BatchPlan]:
        return sampler.training_batches(index, batch_size, 0, sampler.Position(0, 0))

    records = (pipeline.BatchRecords.of_epoch(plan.records, plan.epoch) for plan in plans())
    data = pipeline.make_training_pipeline(
        index, records, tokenizer, config, pipeline.Augmentation(augment, seed=0))
    for plan, batch in zip(plans(), pipeline.iterate(data), strict=False):
        yield batch, index.width[plan.records]


def temporary_directory() -> tempfile.TemporaryDirectory[str]:
    """Creates a directory for the files of a benchmark."""
    return tempfile.TemporaryDirectory(prefix="aocr-benchmark-")
