"""The commands: flags in, one plain call, exit code out."""

from __future__ import annotations

import argparse
import io
import json
import os
import queue
import shlex
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aocr import arguments, console, quiet
from aocr.config import PRINTABLE_ASCII, ModelConfig, TrainConfig
from aocr.console import log
from aocr.errors import AocrError, SkipError

if TYPE_CHECKING:
    from aocr.dataset import Summary
    from aocr.recognizer import Result

OK, FAILED, INTERRUPTED = 0, 1, 130
_DEFAULT_LOG = "aocr.log"
_MODEL_FLAGS = ("max_width", "max_height", "max_prediction", "color", "use_gru",
                "attn_num_layers", "attn_num_hidden", "target_embedding_size", "oversize")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The words after `aocr`; those of the process by default.

    Returns:
        0 done, 1 something the user can mend, 130 interrupted; wrong usage exits with 2.
    """
    args = arguments.parser().parse_args(argv)
    try:
        console.start_log(args.log_path or _DEFAULT_LOG, chosen=args.log_path is not None)
        quiet.import_tensorflow()
        return _COMMANDS[args.command](args)
    except AocrError as error:
        log.error(f"aocr {args.command}: {error}")
        return FAILED
    except BrokenPipeError:
        # The reader of standard output has gone; Python would complain of it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        log.error(f"aocr {args.command}: interrupted")
        return INTERRUPTED
    finally:
        console.stop_log()


def dataset(args: argparse.Namespace) -> int:
    """`aocr dataset`."""
    from aocr import dataset

    options = dataset.Options(args.force_uppercase, args.save_filename, args.jobs,
                                  args.log_step)
    summary = dataset.generate(args.annotations, args.output, options)
    log.info(f"Dataset is ready: {summary.pairs} pairs.")
    log.info(f"Longest label ({len(summary.longest)}): {summary.longest}")
    for line in _dataset_summary(summary):
        log.info(line)
    log.info("To train on it: " + _train_line(summary, args.output))
    return OK


def train(args: argparse.Namespace) -> int:
    """`aocr train`."""
    from aocr import checkpoint, records, train

    _choose_device(args.gpu_id)
    given = _given(args)
    if args.charset is not None and args.full_ascii:
        raise AocrError("--charset and --full-ascii exclude each other; give one")
    resume = args.resume and checkpoint.started(args.model_dir)
    if resume:
        config = checkpoint.load_config(args.model_dir)
        if args.charset not in (None, "auto"):
            given["alphabet"] = _charset(args.charset)
        checkpoint.check_flags(args.model_dir, config, given)
    else:
        if args.charset is not None:
            given["alphabet"] = (records.characters(records.find(args.dataset))
                                 if args.charset == "auto" else _charset(args.charset))
        config = ModelConfig(**given)
    settings = TrainConfig(
        batch_size=args.batch_size, num_epoch=args.num_epoch, max_steps=args.max_steps,
        steps_per_checkpoint=args.steps_per_checkpoint,
        initial_learning_rate=args.initial_learning_rate,
        max_gradient_norm=args.max_gradient_norm if args.clip_gradients else None, seed=args.seed)
    signal = train.train(args.dataset, args.model_dir, config, settings, resume)
    return 128 + signal if signal else OK


def test(args: argparse.Namespace) -> int:
    """`aocr test`."""
    from aocr import evaluate

    recognizer = _restore(args)
    options = evaluate.Options(args.batch_size, args.use_distance, args.json,
                               args.output_dir if args.visualize else None)
    summary = evaluate.evaluate(args.dataset, recognizer, options)
    for line in evaluate.table(summary):
        log.info(line)
    return OK


def predict(args: argparse.Namespace) -> int:
    """`aocr predict`."""
    from aocr import recognizer

    restored = _restore(args)
    write = _WRITERS[args.format]
    failed = False
    for names in _batched(_file_names(args.files or ["-"]), recognizer.BATCH_SIZE):
        for name, answer in zip(names, restored.predict_each(names), strict=True):
            if isinstance(answer, SkipError):
                failed = True
                log.error(f"Result: error while opening file {name}. {answer}")
            else:
                write(name, answer)
        sys.stdout.flush()
    return FAILED if failed else OK


def export(args: argparse.Namespace) -> int:
    """`aocr export`."""
    from aocr import checkpoint, export

    _choose_device(args.gpu_id)
    checkpoint.newest(args.model_dir)
    checkpoint.check_flags(args.model_dir, checkpoint.load_config(args.model_dir), _given(args))
    folder = export.export(args.model_dir, args.dir, args.format, args.model_version)
    log.info(f"Exported to {folder}; it answers as the checkpoint does.")
    return OK


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "dataset": dataset, "train": train, "test": test, "predict": predict, "export": export}


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """The model settings that the user named."""
    given = {name: getattr(args, name) for name in _MODEL_FLAGS
             if getattr(args, name, None) is not None}
    if args.full_ascii:
        given["alphabet"] = PRINTABLE_ASCII
    return given


def _restore(args: argparse.Namespace) -> Any:  # noqa: ANN401  # a Recognizer; imported late
    from aocr import checkpoint, recognizer

    _choose_device(args.gpu_id)
    restored = recognizer.Recognizer.load(args.model_dir)
    checkpoint.check_flags(args.model_dir, restored.config, _given(args))
    log.info(f"Reading model parameters from {restored.source}")
    return restored


def _charset(path: str) -> str:
    """The characters of a file, each once, in code point order; line ends do not count."""
    import tensorflow as tf

    from aocr import charmap

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            text = charmap.normalize(file.read().decode("utf-8-sig"))
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise AocrError(f"--charset {path}: expected a UTF-8 text file, or `auto`: "
                        f"{error}") from error
    return charmap.alphabet_of(text.splitlines())


def _choose_device(gpu_id: int | None) -> None:
    """Leaves TensorFlow one GPU, or none."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    wanted = 0 if gpu_id is None else gpu_id
    if 0 <= wanted < len(gpus):
        tf.config.set_visible_devices(gpus[wanted], "GPU")
        return
    tf.config.set_visible_devices([], "GPU")
    if gpu_id is not None and gpu_id >= 0:
        log.info(f"There is no GPU {gpu_id} (found {len(gpus)}); using the CPU.")


def _dataset_summary(summary: Summary) -> Iterator[str]:
    skipped = ", ".join(f"{number} x {reason}" for reason, number in summary.skipped.most_common())
    yield f"Pairs written: {summary.pairs}; lines skipped: {summary.skipped.total()}" + (
        f" ({skipped})" if skipped else "")
    counts = " ".join(f"{'space' if character == ' ' else character}:{number}"
                      for character, number in sorted(summary.characters.items()))
    yield f"Characters ({len(summary.characters)}): {counts}"
    if summary.upper_cased:
        yield (f"Labels changed by upper-casing: {summary.upper_cased} "
               "(--no-force-uppercase keeps them as they are)")
    for name, values in zip(("Widths", "Heights"), summary.sizes.quantiles(), strict=True):
        yield (f"{name} in pixels (smallest, 5 %, median, 95 %, largest): "
               + ", ".join(map(str, values)))


def _train_line(summary: Summary, output: str) -> str:
    from aocr.sizes import with_headroom

    longest = with_headroom(max(1, len(summary.longest)), len(summary.label_lengths) > 1)
    return (f"aocr train {shlex.quote(output)} --max-width {summary.sizes.max_width()} "
            f"--max-height {summary.sizes.max_height()} --max-prediction {longest} "
            + ("--charset auto" if summary.characters else "")).rstrip()


def _file_names(given: Iterable[str]) -> Iterator[str | None]:
    """Files, the files of folders, and names from standard input; `None` after each pause.

    A pause is where standard input has nothing more for now: whoever types names, or sends
    them one by one, gets each answer at once.
    """
    import tensorflow as tf

    for name in given:
        if name == "-":
            yield from _standard_input()
        elif tf.io.gfile.isdir(name):
            yield from _files_of(name)
        else:
            yield name


def _files_of(folder: str) -> list[str]:
    import tensorflow as tf

    try:
        inside = [tf.io.gfile.join(folder, each) for each in sorted(tf.io.gfile.listdir(folder))]
    except tf.errors.OpError as error:
        raise AocrError(f"cannot read the folder {folder}: {error.message}") from error
    files = [each for each in inside if not tf.io.gfile.isdir(each)]
    if not files:
        raise AocrError(f"no file in the folder {folder}")
    if len(files) < len(inside):
        log.warning(f"Left out {len(inside) - len(files)} folders within {folder}; name them "
                    "to read them")
    return files


def _standard_input() -> Iterator[str | None]:
    lines: queue.Queue[str | None] = queue.Queue()

    def listen() -> None:
        try:
            for line in sys.stdin or ():
                lines.put(line)
        finally:
            lines.put(None)

    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # file names need not be UTF-8

    threading.Thread(target=listen, daemon=True).start()
    while True:
        if lines.empty():
            yield None
        line = lines.get()
        if line is None:
            return
        if line.strip():
            yield line.rstrip("\r\n")


def _batched(names: Iterable[str | None], size: int) -> Iterator[list[str]]:
    """Groups names; a pause ends a group early."""
    group: list[str] = []
    for name in names:
        if name is not None:
            group.append(name)
        if group and (name is None or len(group) == size):
            yield group
            group = []
    if group:
        yield group


def _write_log(_name: str, result: Result) -> None:
    log.info(f"Result: OK. {result.probability:.2f} {result.text}")


def _write_tsv(name: str, result: Result) -> None:
    print(*(field.translate(_TSV_ESCAPES)
            for field in (name, f"{result.probability:.6f}", result.text)), sep="\t")


def _write_jsonl(name: str, result: Result) -> None:
    print(json.dumps({"path": name, "text": result.text, "probability": result.probability,
                      "characters": result.characters}, ensure_ascii=False))


_TSV_ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\"})
_WRITERS: dict[str, Callable[[str, Result], None]] = {
    "log": _write_log, "tsv": _write_tsv, "jsonl": _write_jsonl}
