"""Flags of `aocr export`, and its call."""

from __future__ import annotations

import argparse
import os

from aocr.cli import flags
from aocr.cli.exit_codes import OK
from aocr.config import MAX_PIXELS
from aocr.runtime.console import log


def add_parser(commands: flags.Commands[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds `aocr export` and its flags to the commands."""
    command = flags.add_command(
        commands, "export", "export a model for serving", "[DIR]",
        "Writes a model that needs only TensorFlow, or only ONNX Runtime, and compares\n"
        "its predictions with those of the checkpoint.",
        ("aocr export exported --model-version 1",
         "aocr export frozen --format frozengraph --model-dir checkpoints"))
    add = command.add_argument_group("model and output").add_argument
    add("dir", metavar="DIR", nargs="?", default=os.environ.get("AIP_MODEL_DIR") or "exported",
        help="directory to write to (default: AIP_MODEL_DIR if it is set, as on Vertex AI, "
        "otherwise `exported`)")
    add("--model-version", type=flags.at_least_one, metavar="N",
        help="write to DIR/N/, where TensorFlow Serving and `aocr serve` look for version N")
    add("--format", choices=("savedmodel", "frozengraph", "onnx"), default="savedmodel",
        help="SavedModel directory, a single file with a frozen graph, or an ONNX file for "
        "ONNX Runtime, OpenVINO and web browsers (default: %(default)s)")
    flags.add_model_dir(add)
    flags.add_checkpoint_flags(add)
    flags.add_decoding_flags(command)
    add = command.add_argument_group("speed and limits").add_argument
    flags.add_gpu(add)
    add("--max-pixels", type=flags.at_least_one, default=MAX_PIXELS, metavar="N",
        help="the exported model refuses images whose header declares more pixels "
        "(default: %(default)s)")
    flags.add_legacy_flags(command)
    for add_flags in (flags.add_output_dir, flags.add_no_distance, flags.add_optimizer_flags):
        add_flags(flags.hidden(command))
    return command


def run(args: argparse.Namespace) -> int:
    """Runs `aocr export`."""
    from aocr.inference import export
    from aocr.inference.tensorflow_recognizer import CheckpointRecognizer

    recognizer = flags.restore_model(args, CheckpointRecognizer.load)
    directory = export.export(recognizer, args.dir, args.format, args.model_version)
    log.info(f"Exported to {directory}; its predictions equal those of the checkpoint.")
    return OK
