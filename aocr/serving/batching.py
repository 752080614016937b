"""The queue between both doors and the model: one call at a time, images of like width together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from aocr.images.headers import Size
from aocr.serving.config import ServerOptions
from aocr.serving.errors import ErrorCode, RequestError
from aocr.serving.metrics import ServerMetrics
from aocr.serving.servable import DEFAULT, Servable

Outputs = dict[str, np.ndarray]
# Widths are compared as they are at height 32; below this many pixels padding costs nothing.
_NARROW = 64.0


@dataclass(frozen=True, eq=False)
class QueuedCall:
    """What the model is to do; several of the same servable may become one call.

    Attributes:
        servable: The model.
        inputs: The tensors of one call; for an image of `read`, a vector of one.
        signature: Its signature.
        sizes: The images' sizes.
        alone: Whether it is a call of its own.
        answer: Where the outputs go.
    """

    servable: Servable
    inputs: Mapping[str, np.ndarray]
    signature: str
    sizes: Sequence[Size]
    alone: bool
    answer: asyncio.Future[Outputs]
    since: float = field(default_factory=time.monotonic)

    @property
    def pixels(self) -> int:
        """Pixels of all its images."""
        return sum(size.width * size.height for size in self.sizes)

    def goes_with(self, other: QueuedCall) -> bool:
        """Whether both may share a call: none is padded to more than twice its width."""
        if self.alone or other.alone or self.servable is not other.servable:
            return False
        narrow, wide = sorted(max(_NARROW, 32 * work.sizes[0].shape) for work in (self, other))
        return wide <= 2 * narrow


class Batcher:
    """Runs the model for all requests.

    Args:
        options: Sizes and times.
        monitoring: Where batches are counted.
    """

    def __init__(self, options: ServerOptions, monitoring: ServerMetrics) -> None:
        self._options = options
        self._monitoring = monitoring
        self._waiting: list[QueuedCall] = []
        self._images = 0
        self._last = 1
        self._came = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "model")
        self._loop = asyncio.get_running_loop().create_task(self._work())

    async def read(self, servable: Servable, images: Sequence[bytes], sizes: Sequence[Size]
                   ) -> list[Outputs]:
        """Reads images with the default signature; each may share its call with others.

        Returns:
            For each image its outputs, vectors of one.

        Raises:
            RefusalError: The queue is full, or an image cannot be read.
        """
        self._require_room(len(images))
        works = [self._add(servable, DEFAULT, {"input": np.array([image], object)}, [size], False)
                 for image, size in zip(images, sizes, strict=True)]
        return await asyncio.gather(*(work.answer for work in works))

    async def call(self, servable: Servable, signature: str, inputs: Mapping[str, np.ndarray],
                   sizes: Sequence[Size]) -> Outputs:
        """Runs a signature in a call of its own.

        Raises:
            RefusalError: The queue is full, or the model cannot take the inputs.
        """
        self._require_room(max(1, len(sizes)))
        return await self._add(servable, signature, inputs, sizes, True).answer

    async def close(self) -> None:
        """Ends; what still waits is cancelled."""
        self._loop.cancel()
        await asyncio.gather(self._loop, return_exceptions=True)
        self._thread.shutdown()

    def _require_room(self, images: int) -> None:
        most = self._options.limits.max_queue
        if self._images + images > most:
            raise RequestError(ErrorCode.FULL, f"{self._images} images wait already, and at most "
                               f"{most} may; try again")

    def _add(self, servable: Servable, signature: str, inputs: Mapping[str, np.ndarray],
             sizes: Sequence[Size], alone: bool) -> QueuedCall:
        answer = asyncio.get_running_loop().create_future()
        work = QueuedCall(servable, inputs, signature, sizes, alone, answer)
        self._waiting.append(work)
        self._count(max(1, len(sizes)))
        answer.add_done_callback(lambda _: self._done(work))
        self._came.set()
        return work

    def _done(self, work: QueuedCall) -> None:
        """Gives its room back; at once where its client has gone, or its time is over."""
        self._count(-max(1, len(work.sizes)))
        if work in self._waiting:
            self._waiting.remove(work)

    def _count(self, images: int) -> None:
        self._images += images
        self._monitoring.queue_images.set(self._images)

    async def _work(self) -> None:
        while True:
            if not self._waiting:
                self._came.clear()
                await self._came.wait()
            else:
                await self._gather()
                await self._run(self._take())

    async def _gather(self) -> None:
        """Waits a little for as many as the batch before held: they are likely to come again."""
        until = self._waiting[0].since + self._options.batch_timeout
        while 0 < len(self._waiting) < self._last and not self._waiting[0].alone:
            self._came.clear()
            try:
                await asyncio.wait_for(self._came.wait(), until - time.monotonic())
            except asyncio.TimeoutError:
                return

    def _take(self) -> list[QueuedCall]:
        """The oldest, and those that go with it, in the order they came."""
        batch: list[QueuedCall] = []
        left: list[QueuedCall] = []
        room = self._options.limits.max_pixels
        for work in self._waiting:
            if not batch or (len(batch) < self._options.max_batch and work.pixels <= room
                               and batch[0].goes_with(work)):
                batch.append(work)
                room -= work.pixels
            else:
                left.append(work)
        self._waiting = left
        return batch

    async def _run(self, batch: list[QueuedCall]) -> None:
        if not batch:
            return
        self._last = len(batch)
        self._monitoring.batch_images.observe(sum(len(work.sizes) for work in batch))
        calling = asyncio.get_running_loop().run_in_executor(self._thread, _answers, batch)
        await asyncio.wait((calling,))
        # A fault of ours must reach those who asked, and not end the queue.
        fault = calling.exception()
        answers = [fault] * len(batch) if fault is not None else calling.result()
        for work, answer in zip(batch, answers, strict=True):
            if work.answer.done():
                continue
            if isinstance(answer, BaseException):
                work.answer.set_exception(answer)
            else:
                work.answer.set_result(answer)


def _answers(batch: list[QueuedCall]) -> list[Outputs | RequestError]:
    """One call for all; where it fails, one for each half, until the culprits stand alone."""
    first = batch[0]
    try:
        if len(batch) == 1:
            return [first.servable.run(first.signature, first.inputs)]
        merged = {name: np.concatenate([work.inputs[name] for work in batch])
                  for name in first.inputs}
        outputs = first.servable.run(first.signature, merged)
        return [{name: value[n:n + 1] for name, value in outputs.items()}
                for n in range(len(batch))]
    except RequestError as error:
        if len(batch) == 1:
            return [error]
    half = len(batch) // 2
    return _answers(batch[:half]) + _answers(batch[half:])
