"""Request queue and batching: one model call at a time, images of similar width together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from aocr.images.headers import Size
from aocr.inference.saved_model import DEFAULT_SIGNATURE
from aocr.serving.config import ServerOptions
from aocr.serving.errors import ErrorCode, RequestError
from aocr.serving.metrics import ServerMetrics
from aocr.serving.servable import Servable

Outputs = dict[str, np.ndarray]
# Widths are compared at height 32; below this many pixels padding costs nothing.
_NARROW = 64.0


@dataclass(frozen=True, eq=False)
class QueuedCall:
    """A model call in the queue; batchable calls of one servable may be merged.

    Attributes:
        servable: The model.
        signature: Name of the signature.
        inputs: Input tensors; of a batchable call, a vector of one image.
        sizes: Sizes of the images.
        batchable: Whether the call may be merged with others.
        outputs: Receives the output tensors, or the error.
        enqueued_at: Time on the monotonic clock, in seconds.
    """

    servable: Servable
    signature: str
    inputs: Mapping[str, np.ndarray]
    sizes: Sequence[Size]
    batchable: bool
    outputs: asyncio.Future[Outputs]
    enqueued_at: float = field(default_factory=time.monotonic)

    @property
    def images(self) -> int:
        """Number of images that the call counts as in the queue."""
        return max(1, len(self.sizes))

    @property
    def pixels(self) -> int:
        """Pixels of all its images."""
        return sum(size.width * size.height for size in self.sizes)

    def fits(self, other: QueuedCall) -> bool:
        """Returns whether two calls may be merged: neither is padded to over twice its width."""
        if not (self.batchable and other.batchable and self.servable is other.servable):
            return False
        narrow, wide = sorted(max(_NARROW, 32 * call.sizes[0].shape) for call in (self, other))
        return wide <= 2 * narrow


class Batcher:
    """Queues model calls and runs them in batches. Needs a running event loop.

    Args:
        options: Batch size, batch timeout and limits.
        metrics: Receives the size of the queue and of each batch.
    """

    def __init__(self, options: ServerOptions, metrics: ServerMetrics) -> None:
        self._options = options
        self._metrics = metrics
        self._queue: list[QueuedCall] = []
        self._pending_images = 0
        self._last_batch_size = 1
        self._arrival = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "model")
        self._worker = asyncio.get_running_loop().create_task(self._process_queue())

    async def run_batched(self, servable: Servable, images: Sequence[bytes],
                          sizes: Sequence[Size]) -> list[Outputs | RequestError]:
        """Runs the default signature; each image may share a model call with other requests.

        Returns:
            For each image its outputs, vectors of one, or the error if it cannot be decoded.

        Raises:
            RequestError: The queue is full.
        """
        self._require_capacity(len(images))
        calls = [self._enqueue(servable, DEFAULT_SIGNATURE, {"input": np.array([image], object)},
                               [size], batchable=True)
                 for image, size in zip(images, sizes, strict=True)]
        outcomes = await asyncio.gather(*(call.outputs for call in calls), return_exceptions=True)
        results = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, RequestError):
                raise outcome
            results.append(outcome)
        return results

    async def run_alone(self, servable: Servable, signature: str,
                        inputs: Mapping[str, np.ndarray], sizes: Sequence[Size]) -> Outputs:
        """Runs a signature in a model call of its own.

        Raises:
            RequestError: The queue is full, or the model rejects the inputs.
        """
        self._require_capacity(max(1, len(sizes)))
        return await self._enqueue(servable, signature, inputs, sizes, batchable=False).outputs

    async def close(self) -> None:
        """Stops processing; calls that are still queued stay without a result."""
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)
        self._thread.shutdown()

    def _require_capacity(self, images: int) -> None:
        max_queue = self._options.limits.max_queue
        if self._pending_images + images > max_queue:
            raise RequestError(ErrorCode.OVERLOADED, f"the queue holds {self._pending_images} of "
                               f"at most {max_queue} images (--max-queue); try again")

    def _enqueue(self, servable: Servable, signature: str, inputs: Mapping[str, np.ndarray],
                 sizes: Sequence[Size], *, batchable: bool) -> QueuedCall:
        outputs = asyncio.get_running_loop().create_future()
        call = QueuedCall(servable, signature, inputs, sizes, batchable, outputs)
        self._queue.append(call)
        self._count(call.images)
        outputs.add_done_callback(lambda _: self._release(call))
        self._arrival.set()
        return call

    def _release(self, call: QueuedCall) -> None:
        """Frees the capacity of a call that has its outputs or was cancelled."""
        self._count(-call.images)
        if call in self._queue:
            self._queue.remove(call)

    def _count(self, images: int) -> None:
        self._pending_images += images
        self._metrics.queue_images.set(self._pending_images)

    async def _process_queue(self) -> None:
        while True:
            if not self._queue:
                self._arrival.clear()
                await self._arrival.wait()
            else:
                await self._wait_for_more()
                await self._run(self._next_batch())

    async def _wait_for_more(self) -> None:
        """Waits up to the batch timeout for as many calls as the previous batch held.

        Clients that send one request after another are likely to return together.
        """
        deadline = self._queue[0].enqueued_at + self._options.batch_timeout
        while 0 < len(self._queue) < self._last_batch_size and self._queue[0].batchable:
            self._arrival.clear()
            try:
                await asyncio.wait_for(self._arrival.wait(), deadline - time.monotonic())
            except asyncio.TimeoutError:
                return

    def _next_batch(self) -> list[QueuedCall]:
        """Takes the oldest call and those that fit it from the queue, in order of arrival."""
        batch: list[QueuedCall] = []
        remaining: list[QueuedCall] = []
        free_pixels = self._options.limits.max_pixels
        for call in self._queue:
            if not batch or (len(batch) < self._options.max_batch_size
                             and call.pixels <= free_pixels and batch[0].fits(call)):
                batch.append(call)
                free_pixels -= call.pixels
            else:
                remaining.append(call)
        self._queue = remaining
        return batch

    async def _run(self, batch: list[QueuedCall]) -> None:
        if not batch:
            return
        self._last_batch_size = len(batch)
        self._metrics.batch_images.observe(sum(len(call.sizes) for call in batch))
        running = asyncio.get_running_loop().run_in_executor(self._thread, _run_batch, batch)
        await asyncio.wait((running,))
        # An unexpected error belongs to the callers and must not stop the worker.
        error = running.exception()
        results = [error] * len(batch) if error is not None else running.result()
        for call, result in zip(batch, results, strict=True):
            if call.outputs.done():
                continue
            if isinstance(result, BaseException):
                call.outputs.set_exception(result)
            else:
                call.outputs.set_result(result)


def _run_batch(batch: list[QueuedCall]) -> list[Outputs | RequestError]:
    """Runs a batch in one model call; if that fails, halves it until only bad calls fail."""
    first = batch[0]
    try:
        if len(batch) == 1:
            return [first.servable.run(first.signature, first.inputs)]
        inputs = {name: np.concatenate([call.inputs[name] for call in batch])
                  for name in first.inputs}
        outputs = first.servable.run(first.signature, inputs)
        return [{name: value[n:n + 1] for name, value in outputs.items()}
                for n in range(len(batch))]
    except RequestError as error:
        if len(batch) == 1:
            return [error]
    half = len(batch) // 2
    return _run_batch(batch[:half]) + _run_batch(batch[half:])
