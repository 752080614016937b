"""Flags of `aocr test`, and its call."""

from __future__ import annotations

import argparse

from aocr.cli import flags
from aocr.cli.exit_codes import OK


def add_parser(commands: flags.Commands[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds `aocr test` and its flags to the commands."""
    command = flags.add_command(
        commands, "test", "evaluate a model on datasets", "DATASET...",
        "Reads every image of a dataset, compares the predictions with the labels, and\n"
        "reports word accuracy, character error rate (CER) and loss.",
        ("aocr test words-test.tfrecords",
         "aocr test words-test.tfrecords --report report.html",
         "aocr test words-test.tfrecords --json results.json --visualize"))
    add = command.add_argument_group("data and model").add_argument
    flags.add_datasets(add)
    flags.add_model(add)
    flags.add_checkpoint_flags(add)
    flags.add_decoding_flags(command)
    add = command.add_argument_group("results").add_argument
    add("--json", metavar="FILE", help="write the metrics and a row for each image as JSON")
    add("--report", metavar="FILE.html",
        help="write a page for a browser: metrics, confusions, calibration, and images with "
        "their attention")
    add("--report-images", type=flags.at_least_one, default=1000, metavar="N",
        help="maximum number of images in the report: incorrect ones, those with most errors "
        "first, and at least a tenth of correct ones (default: %(default)s)")
    add("--visualize", action="store_true",
        help="write pictures of the attention for each image to --output-dir, in place of those of "
        "an earlier test")
    flags.add_output_dir(add)
    flags.add_no_distance(add)
    add = command.add_argument_group("speed and limits").add_argument
    add("--batch-size", type=flags.at_least_one, default=flags.TRAIN_DEFAULTS.batch_size,
        metavar="N", help="number of images to read at once (default: %(default)s)")
    flags.add_gpu(add)
    flags.add_precision(add)
    flags.add_max_pixels(add)
    flags.add_legacy_flags(command)
    flags.add_optimizer_flags(flags.hidden(command))
    return command


def run(args: argparse.Namespace) -> int:
    """Runs `aocr test`."""
    from aocr.evaluation import evaluate
    from aocr.inference.tensorflow_recognizer import CheckpointRecognizer
    from aocr.runtime import distributed

    cluster = distributed.join(args.gpu_id, max_gpus=1)
    recognizer = flags.load_recognizer(args, CheckpointRecognizer.load)
    options = evaluate.EvaluationOptions(args.batch_size, args.use_distance, args.json,
                                         args.output_dir if args.visualize else None,
                                         args.report, args.report_images)
    evaluate.evaluate(args.dataset, recognizer, options, cluster)
    return OK
