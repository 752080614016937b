"""The queue, with a model that only notes what it is asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

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

SMALL, WIDE = Size(40, 32), Size(400, 32)


class Model:
    """Stands for a servable: each image's answer is itself; `bad` is no image."""

    def __init__(self) -> None:
        self.calls: list[list[bytes]] = []
        self.free = threading.Event()

    def run(self, _signature: str, inputs: Mapping[str, np.ndarray]) -> Outputs:
        """Waits until it may, and answers."""
        self.free.wait()
        self.calls.append(inputs["input"].tolist())
        if b"fault" in self.calls[-1]:
            raise ZeroDivisionError
        if b"bad" in self.calls[-1]:
            raise invalid("bad")
        return {"output": inputs["input"]}


async def ask(batcher: Batcher, model: Model, *images: tuple[bytes, Size]) -> list[Any]:
    """Each image as a request of its own, in this order, all waiting before the first call."""
    tasks = []
    for image, size in images:
        asked = batcher.read(model, [image], [size])  # type: ignore[arg-type]
        tasks.append(asyncio.create_task(asked))
        await asyncio.sleep(0)
    model.free.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


def run(model: Model, *images: tuple[bytes, Size], limits: Limits | None = None,
        max_batch: int = 4) -> list[Any]:
    async def whole() -> list[Any]:
        options = ServerOptions(max_batch=max_batch, batch_timeout=0, limits=limits or Limits())
        batcher = Batcher(options, ServerMetrics())
        try:
            return await ask(batcher, model, *images)
        finally:
            await batcher.close()

    return asyncio.run(whole())


def read(answers: list[Any]) -> list[bytes]:
    return [answer[0]["output"].item() for answer in answers]


def test_images_of_like_width_share_a_call_in_the_order_they_came() -> None:
    model = Model()
    images = [(b"0", SMALL), (b"1", SMALL), (b"2", WIDE), (b"3", SMALL), (b"4", WIDE)]
    assert read(run(model, *images)) == [b"0", b"1", b"2", b"3", b"4"]
    # The first call had started, or not, when the second image came.
    assert model.calls in ([[b"0", b"1", b"3"], [b"2", b"4"]],
                           [[b"0"], [b"1", b"3"], [b"2", b"4"]])


def test_a_batch_has_no_more_images_and_pixels_than_allowed() -> None:
    model = Model()
    run(model, *[(b"x", SMALL)] * 11)
    assert max(map(len, model.calls)) == 4
    model = Model()
    run(model, *[(b"x", SMALL)] * 11, limits=Limits(max_pixels=2 * 40 * 32))
    assert max(map(len, model.calls)) == 2
    assert sum(map(len, model.calls)) == 11


def test_a_bad_image_is_refused_alone() -> None:
    model = Model()
    answers = run(model, *[(name, SMALL) for name in (b"0", b"1", b"bad", b"3", b"bad", b"5")],
                  max_batch=6)
    assert [isinstance(answer, RequestError) for answer in answers] == [
        False, False, True, False, True, False]
    good = [answer for answer in answers if not isinstance(answer, RequestError)]
    assert read(good) == [b"0", b"1", b"3", b"5"]


def test_a_fault_of_ours_reaches_who_asked_and_the_queue_goes_on() -> None:
    answers = run(Model(), (b"fault", SMALL), (b"1", SMALL), (b"2", WIDE), max_batch=1)
    assert isinstance(answers[0], ZeroDivisionError)
    assert read(answers[1:]) == [b"1", b"2"]


def test_more_than_the_queue_holds_is_refused() -> None:
    answers = run(Model(), *[(b"x", SMALL)] * 9, limits=Limits(max_queue=3))
    refused = [answer for answer in answers if isinstance(answer, RequestError)]
    assert {answer.reason.http for answer in refused} == {503}
    assert len(answers) - len(refused) == 3


def test_who_has_gone_is_not_computed_for() -> None:
    model = Model()

    async def whole() -> None:
        batcher = Batcher(ServerOptions(batch_timeout=0), ServerMetrics())
        first = asyncio.create_task(batcher.read(model, [b"0"], [SMALL]))  # type: ignore[arg-type]
        await asyncio.sleep(0.01)  # its call has begun, and waits
        gone = asyncio.create_task(batcher.read(model, [b"1"], [SMALL]))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        model.free.set()
        await first
        await batcher.read(model, [b"2"], [SMALL])  # type: ignore[arg-type]
        await batcher.close()

    asyncio.run(whole())
    assert model.calls == [[b"0"], [b"2"]]


def test_a_door_must_be_open_and_a_name_fit_a_path() -> None:
    for wrong in ({"port": 0, "rest_port": 0}, {"port": 5, "rest_port": 5},
                  {"model_name": "a/b"}, {"model_name": ""}):
        with pytest.raises(AocrError):
            ServerOptions(**wrong)
