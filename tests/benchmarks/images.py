"""What is measured on: the real images in `../shared/data` where they are, else drawn ones."""

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


@dataclass(frozen=True)
class Set:
    """A set of images.

    Attributes:
        name: Its folder in the shared data.
        config: The settings that `aocr dataset` proposes for it, with a fixed alphabet.
        narrowest: Narrowest image that is drawn where the real ones are not there.
        widest: Widest one.
        height: Their height.
    """

    name: str
    config: ModelConfig
    narrowest: int
    widest: int
    height: int

    def annotations(self, part: str, folder: Path) -> Path:
        """The annotation file of "train" or "test", drawn into `folder` if need be."""
        real = SHARED / self.name / f"annotations-{part}.txt"
        return real if real.exists() else self._drawn(part, folder)

    def records(self, part: str, folder: Path, most: int | None = None) -> Path:
        """The TFRecords file of "train" or "test", of the first `most` images."""
        annotations = self.annotations(part, folder)
        lines = annotations.read_text(encoding="utf-8").splitlines()[:most]
        chosen = folder / f"{self.name}-{part}.txt"
        chosen.write_text("".join(f"{annotations.parent}/{line}\n" for line in lines),
                          encoding="utf-8")
        output = folder / f"{self.name}-{part}.tfrecords"
        writer.write_dataset(str(chosen), str(output), writer.DatasetOptions(force_uppercase=False))
        return output

    def _drawn(self, part: str, folder: Path) -> Path:
        random = np.random.default_rng([_SEED, len(part)])
        images = folder / f"{self.name}-{part}-images"
        images.mkdir(exist_ok=True)
        lines = []
        for n in range(400):
            size = (int(random.integers(self.narrowest, self.widest + 1)), self.height)
            text = "".join(random.choice(list(_DIGITS), min(4, self.config.max_prediction)))
            (images / f"{n}.png").write_bytes(drawing.encoded(drawing.word(text, size)))
            lines.append(f"{images.name}/{n}.png {text}\n")
        path = folder / f"{self.name}-{part}-annotations.txt"
        path.write_text("".join(lines), encoding="utf-8")
        return path


DIGITS = Set("captcha-digits", ModelConfig(70, 30, 4, _DIGITS), 70, 70, 30)
LINES = Set("receipt-lines", ModelConfig(1800, 125, 40, PRINTABLE_ASCII), 200, 1440, 60)
WORDS = Set("scene-words", ModelConfig(537, 42, 25, PRINTABLE_ASCII), 20, 430, 40)


def loaded(chosen: Set, part: str, size: int, folder: Path, most: int | None = None
           ) -> Iterator[tuple[pipeline.Batch, np.ndarray]]:
    """Batches as a training reads them, one epoch after the other, and all their widths."""
    tokenizer = Tokenizer(chosen.config.alphabet)
    index = build_index([str(chosen.records(part, folder, most))], chosen.config, tokenizer)

    def plan() -> Iterator[np.ndarray]:
        for planned in sampler.training_batches(index, size, 0, 0, 0):
            yield planned.records

    data = pipeline.make_pipeline(index, plan(), tokenizer, chosen.config)
    for numbers, batch in zip(plan(), pipeline.iterate(data), strict=False):
        yield batch, index.width[numbers]


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for what a measurement writes."""
    return tempfile.TemporaryDirectory(prefix="aocr-benchmark-")
