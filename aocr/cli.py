"""The commands: flags in, one plain call, exit code out."""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import logging
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aocr import arguments, console, quiet
from aocr.config import PRECISIONS, PRINTABLE_ASCII, ModelConfig, TrainConfig, flag
from aocr.console import log, printable
from aocr.errors import AocrError, SkipError, reason
from aocr.serve.options import Limits, Options

if TYPE_CHECKING:
    from aocr.checkpoint import Choice
    from aocr.dataset import Summary
    from aocr.recognizer import Result

OK, FAILED, INTERRUPTED = 0, 1, 130
_SERVE_PACKAGES = ("tensorflow_serving", "grpc", "uvicorn", "httptools", "starlette",
                   "prometheus_client")
_DEFAULT_LOG = "aocr.log"
_MODEL_PATHS = ("model_dir", "init_from", "dir")
_PATTERN = re.compile(r"[*?[]" if os.sep == "\\" else r"[*?[\\]")
_MODEL_FLAGS = ("max_width", "max_height", "max_prediction", "color", "use_gru",
                "attn_num_layers", "attn_num_hidden", "target_embedding_size", "oversize")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The words after `aocr`; those of the process by default.

    Returns:
        0 done, 1 something the user can mend, 130 interrupted; wrong usage exits with 2.
    """
    for name in ("stdout", "stderr"):  # `>&-`: nobody wants to hear
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    args = arguments.parser().parse_args(argv)
    try:
        console.start_log(args.log_path or _DEFAULT_LOG, chosen=args.log_path is not None)
        quiet.import_tensorflow()
        # It tells, at exit, of each value that a damaged checkpoint did not give.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        _require_reach(args)
        return _COMMANDS[args.command](args)
    except AocrError as error:
        log.error(f"aocr {args.command}: {error}")
        return FAILED
    except _out_of_memory() as error:
        log.error(f"aocr {args.command}: the memory does not suffice: {reason(error)}; give a "
                  "smaller --batch-size, or train a smaller model")
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


def _out_of_memory() -> tuple[type[BaseException], ...]:
    """What is raised then; TensorFlow's own only once that is imported."""
    tensorflow = sys.modules.get("tensorflow")
    more = (tensorflow.errors.ResourceExhaustedError,) if tensorflow is not None else ()
    return (MemoryError, *more)


def dataset(args: argparse.Namespace) -> int:
    """`aocr dataset`."""
    from aocr import dataset
    from aocr.shards import Sharding

    sharding = Sharding(args.shards, args.shard_index)
    options = dataset.Options(args.force_uppercase, args.save_filename, args.jobs,
                              args.log_step, args.max_pixels, sharding)
    summary = dataset.generate(args.annotations, args.output, options)
    if sharding.index is None:
        log.info(f"Dataset is ready: {summary.pairs} pairs.")
    else:
        log.info(f"Shard {sharding.index} of {sharding.count} is ready: {summary.pairs} pairs; "
                 "what follows is of this shard alone.")
    log.info(f"Longest label ({len(summary.longest)}): {printable(summary.longest)}")
    for line in _dataset_summary(summary):
        log.info(line)
    line = _train_line(summary, sharding.pattern(args.output))
    log.info(f"To train on it: {line}" if sharding.index is None else
             f"To train once all {sharding.count} shards are there, if they are like this one: "
             + line)
    return OK


def train(args: argparse.Namespace) -> int:
    """`aocr train`."""
    from aocr import checkpoint, cluster, configfile, train, transfer

    joined = cluster.join(args.gpu_id)
    checkpoint.require_ours(args.model_dir)
    if not checkpoint.started(args.model_dir):
        checkpoint.refuse_exported(args.model_dir)
    settings = _train_settings(args)
    given = _given(args)
    weights = None
    resume = args.resume and checkpoint.started(args.model_dir)
    if args.resume and not resume:
        checkpoint.refuse_unnamed(args.model_dir)
    if args.charset is not None and not (resume and args.charset == "auto"):
        given["alphabet"] = _charset(args)
    if resume:
        config = configfile.load(args.model_dir)
        configfile.check_flags(args.model_dir, config, given)
        if args.init_from is not None:
            log.info(f"--init-from: {args.model_dir} has started already, and goes on")
    elif args.init_from is not None:
        weights, config = transfer.load(args.init_from, given, _choice(args))
    else:
        config = ModelConfig(**given)
    if args.debias and weights is None:
        log.info("--debias: there is nothing to remove without --init-from")
    start = train.Start(resume, args.strict, weights)
    ended_by = train.train(args.dataset, args.model_dir, config, settings, start, joined)
    return 128 + ended_by if ended_by else OK


def test(args: argparse.Namespace) -> int:
    """`aocr test`."""
    from aocr import cluster, evaluate

    joined = cluster.join(args.gpu_id, most=1)
    recognizer = _load(args)
    options = evaluate.Options(args.batch_size, args.use_distance, args.json,
                               args.output_dir if args.visualize else None)
    evaluate.evaluate(args.dataset, recognizer, options, joined)
    return OK


def predict(args: argparse.Namespace) -> int:
    """`aocr predict`."""
    from aocr import names, recognizer

    restored = _restore(args)
    write = _WRITERS[args.format]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    failed, none = False, True
    for some in names.batched(names.file_names(args.files or ["-"]), recognizer.BATCH_SIZE):
        none = False
        for name, answer in zip(some, restored.predict_each(some), strict=True):
            if isinstance(answer, SkipError):
                failed = True
                log.error(f"Result: error while opening file {name}. {answer}")
            else:
                write(name, answer)
        sys.stdout.flush()
    if none:
        log.warning("No file was named: nothing is read.")
    return FAILED if failed else OK


def export(args: argparse.Namespace) -> int:
    """`aocr export`."""
    from aocr import checkpoint, export

    if _inside(args.dir, args.model_dir) and checkpoint.is_original(args.model_dir):
        raise AocrError(f"{args.model_dir} holds a model of the original aocr, which is never "
                        f"written to; name a folder outside it instead of {args.dir}")
    reader = _restore(args).reader
    if reader is None:
        raise AocrError(f"{args.model_dir} holds an exported model; --model-dir names a folder of "
                        "checkpoints")
    folder = export.export(reader, args.dir, args.format, args.model_version)
    log.info(f"Exported to {folder}; it answers as the checkpoint does.")
    return OK


def serve(args: argparse.Namespace) -> int:
    """`aocr serve`."""
    missing = [name for name in _SERVE_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise AocrError(f"serving needs {', '.join(missing)}: install this package with "
                        "its extra, pip install '.[serve]' in the folder that it came in")
    from aocr.serve import server

    log.setLevel(args.log_level.upper())
    limits = Limits(args.max_body_bytes, args.max_images, args.max_pixels, args.max_queue,
                    args.max_connections, args.request_seconds)
    ended_by = server.serve(args.dir, Options(
        args.model_name, args.host, args.port, args.rest_api_port, args.max_batch_size,
        args.batch_timeout_ms / 1000, args.poll_seconds, limits))
    return OK if ended_by == signal.SIGTERM else INTERRUPTED


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "dataset": dataset, "train": train, "test": test, "predict": predict, "export": export,
    "serve": serve}


def _require_reach(args: argparse.Namespace) -> None:
    """Refuses paths that cannot even be asked for, such as `s3://` without its plugin."""
    import tensorflow as tf

    from aocr import files

    values = (value if isinstance(value, list | tuple) else [value]
              for value in vars(args).values())
    for name in _MODEL_PATHS:
        _require_plain(name, getattr(args, name, None))
    for path in (str(each) for some in values for each in some):
        try:
            if files.is_remote(path):
                tf.io.gfile.exists(path)
        except tf.errors.OpError as error:
            raise AocrError(f"cannot reach {path}: {reason(error)}") from error


def _require_plain(name: str, path: str | None) -> None:
    """Refuses the path of a model in which TensorFlow sees a pattern or no text."""
    shown = "DIR" if name == "dir" else flag(name)
    if path is not None and _PATTERN.search(path):
        raise AocrError(f"{shown} {path}: TensorFlow takes a path of a model with * ? [ or \\ for "
                        "a pattern, and would not find it again; rename the folder")


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """The model settings that the user named."""
    given = {name: getattr(args, name) for name in _MODEL_FLAGS
             if getattr(args, name, None) is not None}
    if args.full_ascii:
        given["alphabet"] = PRINTABLE_ASCII
    return given


def _restore(args: argparse.Namespace) -> Any:  # noqa: ANN401  # a Recognizer; imported late
    from aocr import cluster

    cluster.use_gpus(args.gpu_id, most=1)
    return _load(args)


def _load(args: argparse.Namespace) -> Any:  # noqa: ANN401  # a Recognizer
    from aocr import recognizer

    restored = recognizer.Recognizer.load(args.model_dir, _choice(args), args.max_pixels,
                                          getattr(args, "precision", PRECISIONS[0]),
                                          **_given(args))
    log.info(f"Reading model parameters from {restored.source}")
    return restored


def _choice(args: argparse.Namespace) -> Choice:
    from aocr import checkpoint

    return checkpoint.Choice(args.checkpoint, args.strict, args.debias)


def _inside(path: str, folder: str) -> bool:
    from aocr import files

    inner, outer = (os.path.join(each if files.is_remote(each) else os.path.realpath(each), "")
                    for each in (path, folder))
    return inner.startswith(outer)


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

    from aocr import charmap, records

    if args.full_ascii:
        raise AocrError("--charset and --full-ascii exclude each other; give one")
    if args.charset == "auto":
        return records.characters(records.find(args.dataset), args.max_pixels)
    try:
        with tf.io.gfile.GFile(args.charset, "rb") as file:
            text = charmap.normalize(file.read().decode("utf-8-sig"))
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise AocrError(f"--charset {args.charset}: expected a UTF-8 text file, or `auto`: "
                        f"{error}") from error
    return charmap.alphabet_of(text.splitlines())  # line ends are no characters


def _dataset_summary(summary: Summary) -> Iterator[str]:
    skipped = ", ".join(f"{number} x {reason}" for reason, number in summary.skipped.most_common())
    yield f"Pairs written: {summary.pairs}; lines skipped: {summary.skipped.total()}" + (
        f" ({skipped})" if skipped else "")
    if summary.repeated:
        yield f"Lines that name an image again: {summary.repeated}; they are used"
    counts = " ".join(f"{'space' if character == ' ' else printable(character)}:{number}"
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
