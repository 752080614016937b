"""Base of the recognizers that decode and scale images with Pillow and NumPy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np

from aocr.config import COLUMN_PIXELS, ModelConfig
from aocr.errors import SkipError
from aocr.images import numpy_preprocessing
from aocr.inference.recognizer import Recognizer, Result
from aocr.tokenizer import Tokenizer


class NumpyRecognizer(Recognizer):
    """A recognizer whose model takes images as arrays, without TensorFlow."""

    def __init__(self, source: str, config: ModelConfig, max_pixels: int) -> None:
        super().__init__(source, config, max_pixels)
        self._tokenizer = Tokenizer(config.alphabet)

    @abstractmethod
    def _run(self, images: np.ndarray, widths: np.ndarray) -> Sequence[np.ndarray]:
        """Runs the model.

        Args:
            images: `[batch, 32, width, channels]`.
            widths: `[batch]` int32, width of each image without padding.

        Returns:
            The values of `aocr.inference.onnx_model.OUTPUTS`.
        """

    def _predict_batch(self, encoded: list[bytes], attention: bool) -> list[Result | SkipError]:
        results: dict[int, Result | SkipError] = {}
        images: dict[int, np.ndarray] = {}
        for n, image in enumerate(encoded):
            try:
                images[n] = numpy_preprocessing.preprocess(image, self.config, self._max_pixels)
            except SkipError as error:
                results[n] = error
        if images:
            batch = numpy_preprocessing.pad_batch(list(images.values()))
            results.update(zip(images, self._recognize(*batch, attention), strict=True))
        return [results[n] for n in range(len(encoded))]

    def _recognize(self, images: np.ndarray, widths: np.ndarray, attention: bool
                   ) -> Iterator[Result]:
        outputs = self._run(images, widths)
        for ids, probability, probabilities, weights, width in zip(*outputs, widths, strict=True):
            characters = self._tokenizer.characters(ids.tolist())
            steps = [step for step, _ in characters]
            columns = -(-int(width) // COLUMN_PIXELS)
            yield Result(
                text="".join(character for _, character in characters),
                probability=float(probability),
                characters=tuple((character, float(probabilities[step]))
                                 for step, character in characters),
                attention=weights[steps, :columns] if attention else None, width=int(width))
