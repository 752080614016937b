"""Flags and flag types that several commands share, and the settings that they stand for."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from aocr.config import FLOAT32, MAX_PIXELS, PRECISIONS, PRINTABLE_ASCII, ModelConfig, TrainConfig
from aocr.runtime.console import log

if TYPE_CHECKING:
    from aocr.checkpoints.choice import CheckpointChoice
    from aocr.inference.recognizer import Recognizer

AnyRecognizer = TypeVar("AnyRecognizer", bound="Recognizer")
AddFlag = Callable[..., argparse.Action]
Commands = argparse._SubParsersAction  # argparse has no public name for this class

DEFAULT_MODEL_DIR = "./checkpoints"
MODEL_DEFAULTS = ModelConfig()
TRAIN_DEFAULTS = TrainConfig()
_MODEL_FLAGS = ("max_width", "max_height", "max_prediction", "color", "use_gru",
                "attn_num_layers", "attn_num_hidden", "target_embedding_size", "oversize")


def add_command(commands: Commands[argparse.ArgumentParser], name: str, summary: str,
                usage: str, description: str, examples: tuple[str, ...]
                ) -> argparse.ArgumentParser:
    """Adds a command without flags.

    Args:
        commands: The commands of `aocr`.
        name: Its name.
        summary: Its line in `aocr --help`.
        usage: Its positional arguments.
        description: The text above its flags, in lines of at most 80 characters.
        examples: The lines below its flags.
    """
    return commands.add_parser(
        name, help=summary, usage=f"aocr {name} {usage} [options]", description=description,
        epilog="\n  ".join(("examples:", *examples)), add_help=False,
        formatter_class=argparse.RawDescriptionHelpFormatter)


def add_general_flags(command: argparse.ArgumentParser) -> None:
    """Adds the flags of every command."""
    add = command.add_argument_group("general options").add_argument
    add("--log-path", metavar="FILE", help="log file (default: aocr.log)")
    add("-h", "--help", action="help", help="show this help and exit")


def hidden(command: argparse.ArgumentParser) -> AddFlag:
    """Returns an `add_argument` that leaves its flag out of the command's help."""
    def add(*names: str, **settings: Any) -> argparse.Action:  # noqa: ANN401  # as add_argument
        return command.add_argument(*names, **{**settings, "help": argparse.SUPPRESS})

    return add


def add_datasets(add: AddFlag) -> None:
    """Adds the positional argument that names one or more datasets."""
    add("dataset", metavar="DATASET", nargs="+",
        help="TFRecords file, or a glob of several in quotes")


def add_model_dir(add: AddFlag) -> None:
    """Adds `--model-dir` for a directory to read and write, with its other name in aocr 0.7."""
    add("--model-dir", "--job-dir", dest="model_dir", default=DEFAULT_MODEL_DIR, metavar="DIR",
        help="model directory (default: %(default)s)")


def add_model(add: AddFlag) -> None:
    """Adds `--model-dir` for a model to read, with its other name in aocr 0.7."""
    add("--model-dir", "--job-dir", dest="model_dir", default=DEFAULT_MODEL_DIR, metavar="DIR|NAME",
        help="directory of a model, or name of a built-in one (default: %(default)s)")


def add_checkpoint_flags(add: AddFlag) -> None:
    """Adds the flags that select a checkpoint."""
    add("--checkpoint", metavar="latest|best|N",
        help="checkpoint to use (default: the best if there is one, otherwise the latest)")
    add_strict(add)


def add_strict(add: AddFlag) -> None:
    """Adds `--strict`."""
    add("--strict", action="store_true",
        help="refuse a damaged checkpoint instead of using the one before it")


def add_size_flags(add: AddFlag) -> None:
    """Adds the flags for the sizes of images and labels.

    Like all flags that determine the model, they have no argparse default: settings that the
    user does not give come from the model directory.
    """
    for name, text in (
            ("max_width", "width in pixels of the widest image file to use"),
            ("max_height", "with --max-width: max-width / max-height is the largest aspect ratio "
             "that is kept; wider images are compressed to it"),
            ("max_prediction", "length of the longest label in characters")):
        _add_size(add, name, text)


def add_color(add: AddFlag) -> None:
    """Adds `--color`."""
    add("--color", action="store_true", default=None, help="read three channels instead of gray")


def add_full_ascii(add: AddFlag) -> None:
    """Adds `--full-ascii`."""
    add("--full-ascii", action="store_true", default=None,
        help="read the 95 printable ASCII characters instead of 0-9A-Z")


def add_network_flags(add: AddFlag) -> None:
    """Adds the flags for the sizes of the network."""
    for name, text in (
            ("attn_num_layers", "decoder layers"),
            ("attn_num_hidden", "units of a decoder layer; each direction of the encoder has "
             "layers x units"),
            ("target_embedding_size", "size of a character's embedding")):
        _add_size(add, name, text)
    add("--use-gru", action="store_true", default=None, help="GRU cells in the decoder")


def _add_size(add: AddFlag, name: str, text: str) -> None:
    add("--" + name.replace("_", "-"), type=at_least_one, metavar="N",
        help=f"{text} (default: {getattr(MODEL_DEFAULTS, name)})")


def add_optimizer_flags(add: AddFlag) -> None:
    """Adds the flags of the optimizer."""
    add("--initial-learning-rate", type=float, metavar="X",
        help="learning rate (default: that of the checkpoint to resume from; for a new run or "
        "another optimizer 0.002 for Adam, 0.001 with --init-from, 1.0 for AdaDelta)")
    add("--max-gradient-norm", type=float, default=TRAIN_DEFAULTS.max_gradient_norm, metavar="X",
        help="clip gradients to this global norm; Adam also clips them to 3 times that of the "
        "last steps (default: %(default)s)")
    add("--no-gradient-clipping", dest="clip_gradients", action="store_false",
        help="do not clip gradients")


def add_output_dir(add: AddFlag) -> None:
    """Adds `--output-dir`."""
    add("--output-dir", default="out", metavar="DIR",
        help="directory of the attention pictures (default: %(default)s)")


def add_no_distance(add: AddFlag) -> None:
    """Adds `--no-distance`."""
    add("--no-distance", dest="use_distance", action="store_false",
        help="accuracy counts exact matches only, without edit-distance credit")


def add_max_pixels(add: AddFlag) -> None:
    """Adds `--max-pixels`."""
    add("--max-pixels", type=at_least_one, default=MAX_PIXELS, metavar="N",
        help="skip images whose header declares more pixels (default: %(default)s)")


def add_gpu(add: AddFlag) -> None:
    """Adds `--gpu-id`."""
    add("--gpu-id", type=_gpus, metavar="N", help="GPU to use, -1 for the CPU (default: 0)")


def add_gpus(add: AddFlag) -> None:
    """Adds `--gpu-id` for several GPUs."""
    add("--gpu-id", type=_gpus, metavar="N|N,N|all",
        help="GPUs to use, -1 for the CPU (default: 0)")


def add_precision(add: AddFlag) -> None:
    """Adds `--precision`."""
    add("--precision", choices=PRECISIONS, default=FLOAT32,
        help="type of the convolutions: mixed_bfloat16 for CPUs with AVX512_BF16 or AMX and for "
        "GPUs with bfloat16, mixed_float16 for other GPUs (default: %(default)s)")


def add_debias(add: AddFlag) -> None:
    """Adds `--debias`."""
    add("--debias", action="store_true",
        help="remove the start values from the batch-norm averages of a model of aocr 0.7")


def add_decoding_flags(command: argparse.ArgumentParser) -> None:
    """Adds the flags that restrict the texts, and those of the beam search."""
    add = command.add_argument_group("constrained decoding").add_argument
    add("--pattern", metavar="REGEX",
        help=r"return only texts that match this regular expression, such as '[A-Z]{2}\d{4}'")
    add("--lexicon", metavar="FILE",
        help="return only entries of this word list, a UTF-8 text file with one entry a line")
    add("--beam", type=at_least_one, metavar="N",
        help="hypotheses of the beam search, 1 for greedy decoding (default: that of --n-best, "
        "otherwise 1)")
    add("--n-best", type=at_least_one, metavar="K", help="return the K most probable texts as well")


def add_legacy_flags(command: argparse.ArgumentParser) -> None:
    """Adds the flags that only models of aocr 0.7 need once they are trained.

    The flags of the network stay out of the help: the variables of such a model give their
    values. They are still checked against the model.
    """
    add = command.add_argument_group(
        "models of aocr 0.7", "Other models record these settings in their directory; a flag that "
        "contradicts\nit is an error.").add_argument
    add_size_flags(add)
    add_debias(add)
    for add_flags in (add_color, add_full_ascii, add_network_flags):
        add_flags(hidden(command))


def at_least_one(text: str) -> int:
    """Parses the value of a flag: a whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return number


def _gpus(text: str) -> tuple[int, ...] | str:
    return text if text == "all" else tuple(int(number) for number in text.split(","))


def port(text: str) -> int:
    """Parses the value of a flag: a TCP port, 0 for none."""
    number = int(text)
    if not 0 <= number < 1 << 16:
        raise argparse.ArgumentTypeError(f"expected a port, 0 to 65535, got {text}")
    return number


def positive(text: str) -> float:
    """Parses the value of a flag: a finite number above 0."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number


def not_negative(text: str) -> float:
    """Parses the value of a flag: a finite number of at least 0."""
    return 0.0 if float(text) == 0 else positive(text)


_gpus.__name__ = "list of GPU numbers"
port.__name__ = "port"
positive.__name__ = not_negative.__name__ = "number"
at_least_one.__name__ = "whole number"  # argparse names the type in its message


def given_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the model settings that the user gave, by field of `ModelConfig`."""
    given = {name: getattr(args, name) for name in _MODEL_FLAGS
             if getattr(args, name, None) is not None}
    if args.full_ascii:
        given["alphabet"] = PRINTABLE_ASCII
    return given


def decoding_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the settings that `--pattern`, `--lexicon`, `--beam` and `--n-best` describe."""
    return {name: getattr(args, name) for name in ("pattern", "lexicon", "beam", "n_best")}


def restore_model(args: argparse.Namespace, load: Callable[..., AnyRecognizer]) -> AnyRecognizer:
    """Selects the GPU and loads the model that the flags name; see `load_recognizer`."""
    from aocr.runtime import devices

    devices.use_gpus(args.gpu_id, max_gpus=1)
    return load_recognizer(args, load)


def load_recognizer(args: argparse.Namespace, load: Callable[..., AnyRecognizer]) -> AnyRecognizer:
    """Loads the model that the flags name with the method `load` of a class of recognizers."""
    recognizer = load(args.model_dir, checkpoint_choice(args), args.max_pixels,
                      getattr(args, "precision", FLOAT32), **given_settings(args),
                      **decoding_settings(args))
    log.info(f"Reading model parameters from {recognizer.source}")
    return recognizer


def checkpoint_choice(args: argparse.Namespace) -> CheckpointChoice:
    """Returns the choice that `--checkpoint`, `--strict` and `--debias` describe."""
    from aocr.checkpoints.choice import CheckpointChoice

    return CheckpointChoice(args.checkpoint, args.strict, args.debias)
