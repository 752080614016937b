"""A contact sheet of augmented images."""

from __future__ import annotations

import io

import numpy as np
import tensorflow as tf
from PIL import Image

from aocr.config import ModelConfig
from aocr.data import pipeline, skipping
from aocr.data.index import RecordIndex
from aocr.data.pipeline import Augmentation, BatchRecords
from aocr.errors import AocrError, reason
from aocr.images import preprocessing
from aocr.tokenizer import Tokenizer

IMAGES = 10
EPOCHS = 8
_GAP = 4  # pixels between two images
_FRAME = (200, 60, 160)  # a color that images of text rarely have
_SHEET_WIDTH = 1600  # pixels, at most, before enlargement
_ENLARGEMENT = 2


def write(path: str, index: RecordIndex, tokenizer: Tokenizer, config: ModelConfig,
          augmented: Augmentation) -> int:
    """Writes a PNG file that shows each image unchanged and as the first epochs will show it.

    Args:
        path: The file.
        index: The records, of which up to `IMAGES` are shown.
        tokenizer: Encodes the labels.
        config: Size and channels of the images.
        augmented: How the images are augmented.

    Returns:
        The number of images.

    Raises:
        AocrError: No image can be decoded, or the file cannot be written.
    """
    records = np.linspace(0, len(index) - 1, min(IMAGES, len(index))).round().astype(np.int64)
    plans = [BatchRecords.of_epoch(records, epoch) for epoch in range(EPOCHS)]
    unchanged = pipeline.make_pipeline(index, [records], tokenizer, config)
    distorted = pipeline.make_training_pipeline(index, plans, tokenizer, config, augmented)
    versions = [*pipeline.iterate(unchanged), *pipeline.iterate(distorted)]
    widths = versions[0].widths.numpy()
    skipped = [*pipeline.undecodable(index, pipeline.undecoded(records, versions[0])).values()]
    skipping.require_usable(len(widths), skipped)
    if skipped:
        skipping.report(skipped, len(widths), "to show")
    sheet = draw(np.stack([version.images for version in versions]), widths)
    content = io.BytesIO()
    sheet.save(content, "PNG")
    try:
        with tf.io.gfile.GFile(path, "wb") as file:
            file.write(content.getvalue())
    except tf.errors.OpError as error:
        raise AocrError(f"cannot write {path}: {reason(error)}") from error
    return len(widths)


def draw(images: np.ndarray, widths: np.ndarray) -> Image.Image:
    """Draws images in a grid; versions of wide images continue in the next line.

    Args:
        images: `[versions, rows, 32, width, channels]`, as the network's input.
        widths: Width of the images of each row, `[rows]`.
    """
    versions, rows, height, width, _ = images.shape
    columns = int(np.clip(_SHEET_WIDTH // (width + _GAP), 1, versions))
    lines = -(-versions // columns)
    cells = np.full([rows, lines * columns, height + _GAP, width + _GAP, 3], _FRAME, np.uint8)
    values = preprocessing.denormalize(images)
    for row, row_width in enumerate(widths):
        cells[row, :versions, :height, :row_width] = values[:, row, :, :row_width]
    grid = cells.reshape(rows, lines, columns, height + _GAP, width + _GAP, 3).swapaxes(2, 3)
    pixels = grid.reshape(rows * lines * (height + _GAP), columns * (width + _GAP), 3)
    sheet = Image.fromarray(pixels)
    return sheet.resize((sheet.width * _ENLARGEMENT, sheet.height * _ENLARGEMENT),
                        Image.Resampling.NEAREST)
