"""Parses the command line, runs one command, and turns errors into exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Sequence

from aocr import __version__
from aocr.cli import dataset, export, flags, predict, serve, test, train
from aocr.cli.exit_codes import FAILED, INTERRUPTED
from aocr.config import flag
from aocr.errors import AocrError, reason
from aocr.runtime import console, startup
from aocr.runtime.console import log

_COMMANDS = {"dataset": dataset, "train": train, "test": test, "predict": predict,
             "export": export, "serve": serve}
_DEFAULT_LOG = "aocr.log"
_MODEL_PATHS = ("model_dir", "init_from", "dir")
_DESCRIPTION = "Reads text in images of cropped words and lines: captchas, plates, receipts."
_EXAMPLE = """\
from images to a served model (annotations.txt: one `path label` per line):
  aocr dataset annotations.txt words.tfrecords
  aocr train words.tfrecords --charset auto
  aocr predict image.png
  aocr export exported --model-version 1
  aocr serve exported --model-name aocr
"""
_PATTERN = re.compile(r"[*?[]" if os.sep == "\\" else r"[*?[\\]")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The arguments after `aocr`; those of the process by default.

    Returns:
        0 for success, 1 for an error that the user can fix, 130 when interrupted. Wrong usage
        exits with 2.
    """
    for name in ("stdout", "stderr"):  # closed, as with `>&-`: write to os.devnull instead
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    args = parser().parse_args(argv)
    try:
        console.start_log(args.log_path or _DEFAULT_LOG, chosen=args.log_path is not None)
        startup.import_tensorflow()
        # At exit TensorFlow logs a warning for each value of a damaged checkpoint that it did not
        # restore.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        _require_reach(args)
        return _COMMANDS[args.command].run(args)
    except AocrError as error:
        log.error(f"aocr {args.command}: {error}")
        return FAILED
    except _out_of_memory() as error:
        log.error(f"aocr {args.command}: the memory does not suffice: {reason(error)}; give a "
                  "smaller --batch-size, or train a smaller model")
        return FAILED
    except BrokenPipeError:
        # The reader of standard output has gone; Python would complain of it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        log.error(f"aocr {args.command}: interrupted")
        return INTERRUPTED
    finally:
        console.stop_log()


def _out_of_memory() -> tuple[type[BaseException], ...]:
    """What is raised then; TensorFlow's own only once that is imported."""
    tensorflow = sys.modules.get("tensorflow")
    more = (tensorflow.errors.ResourceExhaustedError,) if tensorflow is not None else ()
    return (MemoryError, *more)


def _require_reach(args: argparse.Namespace) -> None:
    """Refuses paths that cannot even be asked for, such as `s3://` without its plugin."""
    import tensorflow as tf

    from aocr.runtime import filesystem

    values = (value if isinstance(value, list | tuple) else [value]
              for value in vars(args).values())
    for name in _MODEL_PATHS:
        _require_plain(name, getattr(args, name, None))
    for path in (str(each) for some in values for each in some):
        try:
            if filesystem.is_remote(path):
                tf.io.gfile.exists(path)
        except tf.errors.OpError as error:
            raise AocrError(f"cannot reach {path}: {reason(error)}") from error


def _require_plain(name: str, path: str | None) -> None:
    """Refuses the path of a model in which TensorFlow sees a pattern or no text."""
    shown = "DIR" if name == "dir" else flag(name)
    if path is not None and _PATTERN.search(path):
        raise AocrError(f"{shown} {path}: TensorFlow takes a path of a model with * ? [ or \\ for "
                        "a pattern, and would not find it again; rename the folder")


def parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands and flags."""
    top = argparse.ArgumentParser(
        prog="aocr", usage="aocr COMMAND [options]", description=_DESCRIPTION, epilog=_EXAMPLE,
        add_help=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(title="commands", dest="command", required=True,
                                  metavar="COMMAND", prog="aocr")
    for module in _COMMANDS.values():
        flags.add_general_flags(module.add_parser(commands))
    add = top.add_argument_group("options").add_argument
    add("--version", action="version", version=f"aocr {__version__}",
        help="show the version and exit")
    add("-h", "--help", action="help", help="show this help and exit; `aocr COMMAND --help` "
        "shows the flags of a command")
    return top
