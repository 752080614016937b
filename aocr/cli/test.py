"""`aocr test`: its flags, its checks and one call."""

from __future__ import annotations

import argparse

from aocr.cli.exit_codes import OK
from aocr.cli.flags import (
    TRAIN_DEFAULTS,
    add_datasets,
    add_model_flags,
    add_precision,
    at_least_one,
    load_recognizer,
)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]
               ) -> argparse.ArgumentParser:
    """Adds `aocr test` and its flags to the commands."""
    command = commands.add_parser("test", help="test a model on a dataset")
    add_datasets(command)
    add_model_flags(command)
    add = command.add_argument_group("testing").add_argument
    add("--visualize", action="store_true", help="write attention pictures to --output-dir")
    add("--batch-size", type=at_least_one, default=TRAIN_DEFAULTS.batch_size, metavar="N",
        help="images read at once (default: %(default)s)")
    add("--json", metavar="FILE", help="write the results as JSON")
    add_precision(add)
    return command


def run(args: argparse.Namespace) -> int:
    """`aocr test`."""
    from aocr.evaluation import evaluate
    from aocr.runtime import distributed

    joined = distributed.join(args.gpu_id, most=1)
    recognizer = load_recognizer(args)
    options = evaluate.EvaluationOptions(args.batch_size, args.use_distance, args.json,
                               args.output_dir if args.visualize else None)
    evaluate.evaluate(args.dataset, recognizer, options, joined)
    return OK
