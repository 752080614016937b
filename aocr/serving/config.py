"""What a server is told: where it listens, how it batches, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass, field

from aocr.errors import AocrError

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What one client may ask for.

    Attributes:
        max_body: Bytes of a request's body; bodies being read take eight times as many in all.
        max_images: Images in a request.
        max_pixels: Pixels of an image, and of all images of a batch together.
        max_queue: Images that wait for the model or are in it; more are refused.
        max_connections: Open HTTP connections; more are refused.
        seconds: Time a request may take, its body included.
    """

    max_body: int = 16 * MEBIBYTE
    max_images: int = 128
    max_pixels: int = 8_000_000
    max_queue: int = 512
    max_connections: int = 512
    seconds: float = 30.0


@dataclass(frozen=True)
class ServerOptions:
    """A server.

    Attributes:
        model_name: The name in requests.
        host: Address to listen on.
        port: Port of gRPC, 0 for none.
        rest_port: Port of REST, 0 for none.
        max_batch: Images in one call of the model.
        batch_timeout: Seconds a batch may wait for as many images as the one before it held.
        poll_seconds: Seconds between two looks for new versions.
        limits: What is refused.

    Raises:
        AocrError: Both doors are closed, or they would share a port.
    """

    model_name: str = "default"
    host: str = "127.0.0.1"
    port: int = 8500
    rest_port: int = 8501
    max_batch: int = 32
    batch_timeout: float = 0.005
    poll_seconds: float = 1.0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.port == self.rest_port:
            raise AocrError(f"--port and --rest-api-port are both {self.port}; give two ports, "
                            "or 0 for one of them to close that door")
        if not self.model_name or set(self.model_name) & set("/:"):
            raise AocrError(f"--model-name {self.model_name!r} cannot stand in a path: expected "
                            "a name without / and :")
