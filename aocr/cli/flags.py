"""Flags and types of flags that several commands share, and the settings they stand for."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aocr.config import MAX_PIXELS, PRECISIONS, PRINTABLE_ASCII, ModelConfig, TrainConfig
from aocr.runtime.console import log

if TYPE_CHECKING:
    from aocr.checkpoints.loader import CheckpointChoice

MODEL_DEFAULTS = ModelConfig()
TRAIN_DEFAULTS = TrainConfig()


def add_datasets(command: argparse.ArgumentParser) -> None:
    """Adds the positional argument of one or more datasets."""
    command.add_argument("dataset", metavar="DATASET", nargs="+",
                         help="TFRecords file, or a glob of several")


def add_model_flags(command: argparse.ArgumentParser) -> None:
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
        add("--" + name.replace("_", "-"), type=at_least_one, metavar="N",
            help=f"{text} (default: {getattr(MODEL_DEFAULTS, name)})")
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


def add_max_pixels(command: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Adds `--max-pixels`."""
    command.add_argument(
        "--max-pixels", type=at_least_one, default=MAX_PIXELS, metavar="N",
        help="images whose header promises more are skipped, before they take memory "
        "(default: %(default)s)")


def add_precision(add: Callable[..., object]) -> None:
    """Adds `--precision`."""
    add("--precision", choices=PRECISIONS, default=PRECISIONS[0],
        help="type of the convolutions; mixed_bfloat16 is for processors with AVX512_BF16 or AMX "
        "and for GPUs that have it, mixed_float16 for GPUs (default: %(default)s)")


def _add_run_flags(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("run")
    add_max_pixels(group)
    add = group.add_argument
    add("--model-dir", "--job-dir", dest="model_dir", default="./checkpoints", metavar="DIR",
        help="folder of the model (default: %(default)s)")
    add("--output-dir", default="out", metavar="DIR",
        help="folder for attention pictures (default: %(default)s)")
    add("--gpu-id", type=_gpus, metavar="N|N,N|all",
        help="GPU to use, -1 for none; train takes several, or all (default: 0)")
    add("--no-distance", dest="use_distance", action="store_false",
        help="accuracy counts full matches only")
    add("--initial-learning-rate", type=float, default=TRAIN_DEFAULTS.initial_learning_rate,
        metavar="X",
        help="learning rate of AdaDelta (default: %(default)s)")
    add("--max-gradient-norm", type=float, default=TRAIN_DEFAULTS.max_gradient_norm, metavar="X",
        help="global norm that gradients are clipped to (default: %(default)s)")
    add("--no-gradient-clipping", dest="clip_gradients", action="store_false",
        help="do not clip gradients")


def at_least_one(text: str) -> int:
    """Type of a flag: a whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return number


def _gpus(text: str) -> tuple[int, ...] | str:
    return text if text == "all" else tuple(int(number) for number in text.split(","))


def port(text: str) -> int:
    """Type of a flag: a TCP port, 0 for none."""
    number = int(text)
    if not 0 <= number < 1 << 16:
        raise argparse.ArgumentTypeError(f"expected a port, 0 to 65535, got {text}")
    return number


def positive(text: str) -> float:
    """Type of a flag: a finite number above 0."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number


def not_negative(text: str) -> float:
    """Type of a flag: a finite number of at least 0."""
    return 0.0 if float(text) == 0 else positive(text)


_gpus.__name__ = "list of GPU numbers"
port.__name__ = "port"
positive.__name__ = not_negative.__name__ = "number"
at_least_one.__name__ = "whole number"  # argparse names the type in its message
_MODEL_FLAGS = ("max_width", "max_height", "max_prediction", "color", "use_gru",
                "attn_num_layers", "attn_num_hidden", "target_embedding_size", "oversize")


def given_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The model settings that the user named."""
    given = {name: getattr(args, name) for name in _MODEL_FLAGS
             if getattr(args, name, None) is not None}
    if args.full_ascii:
        given["alphabet"] = PRINTABLE_ASCII
    return given


def restore_model(args: argparse.Namespace) -> Any:  # noqa: ANN401  # a Recognizer; imported late
    """Selects the GPU and loads the model that the flags name."""
    from aocr.runtime import devices

    devices.use_gpus(args.gpu_id, most=1)
    return load_recognizer(args)


def load_recognizer(args: argparse.Namespace) -> Any:  # noqa: ANN401  # a Recognizer
    """Loads the model that the flags name."""
    from aocr.inference import recognizer

    restored = recognizer.Recognizer.load(args.model_dir, checkpoint_choice(args), args.max_pixels,
                                          getattr(args, "precision", PRECISIONS[0]),
                                          **given_settings(args))
    log.info(f"Reading model parameters from {restored.source}")
    return restored


def checkpoint_choice(args: argparse.Namespace) -> CheckpointChoice:
    """Which checkpoint `--checkpoint`, `--strict` and `--debias` choose."""
    from aocr.checkpoints import loader

    return loader.CheckpointChoice(args.checkpoint, args.strict, args.debias)
