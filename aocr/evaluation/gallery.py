"""The images that a report shows: a selection, read again with their attention."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from aocr.data import pipeline
from aocr.data.index import RecordIndex
from aocr.evaluation.details import Details
from aocr.evaluation.scoring import ImageScore, score_batch
from aocr.images import preprocessing
from aocr.inference.tensorflow_recognizer import CheckpointRecognizer
from aocr.runtime.console import progress_bar

_LEAST_CORRECT = 0.1  # share of the images that is reserved for correct ones
_WEBP = {"quality": 75, "method": 2}  # the default method takes twice as long for 2 % fewer bytes
_ATTENTION_LEVELS = 32  # fewer than 256 compress better and look the same


@dataclass(frozen=True)
class GalleryImage:
    """An image of a report.

    Attributes:
        dataset: Path of the TFRecords file.
        number: Number of the record in the file, from 1.
        position: Position of the record in the index.
        label: The label.
        comment: The comment of the record, which may be empty.
        text: The prediction.
        probability: Its probability.
        characters: Its characters with their probabilities.
        loss: Teacher-forced loss.
        width: Width of the network's input in pixels.
        thumbnail: The network's input as a WebP file in base64.
        attention: A row for each character and a column for each feature column, as a PNG file in
            base64; each row's maximum is white. Empty if there is no character.
    """

    dataset: str
    number: int
    position: int
    label: str
    comment: str
    text: str
    probability: float
    characters: tuple[tuple[str, float], ...]
    loss: float
    width: int
    thumbnail: str
    attention: str


def select(details: Details, most: int) -> np.ndarray:
    """Selects images: the incorrect ones with most errors, then a sample of the correct ones.

    Args:
        details: Results of all images.
        most: Maximum number of images.

    Returns:
        Their positions in the index, `[selected]` int64. If there are too many incorrect images,
        a tenth are correct ones.
    """
    order = np.lexsort((-details.probabilities, -details.errors))
    incorrect = order[:int(np.count_nonzero(details.errors))]
    correct = order[len(incorrect):]
    least_correct = min(len(correct), int(most * _LEAST_CORRECT))
    incorrect = incorrect[:most - least_correct]
    sample = np.random.default_rng(0).permutation(correct)[:most - len(incorrect)]
    return details.positions[np.concatenate([incorrect, sample])]


def read(recognizer: CheckpointRecognizer, index: RecordIndex, positions: np.ndarray,
         batch_size: int) -> list[GalleryImage]:
    """Reads some images again, in the order of `positions`.

    The selection is known only after all images have been read, and attention and pictures of
    all of them might not fit in memory.
    """
    by_width = positions[np.argsort(index.width[positions], kind="stable")]
    batches = [by_width[n:n + batch_size] for n in range(0, len(by_width), batch_size)]
    data = pipeline.make_pipeline(index, batches, recognizer.graph.tokenizer,
                                  recognizer.graph.config)
    images: dict[int, GalleryImage] = {}
    with progress_bar(total=len(positions), unit="image", desc="report") as progress:
        for numbers, batch in zip(batches, pipeline.iterate(data), strict=True):
            images |= {image.position: image
                       for image in _images(recognizer, index, numbers, batch)}
            progress.update(len(numbers))
    return [images[position] for position in positions.tolist() if position in images]


def _images(recognizer: CheckpointRecognizer, index: RecordIndex, numbers: np.ndarray,
            batch: pipeline.Batch) -> Iterator[GalleryImage]:
    scores = {score.number: score for score in score_batch(recognizer, numbers, batch, True)}
    for position, pixels in zip(batch.records.numpy().tolist(), batch.images.numpy(), strict=True):
        score = scores[position]
        yield GalleryImage(
            index.path(position), int(index.number[position]), position, score.label or "",
            score.comment, score.text, score.probability, score.result().characters, score.loss,
            score.width, _thumbnail(pixels[:, :score.width]), _attention(score))


def _thumbnail(pixels: np.ndarray) -> str:
    """Encodes the network's input, `[32, width, channels]`."""
    levels = preprocessing.denormalize(pixels)
    image = Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)
    return _encode(image, "WEBP", **_WEBP)


def _attention(score: ImageScore) -> str:
    if not score.characters:
        return ""
    weights = np.nan_to_num(np.array(score.attention, np.float32), posinf=0, neginf=0)
    shares = weights / np.maximum(weights.max(1, keepdims=True), np.finfo(np.float32).tiny)
    levels = np.rint(shares * (_ATTENTION_LEVELS - 1)) * (255 / (_ATTENTION_LEVELS - 1))
    return _encode(Image.fromarray(np.rint(levels).astype(np.uint8)), "PNG")


def _encode(image: Image.Image, kind: str, **options: int) -> str:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return base64.b64encode(out.getvalue()).decode()
