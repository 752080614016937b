"""Metrics of the server in the Prometheus text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (.002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class ServerMetrics:
    """Metrics of one server.

    The label `door` is the endpoint, "rest" or "grpc"; dashboards depend on its name.

    Attributes:
        requests: Number of requests by endpoint and status code.
        seconds: Duration of requests by endpoint.
        batch_images: Images per model call.
        queue_images: Images that are queued or being processed.
        version: Version that is served.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter("aocr_requests", "Requests by endpoint and status code",
                                ["door", "code"], registry=self._registry)
        self.seconds = Histogram("aocr_request_seconds", "Duration of requests in seconds",
                                 ["door"], buckets=_SECONDS, registry=self._registry)
        self.batch_images = Histogram("aocr_batch_images", "Images per model call",
                                      buckets=_SIZES, registry=self._registry)
        self.queue_images = Gauge("aocr_queue_images", "Images queued or being processed",
                                  registry=self._registry)
        self.version = Gauge("aocr_model_version", "Version of the served model",
                             registry=self._registry)

    def record_request(self, endpoint: str, code: str, seconds: float) -> None:
        """Records a completed request."""
        self.requests.labels(endpoint, code).inc()
        self.seconds.labels(endpoint).observe(seconds)

    def render(self) -> bytes:
        """Returns all metrics in the text format."""
        return generate_latest(self._registry)
