"""Contents of a model directory: checkpoints, the state file, or an exported model."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

import tensorflow as tf

from aocr.checkpoints import built_in, config_file
from aocr.checkpoints.model_files import KINDS, STATE_FILE
from aocr.errors import AocrError
from aocr.runtime import filesystem
from aocr.runtime.console import log

CHECKPOINT_NAME = "model.ckpt"


def exists(model_dir: str) -> bool:
    """Returns whether a model directory has a checkpoint."""
    return bool(checkpoint_paths(model_dir) or checkpoint_paths(best_dir(model_dir)))


def started(model_dir: str) -> bool:
    """Returns whether training has written a state file to a directory, whatever it contains."""
    return bool(tf.io.gfile.exists(tf.io.gfile.join(model_dir, STATE_FILE)))


def state_is_lost(model_dir: str) -> bool:
    """Returns whether training has written checkpoints, but the state file is missing."""
    return (not started(model_dir) and config_file.exists(model_dir)
            and bool(listed_paths(model_dir)))


def best_dir(model_dir: str) -> str:
    """Returns the directory of the checkpoint with the best validation result."""
    return str(tf.io.gfile.join(model_dir, "best"))


def candidates(model_dir: str, which: str | None = None, strict: bool = False) -> list[str]:
    """Returns paths of checkpoints: the requested one, then those that may replace it.

    Args:
        model_dir: The model directory.
        which: "latest", "best" or the number of a step; `None` for the best if there is one.
        strict: Refuse a damaged state file instead of using the checkpoints beside it.

    Raises:
        AocrError: There is no such checkpoint, or the state file is refused.
    """
    latest, best = checkpoint_paths(model_dir), checkpoint_paths(best_dir(model_dir))
    numbered = [path for path in latest + best if path.endswith(f"-{which}")][:1]
    paths = {None: best + latest, "latest": latest, "best": best}.get(which, numbered)
    if not paths:
        raise _no_checkpoint(model_dir, which, latest, best)
    if started(model_dir) and not _paths_in_state(model_dir):
        problem = f"{model_dir}/{STATE_FILE} is damaged and names no checkpoint"
        if strict:
            raise AocrError(f"{problem}; without --strict the checkpoints beside it are used")
        log.warning(f"{problem}; the checkpoints beside it are used, the newest first")
    return paths


def _no_checkpoint(model_dir: str, which: str | None, latest: list[str], best: list[str]
                   ) -> AocrError:
    """Returns the error for a directory without the requested checkpoint."""
    if which is not None and latest + best:
        steps = sorted({_step(path) for path in latest + best})
        return AocrError(f"no checkpoint {which!r} in {model_dir}; it has "
                         f"{', '.join(map(str, steps))}" + ", best" * bool(best))
    if started(model_dir):
        remedy = ", or start a new run with --no-resume" if config_file.exists(model_dir) else ""
        return AocrError(f"the checkpoint that {model_dir}/{STATE_FILE} names does not exist; "
                         f"restore its files{remedy}")
    exported = _exported(model_dir)
    if exported is not None:
        return AocrError(f"{exported}; --model-dir must name a directory of checkpoints, as `aocr "
                         "train` writes it; `aocr predict` also reads exports in the formats "
                         "savedmodel and onnx")
    is_directory = tf.io.gfile.isdir(model_dir)
    if tf.io.gfile.exists(model_dir) and not is_directory:
        return AocrError(f"{model_dir} is a file; name the directory that `aocr train` has written")
    missing = "checkpoint in" if is_directory else "model directory"
    if is_directory and model_dir in built_in.names():
        return AocrError(f"no {missing} {model_dir}; this directory takes precedence over the "
                         "built-in model of the same name: rename it, or work in another one")
    return AocrError(f"no {missing} {model_dir}; expected a directory that `aocr train` has "
                     f"written, or the name of a built-in model ({built_in.DEFAULT})")


def repair_state(model_dir: str) -> None:
    """Replaces a damaged state file by one that names the checkpoints beside it."""
    paths = listed_paths(model_dir)
    if started(model_dir) and paths and not _paths_in_state(model_dir):
        write_state(model_dir, paths[::-1])


def write_state(model_dir: str, paths: Sequence[str]) -> None:
    """Writes a state file as `tf.train.CheckpointManager` does, which can continue from it.

    Args:
        model_dir: The model directory.
        paths: Paths of the checkpoints in it, the newest last.
    """
    names, now = [path.rsplit("/", 1)[-1] for path in paths], time.time()
    # The manager keeps all checkpoints that are not newer than the preserved one.
    state = tf.compat.v1.train.generate_checkpoint_state_proto(
        "", names[-1], names, [now] * len(names), now - 1)
    filesystem.write(tf.io.gfile.join(model_dir, STATE_FILE), str(state))


def refuse_exported(model_dir: str) -> None:
    """Refuses a directory that holds an exported model where checkpoints are needed.

    Raises:
        AocrError: The directory, or one of its numbered versions, holds an exported model.
    """
    exported = _exported(model_dir)
    if exported is not None:
        raise AocrError(f"{exported}; --model-dir must name a directory of checkpoints here, as "
                        "`aocr train` writes it")


def _exported(model_dir: str) -> str | None:
    """Returns where a directory holds which kind of exported model, `None` if it holds none."""
    for path in (model_dir, *filesystem.numbered_dirs(model_dir).values()):
        for name, kind in KINDS.items():
            if tf.io.gfile.exists(tf.io.gfile.join(path, name)):
                return f"{path} holds {kind}"
    return None


def checkpoint_paths(directory: str) -> list[str]:
    """Returns the paths of the checkpoints in a directory, the newest first.

    The state file names them. With a model of the original aocr it may be missing, or name paths
    on another machine; then the files in the directory count.
    """
    named = _paths_in_state(directory)
    if named and (config_file.exists(directory)
                  or any(_has_index(_relocated(directory, path)) for path in named)):
        return [_relocated(directory, path) for path in named]
    if config_file.exists(directory) and not started(directory):
        return []  # the state file is lost; see `state_is_lost`
    return listed_paths(directory)


def _step(path: str) -> int:
    """Returns the number in the name of a checkpoint, or 0 if it has none."""
    number = path.rsplit("-", 1)[-1]
    return int(number) if number.isdecimal() else 0


def listed_paths(directory: str) -> list[str]:
    """Returns the paths of the checkpoints whose files are in a directory, the newest first."""
    pattern = re.compile(re.escape(CHECKPOINT_NAME) + r"-(\d+)\.index")
    names = tf.io.gfile.listdir(directory) if tf.io.gfile.isdir(directory) else []
    matches = (pattern.fullmatch(name) for name in names)
    steps = sorted((int(match[1]) for match in matches if match), reverse=True)
    return [tf.io.gfile.join(directory, f"{CHECKPOINT_NAME}-{step}") for step in steps]


def _relocated(directory: str, path: str) -> str:
    """Returns the current path of a checkpoint, also if the directory was moved or copied."""
    name = path.replace("\\", "/").split("/")[-1]
    beside = str(tf.io.gfile.join(directory, name))
    return path if _has_index(path) and not _has_index(beside) else beside


def _has_index(path: str) -> bool:
    return bool(tf.io.gfile.exists(f"{path}.index"))


def _paths_in_state(directory: str) -> list[str]:
    """Returns the paths in the state file, the newest first; none if it is missing or damaged."""
    try:
        state = tf.train.get_checkpoint_state(directory)
    except (ValueError, tf.errors.OpError):
        return []
    if state is None or not state.model_checkpoint_path:
        return []
    newest = state.model_checkpoint_path
    return [newest, *(path for path in reversed(state.all_model_checkpoint_paths)
                      if path != newest)]
