"""The command line as argparse knows it: the original's flags, and ours."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from aocr import __version__
from aocr.config import (
    DIGITS_AND_CAPITALS,
    MAX_PIXELS,
    OVERSIZE,
    PRECISIONS,
    ModelConfig,
    TrainConfig,
)
from aocr.serve.options import Limits, Options

_MODEL = ModelConfig()
_TRAIN = TrainConfig()
_SERVER = Options()
_LIMITS = Limits()


def parser() -> argparse.ArgumentParser:
    """All commands and flags."""
    top = argparse.ArgumentParser(
        prog="aocr", description="Train, test, export and use an attention OCR model for cropped "
        "words and lines.")
    top.add_argument("--version", action="version", version=f"aocr {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_dataset, _train, _test, _predict, _export, _serve):
        command = add(commands)
        command.add_argument("--log-path", metavar="FILE",
                             help="log file (default: aocr.log)")
    return top


def _dataset(commands: argparse._SubParsersAction[argparse.ArgumentParser]
             ) -> argparse.ArgumentParser:
    command = commands.add_parser("dataset", help="make a TFRecords dataset of labelled images")
    add = command.add_argument
    add("annotations", metavar="ANNOTATIONS", help="text file with one `path label` a line")
    add("output", metavar="OUTPUT", nargs="?", default="./dataset.tfrecords",
        help="TFRecords file to write (default: %(default)s)")
    add("--shards", type=_at_least_one, metavar="N",
        help="write N files: words.tfrecords becomes words-00000-of-0000N.tfrecords and so on")
    add("--shard-index", type=int, metavar="I",
        help="write only file I of --shards, from 0: several machines make one dataset")
    add("--log-step", type=_at_least_one, default=500, metavar="N",
        help="a line in the log every N pairs (default: %(default)s)")
    add("--no-force-uppercase", dest="force_uppercase", action="store_false",
        help="keep the labels' case")
    add("--save-filename", action="store_true",
        help="store each image's path as the record's comment")
    add("--jobs", type=_at_least_one, default=1, metavar="N",
        help="files to read at the same time (default: %(default)s)")
    _add_max_pixels(command)
    return command


def _train(commands: argparse._SubParsersAction[argparse.ArgumentParser]
           ) -> argparse.ArgumentParser:
    command = commands.add_parser("train", help="train a model")
    _add_datasets(command)
    _add_model_flags(command)
    alphabet = command.add_argument_group("alphabet")
    alphabet.add_argument("--charset", metavar="FILE|auto",
                          help="the characters: those in a UTF-8 text file, or `auto` for those "
                          f"of the dataset (default: {DIGITS_AND_CAPITALS})")
    add = command.add_argument_group("training").add_argument
    add("--oversize", choices=OVERSIZE, help="what happens to images wider than --max-width "
        f"(default: {_MODEL.oversize})")
    add("--steps-per-checkpoint", type=_at_least_one, metavar="N",
        default=_TRAIN.steps_per_checkpoint,
        help="steps between two checkpoints (default: %(default)s)")
    add("--keep", type=_at_least_one, default=_TRAIN.keep, metavar="N",
        help="newest checkpoints to keep, beside the best (default: %(default)s)")
    add("--batch-size", type=_at_least_one, default=_TRAIN.batch_size, metavar="N",
        help="most images in a step (default: %(default)s)")
    add("--num-epoch", type=_at_least_one, default=_TRAIN.num_epoch, metavar="N",
        help="passes over the data, earlier runs included (default: %(default)s)")
    add("--max-steps", type=_at_least_one, metavar="N",
        help="steps, earlier runs included (default: no limit)")
    _add_precision(add)
    add("--seed", type=int, default=_TRAIN.seed, metavar="N",
        help="start of all random numbers (default: %(default)s)")
    add("--init-from", metavar="DIR",
        help="start from the weights of this model, ours or the original's")
    add("--no-resume", dest="resume", action="store_false",
        help="start with new weights even if the folder holds checkpoints")
    add = command.add_argument_group("validation").add_argument
    add("--val", metavar="DATASET", nargs="+", default=(),
        help="TFRecords files or globs to validate on at every checkpoint")
    add("--val-split", type=float, default=_TRAIN.val_split, metavar="X",
        help="validate on this share of the images instead of training on them (0.1, say)")
    add("--early-stop", type=_at_least_one, metavar="N",
        help="end after N validations without gain")
    return command


def _test(commands: argparse._SubParsersAction[argparse.ArgumentParser]
          ) -> argparse.ArgumentParser:
    command = commands.add_parser("test", help="test a model on a dataset")
    _add_datasets(command)
    _add_model_flags(command)
    add = command.add_argument_group("testing").add_argument
    add("--visualize", action="store_true", help="write attention pictures to --output-dir")
    add("--batch-size", type=_at_least_one, default=_TRAIN.batch_size, metavar="N",
        help="images read at once (default: %(default)s)")
    add("--json", metavar="FILE", help="write the results as JSON")
    _add_precision(add)
    return command


def _predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]
             ) -> argparse.ArgumentParser:
    command = commands.add_parser("predict", help="read image files")
    command.add_argument("files", metavar="FILE|FOLDER|-", nargs="*",
                         help="images, folders of images, or - for file names on standard input "
                         "(default: -)")
    _add_model_flags(command)
    command.add_argument("--format", choices=("log", "tsv", "jsonl"), default="log",
                         help="log lines on standard error, or a table or JSON lines on standard "
                         "output (default: %(default)s)")
    _add_precision(command.add_argument)
    return command


def _export(commands: argparse._SubParsersAction[argparse.ArgumentParser]
            ) -> argparse.ArgumentParser:
    command = commands.add_parser("export", help="export a model for serving")
    command.add_argument("dir", metavar="DIR", nargs="?",
                         default=os.environ.get("AIP_MODEL_DIR") or "exported",
                         help="folder to write to (default: %(default)s; AIP_MODEL_DIR, where "
                         "Vertex AI sets it)")
    _add_model_flags(command)
    command.add_argument("--format", choices=("savedmodel", "frozengraph"), default="savedmodel",
                         help="what to write (default: %(default)s)")
    command.add_argument("--model-version", type=_at_least_one, metavar="N",
                         help="write to DIR/N/, as TensorFlow Serving wants it")
    return command


def _serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]
           ) -> argparse.ArgumentParser:
    command = commands.add_parser("serve", help="serve an exported model (REST and gRPC)")
    command.add_argument("dir", metavar="DIR", help="folder of numbered versions, as `aocr export "
                         "--model-version 1 DIR` writes it; newer ones are picked up")
    add = command.add_argument_group("doors").add_argument
    add("--model-name", default=_SERVER.model_name, metavar="NAME",
        help="name in requests (default: %(default)s)")
    add("--host", default=_SERVER.host, metavar="ADDRESS",
        help="address to listen on (default: %(default)s, this machine only)")
    add("--port", type=_port, default=_SERVER.port, metavar="N",
        help="port of gRPC, 0 for none (default: %(default)s)")
    add("--rest-api-port", type=_port, default=_SERVER.rest_port, metavar="N",
        help="port of REST, 0 for none (default: %(default)s)")
    add("--log-level", choices=("info", "debug"), default="info",
        help="debug: a line for each request (default: %(default)s)")
    add = command.add_argument_group("batches and versions").add_argument
    add("--max-batch-size", type=_at_least_one, default=_SERVER.max_batch, metavar="N",
        help="images in one call of the model (default: %(default)s)")
    add("--batch-timeout-ms", type=_not_negative, default=1000 * _SERVER.batch_timeout,
        metavar="X", help="longest wait for as many images as the batch before held "
        "(default: %(default)s)")
    add("--poll-seconds", type=_positive, default=_SERVER.poll_seconds, metavar="X",
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
        add(name, type=_at_least_one, default=default, metavar="N",
            help=f"{text} (default: %(default)s)")
    add("--request-seconds", type=_positive, default=_LIMITS.seconds, metavar="X",
        help="time a request may take (default: %(default)s)")


def _add_datasets(command: argparse.ArgumentParser) -> None:
    command.add_argument("dataset", metavar="DATASET", nargs="+",
                         help="TFRecords file, or a glob of several")


def _add_model_flags(command: argparse.ArgumentParser) -> None:
    """The flags that the original gave to train, test, predict and export alike.

    Those that shape the model have no default here: what the user does not name comes from the
    model folder.
    """
    add = command.add_argument_group(
        "model", "A model folder remembers these; after training none of them is needed."
        ).add_argument
    for name, text in (
            ("max_width", "widest image file that is used, in pixels"),
            ("max_height", "together with --max-width, the widest shape that is kept"),
            ("max_prediction", "longest label in characters"),
            ("attn_num_layers", "layers of the decoder"),
            ("attn_num_hidden", "units of a decoder layer"),
            ("target_embedding_size", "size of a character's embedding")):
        add("--" + name.replace("_", "-"), type=_at_least_one, metavar="N",
            help=f"{text} (default: {getattr(_MODEL, name)})")
    for name, text in (("color", "read colours instead of grey"),
                       ("use_gru", "GRU cells in the decoder"),
                       ("full_ascii", "all printable ASCII characters instead of 0-9A-Z")):
        add("--" + name.replace("_", "-"), action="store_true", default=None, help=text)
    add("--checkpoint", metavar="latest|best|N", help="which checkpoint to use (default: the best, "
        "if there is one, or else the latest); for train, of --init-from")
    add("--strict", action="store_true",
        help="refuse a damaged checkpoint instead of taking the one before it")
    add("--debias", action="store_true", help="models of the original: take the start values out "
        "of the batch-norm averages")
    _add_run_flags(command)


def _add_max_pixels(command: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    command.add_argument(
        "--max-pixels", type=_at_least_one, default=MAX_PIXELS, metavar="N",
        help="images whose header promises more are skipped, before they take memory "
        "(default: %(default)s)")


def _add_precision(add: Callable[..., object]) -> None:
    add("--precision", choices=PRECISIONS, default=PRECISIONS[0],
        help="type of the convolutions; mixed_bfloat16 is for processors with AVX512_BF16 or AMX "
        "and for GPUs that have it, mixed_float16 for GPUs (default: %(default)s)")


def _add_run_flags(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("run")
    _add_max_pixels(group)
    add = group.add_argument
    add("--model-dir", "--job-dir", dest="model_dir", default="./checkpoints", metavar="DIR",
        help="folder of the model (default: %(default)s)")
    add("--output-dir", default="out", metavar="DIR",
        help="folder for attention pictures (default: %(default)s)")
    add("--gpu-id", type=_gpus, metavar="N|N,N|all",
        help="GPU to use, -1 for none; train takes several, or all (default: 0)")
    add("--no-distance", dest="use_distance", action="store_false",
        help="accuracy counts full matches only")
    add("--initial-learning-rate", type=float, default=_TRAIN.initial_learning_rate, metavar="X",
        help="learning rate of AdaDelta (default: %(default)s)")
    add("--max-gradient-norm", type=float, default=_TRAIN.max_gradient_norm, metavar="X",
        help="global norm that gradients are clipped to (default: %(default)s)")
    add("--no-gradient-clipping", dest="clip_gradients", action="store_false",
        help="do not clip gradients")


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return number


def _gpus(text: str) -> tuple[int, ...] | str:
    return text if text == "all" else tuple(int(number) for number in text.split(","))


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number < 1 << 16:
        raise argparse.ArgumentTypeError(f"expected a port, 0 to 65535, got {text}")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number


def _not_negative(text: str) -> float:
    return 0.0 if float(text) == 0 else _positive(text)


_gpus.__name__ = "list of GPU numbers"
_port.__name__ = "port"
_positive.__name__ = _not_negative.__name__ = "number"
_at_least_one.__name__ = "whole number"  # argparse names the type in its message
