"""Configuration of the server: addresses, batching and limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from aocr.errors import AocrError

MEBIBYTE = 1 << 20
# A gRPC message with its overhead has to be shorter than 2 GiB.
_MAX_BODY_BYTES = 2047 * MEBIBYTE
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Limits:
    """Limits on what clients may request; anything beyond them is refused.

    Attributes:
        max_body_bytes: Size of a request body in bytes. All requests together may hold eight
            times as much.
        max_images: Images per request.
        max_pixels: Pixels per image, and of all images of a batch together.
        max_queue: Images that are queued or being processed.
        max_connections: Open HTTP connections; also the number of concurrent gRPC calls.
        request_seconds: Time to receive a body, and time to respond to it.

    Raises:
        AocrError: `max_body_bytes` is more than a gRPC message can have.
    """

    max_body_bytes: int = 16 * MEBIBYTE
    max_images: int = 128
    max_pixels: int = 8_000_000
    max_queue: int = 512
    max_connections: int = 512
    request_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.max_body_bytes > _MAX_BODY_BYTES:
            raise AocrError(f"--max-body-bytes {self.max_body_bytes} is more than a gRPC message "
                            f"can have: expected at most {_MAX_BODY_BYTES}")


@dataclass(frozen=True)
class ServerOptions:
    """Options of a server.

    Attributes:
        model_name: Name of the model in requests.
        host: Address to listen on.
        grpc_port: Port of the gRPC endpoint; 0 disables it.
        rest_port: Port of the REST endpoint; 0 disables it.
        max_batch_size: Images per model call.
        batch_timeout: Longest time in seconds for which a batch waits for further images.
        poll_seconds: Interval between two checks for new versions.
        limits: Limits on requests.
        cors_origins: Origins whose web pages may call the REST endpoint; "*" for all.
        page: Whether the REST endpoint has a web page that reads images.

    Raises:
        AocrError: Both endpoints are disabled or share a port, the model name cannot be part of a
            URL path, or an origin is malformed.
    """

    model_name: str = "default"
    host: str = "127.0.0.1"
    grpc_port: int = 8500
    rest_port: int = 8501
    max_batch_size: int = 32
    batch_timeout: float = 0.005
    poll_seconds: float = 1.0
    limits: Limits = field(default_factory=Limits)
    cors_origins: tuple[str, ...] = ()
    page: bool = True

    def __post_init__(self) -> None:
        if self.grpc_port == self.rest_port:
            raise AocrError(f"--port and --rest-api-port are both {self.grpc_port}: expected two "
                            "different ports, or 0 for one of them to disable that endpoint")
        if not self.model_name or set(self.model_name) & set("/:"):
            raise AocrError(f"--model-name {self.model_name!r} cannot be part of a URL path: "
                            "expected a name without / and :")
        for origin in self.cors_origins:
            if origin != "*" and not _is_origin(origin):
                raise AocrError(f"--cors-origin {origin!r} is not an origin as browsers send it: "
                                "expected * or a lower-case scheme://host[:port] without a "
                                "default port and without a slash at the end, such as "
                                "https://app.example")


def _is_origin(text: str) -> bool:
    """Returns whether a browser may send a text as the header `Origin`.

    Source: RFC 6454, section 6.2.
    """
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return False
    return (bool(url.hostname) and text == f"{url.scheme}://{url.netloc}".lower()
            and not set(text) & set("*@ ") and port != _DEFAULT_PORTS.get(url.scheme, -1))
