"""The bytes that all requests together may hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, cast

import numpy as np
import pytest

from tests import contract, serving

serving.require_extra()

from starlette.types import ASGIApp, Message  # noqa: E402

from aocr.serving import rest_app  # noqa: E402
from aocr.serving.batching import Batcher  # noqa: E402
from aocr.serving.config import Limits, ServerOptions  # noqa: E402
from aocr.serving.errors import ErrorCode, RequestError  # noqa: E402
from aocr.serving.metrics import ServerMetrics  # noqa: E402
from aocr.serving.servable import Servable  # noqa: E402
from aocr.serving.service import PredictionService  # noqa: E402
from aocr.serving.version_manager import VersionManager  # noqa: E402

IMAGE = contract.images()[0]
INPUTS = {"input": np.array([IMAGE], object)}
BODY = json.dumps({"inputs": contract.b64(IMAGE)}).encode()
MODEL = serving.Model({"input": np.dtype(object)})
Scenario = Callable[[PredictionService, ASGIApp], Coroutine[Any, Any, None]]


def run(scenario: Scenario) -> None:
    """Runs a scenario with a service, which may hold eight bodies, and its REST endpoint."""
    async def main() -> None:
        options, metrics = ServerOptions(limits=Limits(len(BODY))), ServerMetrics()
        batcher = Batcher(options, metrics)
        service = PredictionService(cast("VersionManager", MODEL), batcher, options.limits)
        try:
            await scenario(service, rest_app.make_app(service, metrics, options))
        finally:
            MODEL.released.set()
            await batcher.close()

    asyncio.run(main())


async def post(app: ASGIApp) -> int:
    """Sends a prediction request and returns the status code."""
    sent: list[Message] = []
    received = [{"type": "http.request", "body": BODY, "more_body": False}]

    async def receive() -> Message:
        if not received:
            await asyncio.Event().wait()
        return received.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "http", "method": "POST", "path": "/v1/models/aocr:predict", "headers": [],
               "query_string": b""}, receive, send)
    return sent[0]["status"]


def predict(service: PredictionService) -> Coroutine[Any, Any, object]:
    return service.predict(cast("Servable", MODEL), "", INPUTS)


def test_images_count_until_their_response() -> None:
    async def scenario(service: PredictionService, app: ASGIApp) -> None:
        MODEL.released.clear()
        with service.budget.hold(8 * len(BODY) - 3 * len(IMAGE)):
            running = [asyncio.create_task(predict(service)) for _ in range(3)]
            await asyncio.sleep(0)
            with pytest.raises(RequestError, match="too many large requests") as raised:
                await predict(service)
            assert raised.value.code is ErrorCode.OVERLOADED
            assert await post(app) == 503
            MODEL.released.set()
            await asyncio.gather(*running)
            await predict(service)

    run(scenario)


def test_a_body_counts_until_it_is_parsed() -> None:
    async def scenario(service: PredictionService, app: ASGIApp) -> None:
        with service.budget.hold(7 * len(BODY) + 1):
            assert await post(app) == 503
        with service.budget.hold(7 * len(BODY)):
            assert await post(app) == 200
            assert await post(app) == 200

    run(scenario)


def test_cancelled_requests_do_not_count() -> None:
    async def scenario(service: PredictionService, _app: ASGIApp) -> None:
        MODEL.released.clear()
        with service.budget.hold(8 * len(BODY) - len(IMAGE)):
            cancelled = asyncio.create_task(predict(service))
            await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.gather(cancelled, return_exceptions=True)
            MODEL.released.set()
            await predict(service)

    run(scenario)
