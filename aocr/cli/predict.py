"""Flags of `aocr predict`, and the formats of its results."""

from __future__ import annotations

import argparse
import functools
import io
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from aocr.checkpoints import built_in, model_files
from aocr.cli import flags, output
from aocr.cli.exit_codes import FAILED, OK
from aocr.errors import SkipError
from aocr.runtime import json_text
from aocr.runtime.console import log, printable

if TYPE_CHECKING:
    from aocr.inference.recognizer import Recognizer, Result


def add_parser(commands: flags.Commands[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds `aocr predict` and its flags to the commands."""
    command = flags.add_command(
        commands, "predict", "recognize the text in image files", "[FILE|FOLDER|-]...",
        "Recognizes the text in image files with a trained, exported or built-in model.",
        ("aocr predict plate.jpg",
         "aocr predict images/ --format tsv > results.tsv",
         r"aocr predict plates/ --pattern '[A-Z]{2}\d{4}' --n-best 3 --format jsonl",
         "find . -name '*.png' | aocr predict --model-dir exported --format jsonl"))
    add = command.add_argument_group("images and model").add_argument
    add("files", metavar="FILE|FOLDER|-", nargs="*",
        help="images, folders of images, or - for file names on standard input (default: -)")
    add("--format", choices=("log", "tsv", "jsonl"), default="log",
        help="log lines on standard error, or a table or JSON lines on standard output "
        "(default: %(default)s)")
    add("--min-probability", type=_probability, metavar="P",
        help="mark results with a probability below P: LOW instead of OK in the log and in a "
        "fourth column of the table, `accepted` in JSON lines")
    add("--model-dir", "--job-dir", dest="model_dir", metavar="DIR|NAME",
        help="directory of a model, or name of a built-in one (default: "
        f"{flags.DEFAULT_MODEL_DIR} if there is a model, otherwise {built_in.DEFAULT})")
    flags.add_checkpoint_flags(add)
    flags.add_decoding_flags(command)
    add = command.add_argument_group("speed and limits").add_argument
    flags.add_gpu(add)
    flags.add_precision(add)
    flags.add_max_pixels(add)
    flags.add_legacy_flags(command)
    for add_flags in (flags.add_output_dir, flags.add_no_distance, flags.add_optimizer_flags):
        add_flags(flags.hidden(command))
    return command


def run(args: argparse.Namespace) -> int:
    """Runs `aocr predict`."""
    from aocr.cli import inputs
    from aocr.inference.recognizer import BATCH_SIZE

    if args.model_dir is None:
        args.model_dir = _default_model()
        _announce(args.model_dir)
    recognizer = _load(args)
    write = functools.partial(_WRITERS[args.format], min_probability=args.min_probability)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    files = failures = 0
    for names in inputs.batched(inputs.file_names(args.files or ["-"]), BATCH_SIZE):
        files += len(names)
        results = recognizer.predict_each(names)
        with output.written():
            for name, result in zip(names, results, strict=True):
                if isinstance(result, SkipError):
                    failures += 1
                    log.error(f"Result: error while opening file {name}. {result}")
                else:
                    write(name, result)
    if not files:
        log.warning("No file was named; nothing was read.")
    return FAILED if failures else OK


def _load(args: argparse.Namespace) -> Recognizer:
    from aocr.inference.recognizer import Recognizer, tensorflow_class

    if needs_tensorflow(args):
        return flags.restore_model(args, tensorflow_class(args.model_dir).load)
    if _names_gpu(args):
        log.warning(f"{args.model_dir} is an ONNX model, which runs on the CPU: --gpu-id has no "
                    "effect")
    return flags.load_recognizer(args, Recognizer.load)


def _names_gpu(args: argparse.Namespace) -> bool:
    return args.gpu_id not in (None, (-1,))


def needs_tensorflow(args: argparse.Namespace) -> bool:
    """Returns whether TensorFlow runs the model that the flags name."""
    from aocr.inference import recognizer

    return recognizer.needs_tensorflow(
        args.model_dir or _default_model(), args.precision, flags.decoding_settings(args),
        gpu=_names_gpu(args))


def _default_model() -> str:
    """Returns the default model directory, or that of a built-in model if it holds no model."""
    directory = flags.DEFAULT_MODEL_DIR
    if os.path.isdir(directory):
        used = model_files.holds_model(directory)
    else:
        used = os.path.exists(directory)
    return directory if used else built_in.DEFAULT_DIRECTORY


def _announce(model: str) -> None:
    """Logs that a built-in model is used, unless it is the default directory."""
    if model != flags.DEFAULT_MODEL_DIR:
        log.info(f"There is no model in {flags.DEFAULT_MODEL_DIR}: reading with the built-in "
                 f"model {built_in.DEFAULT}, trained on {built_in.describe(built_in.DEFAULT)}; "
                 "--model-dir names another.")


def _probability(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"expected a probability, 0 to 1, got {text}")
    return number


_probability.__name__ = "probability"  # argparse names the type in its message


def _mark(result: Result, min_probability: float | None) -> str:
    return "OK" if min_probability is None or result.probability >= min_probability else "LOW"


def _write_log(_name: str, result: Result, min_probability: float | None) -> None:
    log.info(f"Result: {_mark(result, min_probability)}. {result.probability:.2f} "
             f"{printable(result.text)}")


def _write_tsv(name: str, result: Result, min_probability: float | None) -> None:
    fields = [name, f"{result.probability:.6f}", result.text]
    if min_probability is not None:
        fields.append(_mark(result, min_probability))
    print(*(field.translate(_TSV_ESCAPES) for field in fields), sep="\t")


def _write_jsonl(name: str, result: Result, min_probability: float | None) -> None:
    values: dict[str, object] = {
        "path": name, "text": result.text, "probability": result.probability,
        "characters": result.characters}
    if result.candidates:
        values["candidates"] = result.candidates
    if min_probability is not None:
        values["accepted"] = result.probability >= min_probability
    print(json_text.dumps(values))


_TSV_ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\"})
_WRITERS: dict[str, Callable[..., None]] = {
    "log": _write_log, "tsv": _write_tsv, "jsonl": _write_jsonl}
