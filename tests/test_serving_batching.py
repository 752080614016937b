"""The request queue, with a model that records its calls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytest

from tests import serving

serving.require_extra()

from aocr.errors import AocrError  # noqa: E402
from aocr.images.headers import Size  # noqa: E402
from aocr.serving.batching import Batcher, Outputs  # noqa: E402
from aocr.serving.config import Limits, ServerOptions  # noqa: E402
from aocr.serving.errors import RequestError, invalid  # noqa: E402
from aocr.serving.metrics import ServerMetrics  # noqa: E402
from aocr.serving.servable import Servable  # noqa: E402

SMALL, WIDE = Size(40, 32), Size(400, 32)


class Model:
    """Stands in for a servable: the output of each image is the image itself.

    `bad` is an image that it rejects, `fault` one on which it fails unexpectedly.

    Attributes:
        calls: The images of each call.
        released: Calls wait until this event is set.
    """

    def __init__(self) -> None:
        self.calls: list[list[bytes]] = []
        self.released = threading.Event()

    def run(self, _signature: str, inputs: Mapping[str, np.ndarray]) -> Outputs:
        """Waits until the calls are released, and records this one."""
        self.released.wait()
        self.calls.append(inputs["input"].tolist())
        if b"fault" in self.calls[-1]:
            raise ZeroDivisionError
        if b"bad" in self.calls[-1]:
            raise invalid("bad")
        return {"output": inputs["input"]}


async def send(batcher: Batcher, model: Model, *images: tuple[bytes, Size]) -> list[Any]:
    """Sends each image as a request of its own, in this order, all before the first call ends."""
    tasks = []
    for image, size in images:
        request = batcher.run_batched(cast("Servable", model), [image], [size])
        tasks.append(asyncio.create_task(request))
        await asyncio.sleep(0)
    model.released.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


def run(model: Model, *images: tuple[bytes, Size], limits: Limits | None = None,
        max_batch_size: int = 4) -> list[Any]:
    async def main() -> list[Any]:
        options = ServerOptions(
            max_batch_size=max_batch_size, batch_timeout=0, limits=limits or Limits())
        batcher = Batcher(options, ServerMetrics())
        try:
            return await send(batcher, model, *images)
        finally:
            await batcher.close()

    return asyncio.run(main())


def texts(results: list[Any]) -> list[bytes]:
    return [result[0]["output"].item() for result in results]


def test_images_of_similar_width_share_a_call_in_order_of_arrival() -> None:
    model = Model()
    images = [(b"0", SMALL), (b"1", SMALL), (b"2", WIDE), (b"3", SMALL), (b"4", WIDE)]
    assert texts(run(model, *images)) == [b"0", b"1", b"2", b"3", b"4"]
    # The first call may or may not have started when the second image arrived.
    assert model.calls in ([[b"0", b"1", b"3"], [b"2", b"4"]],
                           [[b"0"], [b"1", b"3"], [b"2", b"4"]])


def test_a_batch_is_limited_in_images_and_pixels() -> None:
    model = Model()
    run(model, *[(b"x", SMALL)] * 11)
    assert max(map(len, model.calls)) == 4
    model = Model()
    run(model, *[(b"x", SMALL)] * 11, limits=Limits(max_pixels=2 * 40 * 32))
    assert max(map(len, model.calls)) == 2
    assert sum(map(len, model.calls)) == 11


def test_a_rejected_image_does_not_fail_the_others() -> None:
    model = Model()
    results = run(model, *[(name, SMALL) for name in (b"0", b"1", b"bad", b"3", b"bad", b"5")],
                  max_batch_size=6)
    assert [isinstance(result[0], RequestError) for result in results] == [
        False, False, True, False, True, False]
    accepted = [result for result in results if not isinstance(result[0], RequestError)]
    assert texts(accepted) == [b"0", b"1", b"3", b"5"]


def test_an_unexpected_error_reaches_the_caller_and_the_queue_continues() -> None:
    results = run(Model(), (b"fault", SMALL), (b"1", SMALL), (b"2", WIDE), max_batch_size=1)
    assert isinstance(results[0], ZeroDivisionError)
    assert texts(results[1:]) == [b"1", b"2"]


def test_requests_beyond_the_capacity_of_the_queue_are_refused() -> None:
    results = run(Model(), *[(b"x", SMALL)] * 9, limits=Limits(max_queue=3))
    refused = [result for result in results if isinstance(result, RequestError)]
    assert {error.code.http for error in refused} == {503}
    assert len(results) - len(refused) == 3


def test_cancelled_requests_are_not_computed() -> None:
    model = Model()
    servable = cast("Servable", model)

    async def main() -> None:
        batcher = Batcher(ServerOptions(batch_timeout=0), ServerMetrics())
        first = asyncio.create_task(batcher.run_batched(servable, [b"0"], [SMALL]))
        await asyncio.sleep(0.01)  # its call has started and waits
        cancelled = asyncio.create_task(batcher.run_batched(servable, [b"1"], [SMALL]))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.sleep(0)
        model.released.set()
        await first
        await batcher.run_batched(servable, [b"2"], [SMALL])
        await batcher.close()

    asyncio.run(main())
    assert model.calls == [[b"0"], [b"2"]]


@pytest.mark.parametrize("wrong", [
    {"grpc_port": 0, "rest_port": 0}, {"grpc_port": 5, "rest_port": 5}, {"model_name": "a/b"},
    {"model_name": ""}])
def test_options_that_cannot_be_served_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(AocrError):
        ServerOptions(**wrong)
