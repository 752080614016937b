"""`aocr train`: its flags, its checks and one call."""

from __future__ import annotations

import argparse

from aocr.cli.exit_codes import OK
from aocr.cli.flags import (
    MODEL_DEFAULTS,
    TRAIN_DEFAULTS,
    add_datasets,
    add_model_flags,
    add_precision,
    at_least_one,
    checkpoint_choice,
    given_settings,
)
from aocr.config import DIGITS_AND_CAPITALS, OVERSIZE, ModelConfig, TrainConfig
from aocr.errors import AocrError
from aocr.runtime.console import log


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]
               ) -> argparse.ArgumentParser:
    """Adds `aocr train` and its flags to the commands."""
    command = commands.add_parser("train", help="train a model")
    add_datasets(command)
    add_model_flags(command)
    alphabet = command.add_argument_group("alphabet")
    alphabet.add_argument("--charset", metavar="FILE|auto",
                          help="the characters: those in a UTF-8 text file, or `auto` for those "
                          f"of the dataset (default: {DIGITS_AND_CAPITALS})")
    add = command.add_argument_group("training").add_argument
    add("--oversize", choices=OVERSIZE, help="what happens to images wider than --max-width "
        f"(default: {MODEL_DEFAULTS.oversize})")
    add("--steps-per-checkpoint", type=at_least_one, metavar="N",
        default=TRAIN_DEFAULTS.steps_per_checkpoint,
        help="steps between two checkpoints (default: %(default)s)")
    add("--keep", type=at_least_one, default=TRAIN_DEFAULTS.keep, metavar="N",
        help="newest checkpoints to keep, beside the best (default: %(default)s)")
    add("--batch-size", type=at_least_one, default=TRAIN_DEFAULTS.batch_size, metavar="N",
        help="most images in a step (default: %(default)s)")
    add("--num-epoch", type=at_least_one, default=TRAIN_DEFAULTS.num_epoch, metavar="N",
        help="passes over the data, earlier runs included (default: %(default)s)")
    add("--max-steps", type=at_least_one, metavar="N",
        help="steps, earlier runs included (default: no limit)")
    add_precision(add)
    add("--seed", type=int, default=TRAIN_DEFAULTS.seed, metavar="N",
        help="start of all random numbers (default: %(default)s)")
    add("--init-from", metavar="DIR",
        help="start from the weights of this model, ours or the original's")
    add("--no-resume", dest="resume", action="store_false",
        help="start with new weights even if the folder holds checkpoints")
    add = command.add_argument_group("validation").add_argument
    add("--val", metavar="DATASET", nargs="+", default=(),
        help="TFRecords files or globs to validate on at every checkpoint")
    add("--val-split", type=float, default=TRAIN_DEFAULTS.val_split, metavar="X",
        help="validate on this share of the images instead of training on them (0.1, say)")
    add("--early-stop", type=at_least_one, metavar="N",
        help="end after N validations without gain")
    return command


def run(args: argparse.Namespace) -> int:
    """`aocr train`."""
    from aocr.checkpoints import config_file, directory, loader, warm_start
    from aocr.runtime import distributed
    from aocr.training import train

    joined = distributed.join(args.gpu_id)
    loader.check_trainable(args.model_dir, args.resume)
    settings = _train_settings(args)
    given = given_settings(args)
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
        weights, config = warm_start.load(args.init_from, given, checkpoint_choice(args))
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
