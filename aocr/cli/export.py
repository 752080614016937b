"""Flags of `aocr export`, and its call."""

from __future__ import annotations

import argparse
import os

from aocr.cli import flags
from aocr.cli.exit_codes import OK
from aocr.config import MAX_PIXELS
from aocr.errors import AocrError
from aocr.runtime.console import log

_INT8_FORMATS = ("onnx", "tflite")


def add_parser(commands: flags.Commands[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds `aocr export` and its flags to the commands."""
    command = flags.add_command(
        commands, "export", "export a model for serving", "[DIR]",
        "Writes a model that needs only TensorFlow, ONNX Runtime or LiteRT, and\n"
        "compares its predictions with those of the checkpoint.",
        ("aocr export exported --model-version 1",
         "aocr export frozen --format frozengraph --model-dir checkpoints",
         "aocr export onnx --format onnx --quantize int8 --calibrate words.tfrecords"))
    add = command.add_argument_group("model and output").add_argument
    add("dir", metavar="DIR", nargs="?", default=os.environ.get("AIP_MODEL_DIR") or "exported",
        help="directory to write to (default: AIP_MODEL_DIR if it is set, as on Vertex AI, "
        "otherwise `exported`)")
    add("--model-version", type=flags.at_least_one, metavar="N",
        help="write to DIR/N/, where TensorFlow Serving and `aocr serve` look for version N")
    add("--format", choices=("savedmodel", "frozengraph", "onnx", "tflite"), default="savedmodel",
        help="SavedModel directory, or a single file: a frozen graph, an ONNX model for ONNX "
        "Runtime, OpenVINO and web browsers, or a LiteRT model for phones (default: %(default)s)")
    add("--quantize", choices=("int8",), help="with --format onnx or tflite: write a model of less "
        "than a third of the size, which computes in int8; needs --calibrate")
    add("--calibrate", metavar="DATASET", help="up to 1000 images for --quantize: they show the "
        "ranges of values, and the word accuracy on them is reported")
    flags.add_model(add)
    flags.add_checkpoint_flags(add)
    flags.add_decoding_flags(command)
    add = command.add_argument_group("speed and limits").add_argument
    flags.add_gpu(add)
    add("--max-pixels", type=flags.at_least_one, default=MAX_PIXELS, metavar="N",
        help="with --format savedmodel or frozengraph: the exported model refuses images whose "
        "header declares more pixels (default: %(default)s)")
    flags.add_legacy_flags(command)
    for add_flags in (flags.add_output_dir, flags.add_no_distance, flags.add_optimizer_flags):
        add_flags(flags.hidden(command))
    return command


def run(args: argparse.Namespace) -> int:
    """Runs `aocr export`."""
    from aocr.inference import export, quantization_samples
    from aocr.inference.tensorflow_recognizer import CheckpointRecognizer

    _check_quantization(args)
    recognizer = flags.restore_model(args, CheckpointRecognizer.load)
    if args.quantize is not None:
        samples = quantization_samples.read(args.calibrate, recognizer.graph)
        directory, comparison = export.export_int8(
            recognizer, args.dir, args.format, samples, args.model_version)
        log.info(f"Exported to {directory}, in {args.quantize}: {comparison}.")
        return OK
    directory = export.export(recognizer, args.dir, args.format, args.model_version)
    log.info(f"Exported to {directory}; its predictions equal those of the checkpoint.")
    return OK


def _check_quantization(args: argparse.Namespace) -> None:
    """Checks that the flags of quantization are given together, for a format that has it."""
    if (args.quantize is None) != (args.calibrate is None):
        raise AocrError("--quantize and --calibrate need each other: name a dataset whose images "
                        "show the ranges of values")
    if args.quantize is not None and args.format not in _INT8_FORMATS:
        raise AocrError(f"--quantize {args.quantize} applies to --format "
                        f"{' or '.join(_INT8_FORMATS)}, not {args.format}")
