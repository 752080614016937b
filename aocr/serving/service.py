"""What both doors share: a question to a signature, checked, run, and answered in time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import numpy as np

from aocr.errors import SkipError
from aocr.images.header_ops import TOO_LARGE
from aocr.images.headers import Size, inspect
from aocr.serving.batching import Batcher, Outputs
from aocr.serving.config import Limits
from aocr.serving.errors import ErrorCode, RequestError, invalid
from aocr.serving.servable import DEFAULT, Servable
from aocr.serving.version_manager import VersionManager

_LARGE_IMAGES = 8  # of the largest size allowed, in a request


class PredictionService:
    """Answers questions whose tensors are there.

    Args:
        versions: Which models there are.
        batcher: The way to them.
        limits: What is refused.

    Attributes:
        versions: As given.
        limits: As given.
    """

    def __init__(self, versions: VersionManager, batcher: Batcher, limits: Limits) -> None:
        self.versions = versions
        self.limits = limits
        self._batcher = batcher

    async def answer(self, servable: Servable, signature: str, inputs: Mapping[str, np.ndarray]
                     ) -> Outputs:
        """The outputs of a signature.

        Args:
            servable: The model, leased for as long as this takes.
            signature: Its signature; empty for the default one.
            inputs: The input tensors.

        Raises:
            RefusalError: A limit is passed, or the model cannot take the inputs.
        """
        self._check_inputs(servable, signature, inputs)
        sizes = [self._size(image)
                 for array in inputs.values() if array.dtype == object for image in array.flat]
        pixels = sum(size.width * size.height for size in sizes)
        if pixels > _LARGE_IMAGES * self.limits.max_pixels:
            raise RequestError(ErrorCode.TOO_LARGE, f"{pixels} pixels in a request; at most "
                               f"{_LARGE_IMAGES} times --max-pixels are read")
        try:
            return await asyncio.wait_for(self._run(servable, signature or DEFAULT, inputs, sizes),
                                          self.limits.seconds)
        except asyncio.TimeoutError as error:
            raise RequestError(ErrorCode.TOO_LATE, "no answer within "
                               f"{self.limits.seconds:g} seconds") from error

    def _size(self, encoded: bytes) -> Size:
        try:
            return inspect(encoded, self.limits.max_pixels)
        except SkipError as error:
            large = error.reason == TOO_LARGE
            raise RequestError(ErrorCode.TOO_LARGE if large else ErrorCode.INVALID,
                               error.detail) from error

    async def _run(self, servable: Servable, signature: str, inputs: Mapping[str, np.ndarray],
                   sizes: list[Size]) -> Outputs:
        # Only the default signature has one value an image. The others' outputs are as wide as
        # the longest text of their call: a shared call would show in the reply.
        question = inputs.get("input")
        if signature != DEFAULT or question is None or not question.size:
            return await self._batcher.call(servable, signature, inputs, sizes)
        answers = await self._batcher.read(servable, list(question.flat), sizes)
        return {name: np.concatenate([answer[name] for answer in answers]).reshape(question.shape)
                for name in answers[0]}

    def _check_inputs(self, servable: Servable, signature: str,
                      inputs: Mapping[str, np.ndarray]) -> None:
        wanted = servable.inputs(signature)
        if set(inputs) != set(wanted):
            raise invalid(f"expected the inputs {', '.join(sorted(wanted))}, got "
                          f"{', '.join(sorted(inputs)) or 'none'}")
        for name, array in inputs.items():
            if array.dtype != wanted[name]:
                raise invalid(f"input {name!r}: expected the type {wanted[name]}, got "
                              f"{array.dtype}")
            rows = array.shape[0] if array.shape else 1
            images = max(rows, array.size) if array.dtype == object else rows
            if images > self.limits.max_images:
                raise RequestError(ErrorCode.TOO_LARGE, f"{images} images in a request; at most "
                                   f"{self.limits.max_images} are read (--max-images)")
