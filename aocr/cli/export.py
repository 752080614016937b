"""`aocr export`: its flags, its checks and one call."""

from __future__ import annotations

import argparse
import os

from aocr.cli.exit_codes import OK
from aocr.cli.flags import add_model_flags, at_least_one, restore_model
from aocr.errors import AocrError
from aocr.runtime.console import log


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]
               ) -> argparse.ArgumentParser:
    """Adds `aocr export` and its flags to the commands."""
    command = commands.add_parser("export", help="export a model for serving")
    command.add_argument("dir", metavar="DIR", nargs="?",
                         default=os.environ.get("AIP_MODEL_DIR") or "exported",
                         help="folder to write to (default: %(default)s; AIP_MODEL_DIR, where "
                         "Vertex AI sets it)")
    add_model_flags(command)
    command.add_argument("--format", choices=("savedmodel", "frozengraph"), default="savedmodel",
                         help="what to write (default: %(default)s)")
    command.add_argument("--model-version", type=at_least_one, metavar="N",
                         help="write to DIR/N/, as TensorFlow Serving wants it")
    return command


def run(args: argparse.Namespace) -> int:
    """`aocr export`."""
    from aocr.checkpoints import loader
    from aocr.inference import export

    if _inside(args.dir, args.model_dir) and loader.is_original(args.model_dir):
        raise AocrError(f"{args.model_dir} holds a model of the original aocr, which is never "
                        f"written to; name a folder outside it instead of {args.dir}")
    reader = restore_model(args).reader
    if reader is None:
        raise AocrError(f"{args.model_dir} holds an exported model; --model-dir names a folder of "
                        "checkpoints")
    folder = export.export(reader, args.dir, args.format, args.model_version)
    log.info(f"Exported to {folder}; it answers as the checkpoint does.")
    return OK


def _inside(path: str, folder: str) -> bool:
    from aocr.runtime import filesystem

    inner, outer = (os.path.join(each if filesystem.is_remote(each) else os.path.realpath(each), "")
                    for each in (path, folder))
    return inner.startswith(outer)
