"""Limits on the images of the signature `serving_images`."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import numpy as np
import pytest

from tests import serving

serving.require_extra()

from aocr.serving.batching import Batcher  # noqa: E402
from aocr.serving.config import Limits, ServerOptions  # noqa: E402
from aocr.serving.errors import ErrorCode, RequestError  # noqa: E402
from aocr.serving.metrics import ServerMetrics  # noqa: E402
from aocr.serving.servable import Servable  # noqa: E402
from aocr.serving.service import PredictionService  # noqa: E402
from aocr.serving.version_manager import VersionManager  # noqa: E402

DTYPES: dict[str, np.dtype[Any]] = {"images": np.dtype(np.float32), "widths": np.dtype(np.int32)}


def predict(*shape: int, max_width: int | None = 100, limits: Limits | None = None
            ) -> dict[str, np.ndarray]:
    """Runs `serving_images` with images of a shape, on a model of a largest width."""
    async def main() -> dict[str, np.ndarray]:
        model, options = serving.Model(DTYPES), ServerOptions(limits=limits or Limits())
        model.max_width = max_width
        batcher = Batcher(options, ServerMetrics())
        service = PredictionService(cast("VersionManager", model), batcher, options.limits)
        inputs = {"images": np.zeros(shape, np.float32), "widths": np.array([1], np.int32)}
        try:
            return await service.predict(cast("Servable", model), "serving_images", inputs)
        finally:
            await batcher.close()

    return asyncio.run(main())


@pytest.mark.parametrize("shape", [(), (32,), (32, 40, 1), (1, 32, 100_000), (1, 1, 32, 40, 1)])
def test_images_that_are_no_batch_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match=r"expected the shape \[batch, 32, width, channels\]"
                       ) as raised:
        predict(*shape)
    assert raised.value.code is ErrorCode.INVALID_ARGUMENT


def test_images_up_to_the_largest_width_are_accepted() -> None:
    assert predict(2, 32, 100, 1)["output"].shape == (2, 32, 100, 1)
    with pytest.raises(RequestError, match="a width of at most 100, got 101") as raised:
        predict(1, 32, 101, 1)
    assert raised.value.code is ErrorCode.TOO_LARGE


def test_without_a_stated_width_the_limit_on_pixels_applies() -> None:
    limits = Limits(max_pixels=32 * 200)
    assert predict(8, 32, 200, 1, max_width=None, limits=limits)["output"].shape[2] == 200
    for shape, message in (((1, 32, 201, 1), "a width of at most 200, got 201"),
                           ((9, 32, 200, 1), "57600 pixels together; at most 51200")):
        with pytest.raises(RequestError, match=message):
            predict(*shape, max_width=None, limits=limits)


def test_every_image_counts_in_the_queue() -> None:
    with pytest.raises(RequestError, match="--max-queue"):
        predict(3, 32, 40, 1, limits=Limits(max_queue=2))
