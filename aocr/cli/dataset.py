"""Flags of `aocr dataset`, and its summary."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aocr.checkpoints import built_in
from aocr.cli import flags
from aocr.cli.exit_codes import OK
from aocr.runtime.console import log, printable

if TYPE_CHECKING:
    from aocr.data.sharding import Sharding
    from aocr.data.stats import DatasetStats, SizeProposal

_MIN_PAIRS_TO_VALIDATE = 100  # below, all images are proposed for training
_MIN_PAIRS_WITHOUT_AUGMENTATION = 500
_MIN_PAIRS_FOR_LONG_TRAINING = 10_000
# Trainings on 100 to 1,500 images were best after 50 to 150 steps (tests/benchmarks/README.md).
_FINE_TUNING_STEPS = 150
_FINE_TUNING_STEPS_PER_CHECKPOINT = 25


def add_parser(commands: flags.Commands[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Adds `aocr dataset` and its flags to the commands."""
    command = flags.add_command(
        commands, "dataset", "make a TFRecords dataset from labeled images",
        "ANNOTATIONS [OUTPUT]",
        "Checks every image, writes the usable ones to TFRecords, and proposes a command\n"
        "to train on them.",
        ("aocr dataset annotations.txt words.tfrecords",
         "aocr dataset metadata.csv words.tfrecords --no-force-uppercase --shards 16"))
    add = command.add_argument_group("input and output").add_argument
    add("annotations", metavar="ANNOTATIONS",
        help="file with image paths and labels, one `path label` per line or a table, or "
        "directory with a .gt.txt file beside each image; paths are relative to the working "
        "directory or to the file")
    add("output", metavar="OUTPUT", nargs="?", default="./dataset.tfrecords",
        help="TFRecords file to write (default: %(default)s)")
    add("--no-force-uppercase", dest="force_uppercase", action="store_false",
        help="keep the case of labels instead of converting them to upper case")
    add("--save-filename", action="store_true",
        help="store the path of each image in its record, as the comment")
    add = command.add_argument_group("format of the annotations").add_argument
    add("--format", choices=("auto", "text", "csv", "jsonl", "gt"), default="auto",
        help="text: `path label` lines; csv: a table whose first line names its columns; jsonl: a "
        "JSON object per line; gt: x.gt.txt beside x.png (default: %(default)s)")
    add("--path-column", metavar="NAME",
        help="column or JSON key of the paths (default: a usual name such as file_name)")
    add("--label-column", metavar="NAME",
        help="column or JSON key of the labels (default: a usual name such as text)")
    add = command.add_argument_group("several files").add_argument
    add("--shards", type=flags.at_least_one, metavar="N",
        help="write N files: words.tfrecords becomes words-00000-of-0000N.tfrecords and so on")
    add("--shard-index", type=int, metavar="I",
        help="write only file I of --shards, counted from 0, so that several machines can share "
        "the work")
    add = command.add_argument_group("speed and limits").add_argument
    add("--jobs", type=flags.at_least_one, default=1, metavar="N",
        help="number of files to read in parallel (default: %(default)s)")
    add("--verify", action=argparse.BooleanOptionalAction,
        help="decode every image, so that no image is found undecodable in training (default: up "
        "to 20,000 images)")
    flags.add_max_pixels(add)
    add("--log-step", type=flags.at_least_one, default=500, metavar="N",
        help="log a line every N pairs (default: %(default)s)")
    return command


def run(args: argparse.Namespace) -> int:
    """Runs `aocr dataset`."""
    from aocr.data import writer
    from aocr.data.annotation_formats import AnnotationOptions
    from aocr.data.sharding import Sharding

    sharding = Sharding(args.shards, args.shard_index)
    stats = writer.write_dataset(args.annotations, args.output, writer.DatasetOptions(
        args.force_uppercase, args.save_filename, args.jobs, args.log_step, args.max_pixels,
        sharding, args.verify,
        AnnotationOptions(args.format, args.path_column, args.label_column)))
    for line in _summary(stats, sharding):
        log.info(line)
    proposal = stats.sizes.propose()
    if proposal.skipped:
        log.warning(_outliers_line(stats, proposal))
    train_line = _train_line(stats, proposal, sharding.pattern(args.output))
    if sharding.index is None:
        log.info(f"To train on it: {train_line}")
    else:
        log.info(f"To train on it once all {sharding.count} shards are written, if the others are "
                 f"similar: {train_line}")
    return OK


def _summary(stats: DatasetStats, sharding: Sharding) -> Iterator[str]:
    if sharding.index is None:
        yield f"Dataset is ready: {stats.pairs} pairs."
    else:
        yield (f"Shard {sharding.index} of {sharding.count} is ready: {stats.pairs} pairs; the "
               "following lines describe this shard only.")
    yield f"Longest label ({len(stats.longest)}): {printable(stats.longest)}"
    yield f"Pairs written: {stats.pairs}; lines skipped: {stats.skipped.total()}"
    for reason, count in stats.skipped.most_common():
        line, detail = stats.first_skipped[reason]
        yield f"Skipped: {count} x {reason} (first: line {line}{', ' * bool(detail)}{detail})"
    if stats.repeated:
        yield f"Lines that repeat an earlier path: {stats.repeated}; they are used"
    if stats.control_characters:
        yield f"Labels with control characters: {stats.control_characters}; they are used"
    counts = " ".join(f"{'space' if character == ' ' else printable(character)}:{count}"
                      for character, count in sorted(stats.characters.items()))
    yield f"Characters ({len(stats.characters)}): {counts}"
    if stats.upper_cased:
        yield (f"Labels changed to upper case: {stats.upper_cased} "
               "(--no-force-uppercase keeps their case)")
    for name, quantiles in zip(("Widths", "Heights"), stats.sizes.quantiles(), strict=True):
        yield (f"{name} in pixels (smallest, 5 %, median, 95 %, largest): "
               + ", ".join(map(str, quantiles)))


def _outliers_line(stats: DatasetStats, proposal: SizeProposal) -> str:
    """Returns the warning about images that the proposed flags skip, with the widest of them."""
    widest = sorted(stats.sizes.widest, reverse=True)[:proposal.skipped]
    names = ", ".join(f"{size.path} ({size.width} x {size.height})" for size in widest)
    return (f"Images much wider than the others, which the proposed --max-width skips: "
            f"{proposal.skipped}; the widest: {printable(names)}")


def _train_line(stats: DatasetStats, proposal: SizeProposal, output: str) -> str:
    from aocr.data.stats import with_headroom

    longest = with_headroom(max(1, len(stats.longest)), len(stats.label_lengths) > 1)
    return (f"aocr train {shlex.quote(output)} --max-width {proposal.max_width} "
            f"--max-height {proposal.max_height} --max-prediction {longest} "
            + "--charset auto" * bool(stats.characters)
            + " --val-split 0.1" * (stats.pairs >= _MIN_PAIRS_TO_VALIDATE)
            + _fine_tuning(stats)
            + " --augment light" * (stats.pairs < _MIN_PAIRS_WITHOUT_AUGMENTATION)).rstrip()


def _fine_tuning(stats: DatasetStats) -> str:
    """Returns flags to start from the built-in model, if it knows half of the labels' characters.

    Fine-tuning on few images needs few steps: it is validated often, so that it stops early, or
    limited where no image is left to validate on.
    """
    from aocr.checkpoints import config_file

    model_dir = built_in.resolve(built_in.DEFAULT)
    if model_dir == built_in.DEFAULT:  # a file or directory of that name takes precedence
        return ""
    alphabet = config_file.load(model_dir).alphabet
    known = sum(character in alphabet for character in stats.characters)
    if not 0 < len(stats.characters) <= 2 * known:
        return ""
    duration = ""
    if stats.pairs < _MIN_PAIRS_TO_VALIDATE:
        duration = f" --max-steps {_FINE_TUNING_STEPS}"
    elif stats.pairs < _MIN_PAIRS_FOR_LONG_TRAINING:
        duration = f" --steps-per-checkpoint {_FINE_TUNING_STEPS_PER_CHECKPOINT}"
    return f" --init-from {built_in.DEFAULT}{duration}"
