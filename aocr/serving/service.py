"""Validates a prediction request, runs it, and enforces the limits; shared by REST and gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import numpy as np

from aocr.config import IMAGE_HEIGHT
from aocr.errors import SkipError
from aocr.images.headers import TOO_LARGE, Size, decoded_size
from aocr.inference.saved_model import DEFAULT_SIGNATURE, IMAGES_SIGNATURE
from aocr.runtime.console import log
from aocr.serving.batching import Batcher, Outputs
from aocr.serving.budget import ByteBudget
from aocr.serving.config import Limits
from aocr.serving.errors import ErrorCode, RequestError, invalid
from aocr.serving.servable import Servable
from aocr.serving.version_manager import VersionManager

_MAX_LARGE_IMAGES = 8  # images of the largest allowed size in a request
_MAX_LARGE_BODIES = 8  # bodies of the largest allowed size that may be in memory together
# Total size in bytes from which headers are read in a thread: a file may consist of a million
# empty chunks, which Pillow takes 10 seconds to skip.
_LARGE_FILES = 64 * 1024


class PredictionService:
    """Runs prediction requests.

    Args:
        versions: The served versions of the model.
        batcher: Runs the model calls.
        limits: Limits on requests.

    Attributes:
        budget: Bytes of the bodies that are being received, and of the inputs of requests that
            have no response yet.
    """

    def __init__(self, versions: VersionManager, batcher: Batcher, limits: Limits) -> None:
        self.versions = versions
        self.limits = limits
        self.budget = ByteBudget(_MAX_LARGE_BODIES * limits.max_body_bytes)
        self._batcher = batcher
        self._inspecting = asyncio.Semaphore(1)

    async def predict(self, servable: Servable, signature: str, inputs: Mapping[str, np.ndarray]
                      ) -> Outputs:
        """Runs a signature.

        Args:
            servable: The model, leased for the duration of the call.
            signature: Name of the signature; empty for the default one.
            inputs: Input tensors by name, with the names and types of the signature.

        Returns:
            Output tensors by name.

        Raises:
            RequestError: A limit is exceeded, or the inputs do not fit the model.
        """
        self._check_images(inputs)
        try:
            with self.budget.hold(sum(map(_size, inputs.values()))):
                return await asyncio.wait_for(
                    self._run(servable, signature or DEFAULT_SIGNATURE, inputs),
                    self.limits.request_seconds)
        except asyncio.TimeoutError as error:
            raise RequestError(ErrorCode.TIMEOUT, "no result within "
                               f"{self.limits.request_seconds:g} seconds") from error
        except RequestError as error:
            if error.code is ErrorCode.INTERNAL:
                log.error(f"A prediction failed: {error}")
            raise

    async def _image_sizes(self, inputs: Mapping[str, np.ndarray]) -> list[Size]:
        """Returns the sizes of all images, as their headers declare them."""
        arrays = {name: array for name, array in inputs.items() if array.dtype == object}

        def read_headers() -> list[Size]:
            return [self._image_size(image, name, array.shape, index)
                    for name, array in arrays.items() for index, image in enumerate(array.flat)]

        if sum(map(_size, arrays.values())) < _LARGE_FILES:
            return read_headers()
        async with self._inspecting:
            return await asyncio.to_thread(read_headers)

    def _image_size(self, encoded: bytes, name: str, shape: tuple[int, ...], index: int) -> Size:
        try:
            return decoded_size(encoded, self.limits.max_pixels)
        except SkipError as error:
            too_large = error.reason == TOO_LARGE
            code = ErrorCode.TOO_LARGE if too_large else ErrorCode.INVALID_ARGUMENT
            raise RequestError(code, error.detail).at(name, shape, index) from error

    def _preprocessed_sizes(self, servable: Servable, images: np.ndarray) -> list[Size]:
        """Returns the sizes of images that a client has scaled; refuses too wide ones."""
        if images.ndim != 4:
            raise invalid("input 'images': expected the shape [batch, 32, width, channels], got "
                          f"{list(images.shape)}")
        batch, height, width, _ = images.shape
        max_width = servable.max_width or self.limits.max_pixels // IMAGE_HEIGHT
        if width > max_width:
            raise RequestError(ErrorCode.TOO_LARGE, f"input 'images': expected a width of at most "
                               f"{max_width}, got {width}; squeeze wider images to it")
        return [Size(width, height)] * batch

    async def _run(self, servable: Servable, signature: str, inputs: Mapping[str, np.ndarray]
                   ) -> Outputs:
        if signature == IMAGES_SIGNATURE:
            sizes = self._preprocessed_sizes(servable, inputs["images"])
        else:
            sizes = await self._image_sizes(inputs)
        self._check_pixels(sizes)
        # Only the default signature has one value per image. Outputs of the others are as long
        # as the longest text of their batch, so that sharing a call would change the response.
        images = inputs.get("input")
        if images is None or not images.size:
            return await self._batcher.run_alone(servable, signature, inputs, sizes)
        if signature == DEFAULT_SIGNATURE:
            return await self._run_batched(servable, images, sizes)
        try:
            return await self._batcher.run_alone(servable, signature, inputs, sizes)
        except RequestError as error:
            if error.code is ErrorCode.INVALID_ARGUMENT and images.shape:
                # This error does not name the undecodable image; errors of single images do.
                await self._run_batched(servable, images, sizes)
            raise

    async def _run_batched(self, servable: Servable, images: np.ndarray, sizes: list[Size]
                           ) -> Outputs:
        """Runs the default signature; the error of an image names its position."""
        results = []
        for index, result in enumerate(
                await self._batcher.run_batched(servable, list(images.flat), sizes)):
            if isinstance(result, RequestError):
                raise result.at("input", images.shape, index)
            results.append(result)
        return {name: np.concatenate([outputs[name] for outputs in results]).reshape(images.shape)
                for name in results[0]}

    def _check_pixels(self, sizes: list[Size]) -> None:
        pixels = sum(size.width * size.height for size in sizes)
        max_pixels = _MAX_LARGE_IMAGES * self.limits.max_pixels
        if pixels > max_pixels:
            raise RequestError(ErrorCode.TOO_LARGE, f"the images of the request have {pixels} "
                               f"pixels together; at most {max_pixels} are accepted "
                               f"({_MAX_LARGE_IMAGES} times --max-pixels)")

    def _check_images(self, inputs: Mapping[str, np.ndarray]) -> None:
        for array in inputs.values():
            rows = array.shape[0] if array.shape else 1
            images = max(rows, array.size) if array.dtype == object else rows
            if images > self.limits.max_images:
                raise RequestError(ErrorCode.TOO_LARGE, f"{images} images in a request; at most "
                                   f"{self.limits.max_images} are accepted (--max-images)")


def _size(array: np.ndarray) -> int:
    """Returns the bytes of a tensor, of strings those of their content."""
    return sum(map(len, array.flat)) if array.dtype == object else array.nbytes
