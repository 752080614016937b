"""What the server counts, in Prometheus' format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (.002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class ServerMetrics:
    """The metrics of one server.

    Attributes:
        requests: Requests by door and code.
        seconds: Time of a request by door.
        batch_images: Images in a call of the model.
        queue_images: Images that wait for the model or are in it.
        version: The version that is served.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter("aocr_requests", "Requests answered", ["door", "code"],
                                registry=self._registry)
        self.seconds = Histogram("aocr_request_seconds", "Time of a request", ["door"],
                                 buckets=_SECONDS, registry=self._registry)
        self.batch_images = Histogram("aocr_batch_images", "Images in a call of the model",
                                      buckets=_SIZES, registry=self._registry)
        self.queue_images = Gauge(
            "aocr_queue_images", "Images that wait for the model or are in it",
            registry=self._registry)
        self.version = Gauge("aocr_model_version", "Version of the model that is served",
                             registry=self._registry)

    def answered(self, door: str, code: str, seconds: float) -> None:
        """Notes a request that has been answered."""
        self.requests.labels(door, code).inc()
        self.seconds.labels(door).observe(seconds)

    def page(self) -> bytes:
        """All of it as text."""
        return generate_latest(self._registry)
