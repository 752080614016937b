"""`aocr serve`: its flags, its checks and one call."""

from __future__ import annotations

import argparse
import importlib.util
import signal

from aocr.cli.exit_codes import INTERRUPTED, OK
from aocr.cli.flags import at_least_one, not_negative, port, positive
from aocr.errors import AocrError
from aocr.runtime.console import log
from aocr.serving.config import Limits, ServerOptions

_SERVER = ServerOptions()
_LIMITS = Limits()


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]
               ) -> argparse.ArgumentParser:
    """Adds `aocr serve` and its flags to the commands."""
    command = commands.add_parser("serve", help="serve an exported model (REST and gRPC)")
    command.add_argument("dir", metavar="DIR", help="folder of numbered versions, as `aocr export "
                         "--model-version 1 DIR` writes it; newer ones are picked up")
    add = command.add_argument_group("doors").add_argument
    add("--model-name", default=_SERVER.model_name, metavar="NAME",
        help="name in requests (default: %(default)s)")
    add("--host", default=_SERVER.host, metavar="ADDRESS",
        help="address to listen on (default: %(default)s, this machine only)")
    add("--port", type=port, default=_SERVER.port, metavar="N",
        help="port of gRPC, 0 for none (default: %(default)s)")
    add("--rest-api-port", type=port, default=_SERVER.rest_port, metavar="N",
        help="port of REST, 0 for none (default: %(default)s)")
    add("--log-level", choices=("info", "debug"), default="info",
        help="debug: a line for each request (default: %(default)s)")
    add = command.add_argument_group("batches and versions").add_argument
    add("--max-batch-size", type=at_least_one, default=_SERVER.max_batch, metavar="N",
        help="images in one call of the model (default: %(default)s)")
    add("--batch-timeout-ms", type=not_negative, default=1000 * _SERVER.batch_timeout,
        metavar="X", help="longest wait for as many images as the batch before held "
        "(default: %(default)s)")
    add("--poll-seconds", type=positive, default=_SERVER.poll_seconds, metavar="X",
        help="time between two looks for new versions (default: %(default)s)")
    _add_limits(command)
    return command


def _add_limits(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("limits").add_argument
    for name, default, text in (
            ("--max-body-bytes", _LIMITS.max_body, "largest body of a request"),
            ("--max-images", _LIMITS.max_images, "images in a request"),
            ("--max-pixels", _LIMITS.max_pixels, "pixels of an image, and of a batch"),
            ("--max-queue", _LIMITS.max_queue, "images that may wait"),
            ("--max-connections", _LIMITS.max_connections, "open connections")):
        add(name, type=at_least_one, default=default, metavar="N",
            help=f"{text} (default: %(default)s)")
    add("--request-seconds", type=positive, default=_LIMITS.seconds, metavar="X",
        help="time a request may take (default: %(default)s)")


_SERVE_PACKAGES = ("tensorflow_serving", "grpc", "uvicorn", "httptools", "starlette",
                   "prometheus_client")


def run(args: argparse.Namespace) -> int:
    """`aocr serve`."""
    missing = [name for name in _SERVE_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise AocrError(f"serving needs {', '.join(missing)}: install this package with "
                        "its extra, pip install '.[serve]' in the folder that it came in")
    from aocr.serving import server

    log.setLevel(args.log_level.upper())
    limits = Limits(args.max_body_bytes, args.max_images, args.max_pixels, args.max_queue,
                    args.max_connections, args.request_seconds)
    ended_by = server.serve(args.dir, ServerOptions(
        args.model_name, args.host, args.port, args.rest_api_port, args.max_batch_size,
        args.batch_timeout_ms / 1000, args.poll_seconds, limits))
    return OK if ended_by == signal.SIGTERM else INTERRUPTED
