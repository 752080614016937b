"""`aocr train`: its flags, its checks and one call."""

from __future__ import annotations

import argparse

from aocr.cli import flags
from aocr.cli.exit_codes import OK
from aocr.config import DIGITS_AND_CAPITALS, OVERSIZE, ModelConfig, TrainConfig
from aocr.errors import AocrError
from aocr.runtime.console import log


def add_parser(commands: flags.Commands[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds `aocr train` and its flags to the commands."""
    command = flags.add_command(
        commands, "train", "train a model on datasets", "DATASET...",
        "Trains a model and writes checkpoints to the model directory. The same command\n"
        "again resumes from the newest checkpoint.",
        ("aocr train words.tfrecords --max-width 240 --max-height 46 --charset auto",
         "aocr train 'words-*.tfrecords' --val-split 0.1 --early-stop 5",
         "aocr train more.tfrecords --init-from checkpoints --model-dir fine-tuned"))
    add = command.add_argument_group("data and model").add_argument
    flags.add_datasets(add)
    flags.add_model_dir(add)
    _add_text_and_image_flags(command)
    _add_run_flags(command)
    _add_start_flags(command)
    flags.add_network_flags(command.add_argument_group("network").add_argument)
    add = command.add_argument_group("optimizer").add_argument
    flags.add_optimizer_flags(add)
    add("--seed", type=int, default=flags.TRAIN_DEFAULTS.seed, metavar="N",
        help="seed of weights, data order and dropout (default: %(default)s)")
    add = command.add_argument_group("devices").add_argument
    flags.add_gpus(add)
    flags.add_precision(add)
    flags.add_output_dir(flags.hidden(command))
    flags.add_no_distance(flags.hidden(command))
    return command


def _add_text_and_image_flags(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group(
        "images and text", "`aocr dataset` proposes values that fit.").add_argument
    flags.add_size_flags(add)
    add("--charset", metavar="FILE|auto",
        help="characters to read: those of a UTF-8 text file, or `auto` for those of the "
        f"dataset (default: {DIGITS_AND_CAPITALS})")
    flags.add_full_ascii(add)
    flags.add_color(add)
    add("--oversize", choices=OVERSIZE, help="what to do with images wider than --max-width "
        f"(default: {flags.MODEL_DEFAULTS.oversize})")
    flags.add_max_pixels(add)


def _add_run_flags(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("duration and checkpoints").add_argument
    defaults = flags.TRAIN_DEFAULTS
    add("--batch-size", type=flags.at_least_one, default=defaults.batch_size, metavar="N",
        help="maximum number of images in a step, over all devices (default: %(default)s)")
    add("--num-epoch", type=flags.at_least_one, default=defaults.num_epoch, metavar="N",
        help="passes over the data, including those of earlier runs (default: %(default)s)")
    add("--max-steps", type=flags.at_least_one, metavar="N",
        help="steps, including those of earlier runs (default: no limit)")
    add("--steps-per-checkpoint", type=flags.at_least_one, metavar="N",
        default=defaults.steps_per_checkpoint,
        help="steps between two checkpoints (default: %(default)s)")
    add("--keep", type=flags.at_least_one, default=defaults.keep, metavar="N",
        help="number of newest checkpoints to keep, besides the best (default: %(default)s)")
    add = command.add_argument_group("validation").add_argument
    add("--val", metavar="DATASET", nargs="+", default=(),
        help="TFRecords files or globs to validate on at every checkpoint")
    add("--val-split", type=float, default=defaults.val_split, metavar="X",
        help="validate on this share of the images, such as 0.1, instead of training on them")
    add("--early-stop", type=flags.at_least_one, metavar="N",
        help="stop after N validations without improvement")


def _add_start_flags(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("starting point").add_argument
    add("--no-resume", dest="resume", action="store_false",
        help="start with new weights even if the model directory holds checkpoints")
    add("--init-from", metavar="DIR",
        help="start from the weights of this model, which may be of aocr 0.7")
    add("--checkpoint", metavar="latest|best|N",
        help="checkpoint of --init-from (default: the best if there is one, otherwise the latest)")
    flags.add_debias(add)
    flags.add_strict(add)


def run(args: argparse.Namespace) -> int:
    """`aocr train`."""
    from aocr.checkpoints import config_file, directory, loader, warm_start
    from aocr.runtime import distributed
    from aocr.training import train

    joined = distributed.join(args.gpu_id)
    loader.check_trainable(args.model_dir, args.resume)
    settings = _train_settings(args)
    given = flags.given_settings(args)
    weights = None
    resume = args.resume and directory.started(args.model_dir)
    if args.charset is not None and not (resume and args.charset == "auto"):
        given["alphabet"] = _charset(args)
    if resume:
        config = config_file.load(args.model_dir)
        config_file.check_flags(args.model_dir, config, given)
        if args.init_from is not None:
            log.info(f"--init-from: {args.model_dir} has started already, and goes on")
    elif args.init_from is not None:
        weights, config = warm_start.load(args.init_from, given, flags.checkpoint_choice(args))
    else:
        config = ModelConfig(**given)
    if args.debias and weights is None:
        log.info("--debias: there is nothing to remove without --init-from")
    start = train.StartOptions(resume, args.strict, weights)
    ended_by = train.train(args.dataset, args.model_dir, config, settings, start, joined)
    return 128 + ended_by if ended_by else OK


def _train_settings(args: argparse.Namespace) -> TrainConfig:
    return TrainConfig(
        batch_size=args.batch_size, num_epoch=args.num_epoch, max_steps=args.max_steps,
        steps_per_checkpoint=args.steps_per_checkpoint,
        initial_learning_rate=args.initial_learning_rate,
        max_gradient_norm=args.max_gradient_norm if args.clip_gradients else None, seed=args.seed,
        keep=args.keep, val=tuple(args.val), val_split=args.val_split, early_stop=args.early_stop,
        max_pixels=args.max_pixels, precision=args.precision)


def _charset(args: argparse.Namespace) -> str:
    """The characters that `--charset` names, each once, in code point order."""
    import tensorflow as tf

    from aocr.data import stats
    from aocr.data.index import resolve_paths
    from aocr.tokenizer import normalize

    if args.full_ascii:
        raise AocrError("--charset and --full-ascii exclude each other; give one")
    if args.charset == "auto":
        return stats.dataset_alphabet(resolve_paths(args.dataset), args.max_pixels)
    try:
        with tf.io.gfile.GFile(args.charset, "rb") as file:
            text = normalize(file.read().decode("utf-8-sig"))
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise AocrError(f"--charset {args.charset}: expected a UTF-8 text file, or `auto`: "
                        f"{error}") from error
    return stats.alphabet_of(text.splitlines())  # line ends are no characters
