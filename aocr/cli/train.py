"""Flags of `aocr train`, and its call."""

from __future__ import annotations

import argparse

from aocr.cli import flags
from aocr.cli.exit_codes import OK
from aocr.config import (
    AUGMENTATIONS,
    DIGITS_AND_CAPITALS,
    OPTIMIZERS,
    OVERSIZE,
    SCHEDULES,
    TrainConfig,
)
from aocr.errors import AocrError


def add_parser(commands: flags.Commands[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds `aocr train` and its flags to the commands."""
    command = flags.add_command(
        commands, "train", "train a model on datasets", "DATASET...",
        "Trains a model and writes checkpoints to the model directory. The same command\n"
        "again resumes from the newest checkpoint.",
        ("aocr train words.tfrecords --max-width 240 --max-height 46 --charset auto",
         "aocr train 'words-*.tfrecords' --val-split 0.1 --early-stop 5",
         "aocr train words.tfrecords --init-from latin --charset auto --max-steps 150",
         "aocr train more.tfrecords --init-from checkpoints --model-dir fine-tuned"))
    add = command.add_argument_group("data and model").add_argument
    flags.add_datasets(add)
    flags.add_model_dir(add)
    add("--mix", metavar="DATASET", nargs="+", default=(),
        help="TFRecords files or globs of other images to add to every batch, so that fine-tuning "
        "(--init-from) does not forget what the model recognizes")
    add("--mix-share", type=float, default=flags.TRAIN_DEFAULTS.mix_share, metavar="X",
        help="share of the images of --mix in a batch (default: %(default)s)")
    _add_text_and_image_flags(command)
    _add_run_flags(command)
    _add_start_flags(command)
    flags.add_network_flags(command.add_argument_group("network").add_argument)
    add = command.add_argument_group("optimizer").add_argument
    add("--optimizer", choices=tuple(OPTIMIZERS),
        help="optimizer (default: that of the checkpoint to resume from; for a new run adam, or "
        "adadelta, the optimizer of aocr 0.7, if --initial-learning-rate is given without "
        "--init-from)")
    add("--schedule", choices=SCHEDULES, help="learning rate schedule; cosine ends at "
        "--max-steps (default: that of the checkpoint to resume from; for a new run or another "
        "optimizer inverse-sqrt for Adam, constant for AdaDelta)")
    flags.add_optimizer_flags(add)
    add("--seed", type=int, default=flags.TRAIN_DEFAULTS.seed, metavar="N",
        help="seed of weights, data order, augmentation and dropout (default: %(default)s)")
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
    add("--augment", choices=AUGMENTATIONS, default=flags.TRAIN_DEFAULTS.augment,
        help="strength of the random distortions of the training images (default: %(default)s)")
    add("--show-augmented", metavar="FILE.png",
        help="write a picture of images as --augment distorts them, and end without training")


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
        help="stop after N validations without improvement (default: 10 with a validation and "
        "without --max-steps, otherwise never)")


def _add_start_flags(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("starting point").add_argument
    add("--no-resume", dest="resume", action="store_false",
        help="start with new weights even if the model directory holds checkpoints, which the "
        "first new one replaces")
    add("--init-from", metavar="DIR|NAME",
        help="start from the weights of this model: a directory, also of aocr 0.7, or the name of "
        "a built-in model")
    add("--checkpoint", metavar="latest|best|N",
        help="checkpoint of --init-from (default: the best if there is one, otherwise the latest)")
    flags.add_debias(add)
    flags.add_strict(add)


def run(args: argparse.Namespace) -> int:
    """Runs `aocr train`."""
    from aocr.runtime import distributed
    from aocr.training import start, train

    cluster = distributed.join(args.gpu_id)
    model_settings = flags.given_settings(args)
    if args.charset is not None and args.full_ascii:
        raise AocrError("--charset and --full-ascii exclude each other; give one")
    dataset_alphabet = args.charset == "auto"
    if args.charset is not None and not dataset_alphabet:
        model_settings["alphabet"] = _read_charset(args.charset)
    options = start.StartOptions(
        args.resume, args.init_from, flags.checkpoint_choice(args), dataset_alphabet)
    if args.show_augmented is not None:
        train.show_augmented(args.show_augmented, args.dataset, args.model_dir, model_settings,
                             _train_settings(args), options)
        return OK
    stopped_by = train.train(args.dataset, args.model_dir, model_settings, _train_settings(args),
                             cluster, options)
    return 128 + stopped_by if stopped_by else OK


def _train_settings(args: argparse.Namespace) -> TrainConfig:
    return TrainConfig(
        batch_size=args.batch_size, num_epoch=args.num_epoch, max_steps=args.max_steps,
        steps_per_checkpoint=args.steps_per_checkpoint,
        optimizer=args.optimizer, initial_learning_rate=args.initial_learning_rate,
        schedule=args.schedule,
        max_gradient_norm=args.max_gradient_norm if args.clip_gradients else None,
        augment=args.augment, seed=args.seed, keep=args.keep, val=tuple(args.val),
        val_split=args.val_split, mix=tuple(args.mix), mix_share=args.mix_share,
        early_stop=args.early_stop, max_pixels=args.max_pixels, precision=args.precision)


def _read_charset(path: str) -> str:
    """Returns the characters of a text file, each once, in code point order.

    Characters that Unicode's form NFC composes, such as a letter and an accent after it, count as
    composed and each by itself: the file may be a list of single characters, or text.

    Raises:
        AocrError: The file cannot be read, is not UTF-8, or holds no character.
    """
    import tensorflow as tf

    from aocr.data import stats
    from aocr.tokenizer import normalize

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            text = file.read().decode("utf-8-sig")
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise AocrError(f"--charset {path}: expected a UTF-8 text file, or `auto`: {error}"
                        ) from error
    lines = text.splitlines()  # without the line ends
    if not any(lines):
        raise AocrError(f"--charset {path}: the file holds no characters")
    return stats.alphabet_of([*map(normalize, lines), *map(normalize, "".join(lines))])
