"""Flags of `aocr serve`, a check of its packages, and its call."""

from __future__ import annotations

import argparse
import importlib.util
import signal

from aocr.cli import flags
from aocr.cli.exit_codes import INTERRUPTED, OK
from aocr.errors import AocrError
from aocr.runtime.console import log
from aocr.serving.config import Limits, ServerOptions

_SERVER = ServerOptions()
_LIMITS = Limits()


def add_parser(commands: flags.Commands[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds `aocr serve` and its flags to the commands."""
    command = flags.add_command(
        commands, "serve", "serve exported models over REST and gRPC", "DIR",
        "Serves the newest version of an exported model with the protocols of TensorFlow\n"
        "Serving.",
        ("aocr serve exported --model-name aocr",
         "aocr serve exported --host 0.0.0.0 --rest-api-port 80 --port 0"))
    add = command.add_argument_group("model and endpoints").add_argument
    add("dir", metavar="DIR", help="directory of numbered versions, as `aocr export DIR "
        "--model-version 1` writes it; new versions are loaded as they appear")
    add("--model-name", default=_SERVER.model_name, metavar="NAME",
        help="model name in requests (default: %(default)s)")
    add("--host", default=_SERVER.host, metavar="ADDRESS",
        help="address to listen on (default: %(default)s, this machine only)")
    add("--port", type=flags.port, default=_SERVER.grpc_port, metavar="N",
        help="gRPC port, 0 to disable gRPC (default: %(default)s)")
    add("--rest-api-port", type=flags.port, default=_SERVER.rest_port, metavar="N",
        help="REST port, 0 to disable REST (default: %(default)s)")
    add("--cors-origin", action="append", default=[], metavar="ORIGIN",
        help="let web pages of this origin, such as https://app.example, call the REST endpoint; "
        "repeat the flag for several, * for all")
    add("--no-page", dest="page", action="store_false",
        help="serve no web page at / of the REST endpoint")
    add = command.add_argument_group("batching and versions").add_argument
    add("--max-batch-size", type=flags.at_least_one, default=_SERVER.max_batch_size, metavar="N",
        help="maximum number of images in a batch (default: %(default)s)")
    add("--batch-timeout-ms", type=flags.not_negative, default=1000 * _SERVER.batch_timeout,
        metavar="X", help="maximum time to wait for as many images as the previous batch held "
        "(default: %(default)s)")
    add("--poll-seconds", type=flags.positive, default=_SERVER.poll_seconds, metavar="X",
        help="interval between checks for new versions (default: %(default)s)")
    _add_limits(command)
    command.add_argument_group("diagnostics").add_argument(
        "--log-level", choices=("info", "debug"), default="info",
        help="debug logs a line for each request (default: %(default)s)")
    return command


def _add_limits(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("limits", "A request beyond them is refused.").add_argument
    for name, default, text in (
            ("--max-body-bytes", _LIMITS.max_body_bytes, "size of a request body"),
            ("--max-images", _LIMITS.max_images, "images in a request"),
            ("--max-pixels", _LIMITS.max_pixels, "pixels of an image; all images "
             "of a request may have eight times as many"),
            ("--max-queue", _LIMITS.max_queue, "images that wait or are being read"),
            ("--max-connections", _LIMITS.max_connections,
             "open HTTP connections, and concurrent gRPC calls")):
        add(name, type=flags.at_least_one, default=default, metavar="N",
            help=f"{text} (default: %(default)s)")
    add("--request-seconds", type=flags.positive, default=_LIMITS.request_seconds, metavar="X",
        help="time to receive a request, and again to compute its response (default: %(default)s)")


_SERVE_PACKAGES = ("tensorflow_serving", "grpc", "uvicorn", "httptools", "starlette",
                   "prometheus_client")


def run(args: argparse.Namespace) -> int:
    """Runs `aocr serve`."""
    missing = [name for name in _SERVE_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise AocrError(f"serving needs {', '.join(missing)}: run pip install '.[serve]' in the "
                        "source directory of aocr")
    from aocr.serving import server

    log.setLevel(args.log_level.upper())
    received = server.serve(args.dir, _options(args))
    return OK if received == signal.SIGTERM else INTERRUPTED


def _options(args: argparse.Namespace) -> ServerOptions:
    limits = Limits(
        max_body_bytes=args.max_body_bytes, max_images=args.max_images,
        max_pixels=args.max_pixels, max_queue=args.max_queue,
        max_connections=args.max_connections, request_seconds=args.request_seconds)
    return ServerOptions(
        model_name=args.model_name, host=args.host, grpc_port=args.port,
        rest_port=args.rest_api_port, max_batch_size=args.max_batch_size,
        batch_timeout=args.batch_timeout_ms / 1000, poll_seconds=args.poll_seconds,
        limits=limits, cors_origins=tuple(args.cors_origin), page=args.page)
