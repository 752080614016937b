"""The images that a report shows: a selection, with their pictures and their attention."""

from __future__ import annotations

import base64
import io
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from aocr.data import pipeline
from aocr.data.index import RecordIndex
from aocr.evaluation.details import Details, KeptImage
from aocr.evaluation.report import EvaluationRow
from aocr.images import preprocessing
from aocr.inference.graph import RecognitionGraph
from aocr.inference.recognizer import Result
from aocr.runtime.console import progress_bar
from aocr.tokenizer import normalize

_LEAST_CORRECT = 0.1  # share of the images that is reserved for correct ones
_BATCH_SIZE = 64
_WEBP = {"quality": 75, "method": 2}  # the default method takes twice as long for 2 % fewer bytes
_ATTENTION_LEVELS = 32  # fewer than 256 compress better and look the same


@dataclass(frozen=True)
class GalleryImage:
    """An image of a report.

    Attributes:
        position: Position of the record in the index.
        row: The results.
        result: The prediction, with its text in Unicode form NFC as the label.
        thumbnail: The network's input as a WebP file in base64.
        attention: A row for each character and a column for each feature column, as a PNG file in
            base64; each row's maximum is white. Empty if there is no character.
    """

    position: int
    row: EvaluationRow
    result: Result
    thumbnail: str
    attention: str


def select(details: Details, max_images: int) -> list[KeptImage]:
    """Selects images: the incorrect ones with max_images errors, then a sample of the correct ones.

    Args:
        details: Results of all images, with the rows of at least `max_images` of either.
        max_images: Maximum number of images. A tenth are correct ones, if there are too many
            others.
    """
    least_correct = min(len(details.correct), int(max_images * _LEAST_CORRECT))
    incorrect = details.worst()[:max_images - least_correct]
    count = min(len(details.correct), max_images - len(incorrect))
    return incorrect + random.Random(0).sample(details.correct, count)


def load(graph: RecognitionGraph, index: RecordIndex, selection: list[KeptImage]
         ) -> list[GalleryImage]:
    """Returns the selected images with their pictures, which are read again.

    The selection is known only after the evaluation, and pictures of all images might not fit in
    memory.
    """
    rows = dict(selection)
    positions = np.array(list(rows), np.int64)
    by_width = positions[np.argsort(index.width[positions], kind="stable")]
    batches = [by_width[n:n + _BATCH_SIZE] for n in range(0, len(by_width), _BATCH_SIZE)]
    data = pipeline.make_pipeline(index, batches, graph.tokenizer, graph.config)
    thumbnails: dict[int, str] = {}
    with progress_bar(total=len(selection), unit="image", desc="report") as progress:
        for batch in pipeline.iterate(data):
            for position, width, pixels in zip(batch.records.numpy().tolist(), batch.widths.numpy(),
                                               batch.images.numpy(), strict=True):
                thumbnails[position] = _thumbnail(pixels[:, :width])
            progress.update(len(batch.records))
    shown = [(position, row, in_nfc(row.result)) for position, row in selection
             if position in thumbnails]
    return [GalleryImage(position, row, result, thumbnails[position], _attention(result))
            for position, row, result in shown]


def in_nfc(result: Result) -> Result:
    """Returns a prediction with its text in Unicode form NFC.

    Characters that are composed become one, with the product of their probabilities and the mean
    of their attention.
    """
    characters: list[tuple[str, float]] = []
    sources: list[slice] = []  # of each character, its characters in `result`
    for part in _composed_parts(result.text):
        composed = normalize(result.text[part])
        probability = math.prod(value for _, value in result.characters[part])
        characters += [(character, probability) for character in composed]
        sources += [part] * len(composed)
    attention = result.attention
    if attention is not None and sources:
        attention = np.stack([attention[part].mean(0) for part in sources])
    return replace(result, text=normalize(result.text), characters=tuple(characters),
                   attention=attention)


def _composed_parts(text: str) -> Iterator[slice]:
    """Yields the smallest parts of a text that can be normalized separately."""
    start = 0
    for end in range(1, len(text) + 1):
        if normalize(text[start:]) == normalize(text[start:end]) + normalize(text[end:]):
            yield slice(start, end)
            start = end


def _thumbnail(pixels: np.ndarray) -> str:
    """Encodes the network's input, `[32, width, channels]`."""
    levels = preprocessing.denormalize(pixels)
    image = Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)
    return _encode(image, "WEBP", **_WEBP)


def _attention(result: Result) -> str:
    if not result.characters or result.attention is None:
        return ""
    weights = np.nan_to_num(result.attention, posinf=0, neginf=0)
    shares = weights / np.maximum(weights.max(1, keepdims=True), np.finfo(np.float32).tiny)
    levels = np.rint(shares * (_ATTENTION_LEVELS - 1)) * (255 / (_ATTENTION_LEVELS - 1))
    return _encode(Image.fromarray(np.rint(levels).astype(np.uint8)), "PNG")


def _encode(image: Image.Image, kind: str, **options: int) -> str:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return base64.b64encode(out.getvalue()).decode()
