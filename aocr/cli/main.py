"""Parses the command line, runs one command, and turns errors into exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from aocr import __version__
from aocr.checkpoints import built_in
from aocr.cli import dataset, export, flags, output, predict, serve, test, train
from aocr.cli.exit_codes import FAILED, INTERRUPTED
from aocr.errors import AocrError, reason
from aocr.runtime import console, startup
from aocr.runtime.console import log

_COMMANDS = {"dataset": dataset, "train": train, "test": test, "predict": predict,
             "export": export, "serve": serve}
_DEFAULT_LOG = "aocr.log"
_NOT_PATHS = ("cors_origin", "pattern")  # may look like URLs
_ANY_BYTES = ("files",)  # arguments that Python opens; TensorFlow opens only paths in UTF-8
_MEMORY_REMEDIES = {
    "dataset": "use fewer --jobs, or a smaller --max-pixels",
    "train": "use a smaller --batch-size, or train a smaller model",
    "test": "use a smaller --batch-size",
    "predict": "use a smaller --max-pixels, or the CPU (--gpu-id -1)",
    "export": "use the CPU (--gpu-id -1), or a machine with more memory",
    "serve": "use a smaller --max-batch-size or --max-pixels"}
_DESCRIPTION = "Recognizes text in images of cropped words and lines: captchas, plates, meters."
_EXAMPLE = """\
from images to a served model (annotations.txt: one `path label` per line):
  aocr dataset annotations.txt words.tfrecords
  aocr train words.tfrecords --max-width 240 --max-height 46 --charset auto
  aocr predict image.png
  aocr export exported --model-version 1
  aocr serve exported --model-name aocr
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The arguments after `aocr`; those of the process by default.

    Returns:
        0 for success, 1 for an error that the user can fix, 128 and the number of the signal when
        stopped by one. Wrong usage exits with 2.
    """
    for name in ("stdout", "stderr"):  # closed, as with `>&-`: write to os.devnull instead
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    args = _parse(argv)
    try:
        console.start_log(args.log_path or _DEFAULT_LOG, chosen=args.log_path is not None)
        _check_paths(args)
        if args.command != "predict" or predict.needs_tensorflow(args):
            startup.import_tensorflow()
            # At exit TensorFlow logs a warning for each value of a damaged checkpoint that it did
            # not restore.
            logging.getLogger("tensorflow").setLevel(logging.ERROR)
        return _COMMANDS[args.command].run(args)
    except AocrError as error:
        log.error(f"aocr {args.command}: {error}")
        return FAILED
    except _out_of_memory() as error:
        log.error(f"aocr {args.command}: out of memory: {reason(error)}; "
                  f"{_MEMORY_REMEDIES[args.command]}")
        return FAILED
    except BrokenPipeError:  # the reader of standard output has what it needs
        return FAILED
    except KeyboardInterrupt:
        log.error(f"aocr {args.command}: interrupted")
        return INTERRUPTED
    finally:
        console.stop_log()


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses the arguments; exits after `--help` and `--version`, and on wrong usage."""
    try:
        with output.written():
            return parser().parse_args(argv)
    except AocrError as error:
        sys.exit(f"aocr: {error}")
    except BrokenPipeError:
        sys.exit(FAILED)


def _out_of_memory() -> tuple[type[BaseException], ...]:
    """Returns the out-of-memory errors, with TensorFlow's if TensorFlow has been imported."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return (MemoryError,)
    return (MemoryError, tensorflow.errors.ResourceExhaustedError)


def _check_paths(args: argparse.Namespace) -> None:
    """Checks that TensorFlow can open the paths among the flags.

    Raises:
        AocrError: One is not UTF-8, or TensorFlow cannot access its file system, such as `s3://`
            without its plugin.
    """
    from aocr.runtime import filesystem

    values = [(name, str(value)) for name, values in vars(args).items() if name not in _NOT_PATHS
              for value in (values if isinstance(values, list | tuple) else [values])]
    for name, path in values:
        if name not in _ANY_BYTES and not filesystem.is_utf8(path):
            raise AocrError(f"{path!r} is not UTF-8, and TensorFlow opens no other paths; rename "
                            "the file or directory")
    for path in filter(filesystem.is_remote, (path for _, path in values)):
        startup.import_tensorflow()
        import tensorflow as tf

        try:
            tf.io.gfile.exists(path)
        except tf.errors.OpError as error:
            raise AocrError(f"cannot reach {path}: {reason(error)}") from error


class _ShowVersion(argparse.Action):
    """Prints the version, and the built-in models with what they were trained on."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        models = (f"\n  {name}: {built_in.describe(name)}" for name in built_in.names())
        print(f"aocr {__version__}" + "\nbuilt-in models:" * bool(built_in.names())
              + "".join(models))
        parser.exit()


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
    add("--version", action=_ShowVersion, nargs=0, default=argparse.SUPPRESS,
        help="show the version and exit")
    add("-h", "--help", action="help", help="show this help and exit; `aocr COMMAND --help` "
        "shows the flags of a command")
    return top
