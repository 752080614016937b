"""The model folder: which checkpoints lie in it, and how weights come back."""

from __future__ import annotations

import re

import tensorflow as tf

from aocr.checkpoints import config_file
from aocr.errors import AocrError
from aocr.runtime import filesystem
from aocr.runtime.console import log

CHECKPOINT_NAME = "model.ckpt"
STATE_FILE = "checkpoint"
_EXPORTS = {"saved_model.pb": "an exported model", "frozen_graph.pb": "a frozen graph"}


def exists(model_dir: str) -> bool:
    """Whether the folder names a checkpoint."""
    return bool(checkpoint_paths(model_dir) or checkpoint_paths(best_dir(model_dir)))


def started(model_dir: str) -> bool:
    """Whether a training has left its state file in the folder, whatever became of the rest."""
    return bool(tf.io.gfile.exists(tf.io.gfile.join(model_dir, STATE_FILE)))


def best_dir(model_dir: str) -> str:
    """The folder of the checkpoint that read validation images best."""
    return str(tf.io.gfile.join(model_dir, "best"))


def candidates(model_dir: str, which: str | None = None, strict: bool = False) -> list[str]:
    """Paths of checkpoints, the wanted one first and then those that may stand in for it.

    Args:
        model_dir: The folder.
        which: "latest", "best" or the number of a step; `None` for the best if there is one.
        strict: Refuse a damaged state file instead of taking what lies beside it.

    Raises:
        AocrError: There is none, or the state file is refused.
    """
    latest, best = checkpoint_paths(model_dir), checkpoint_paths(best_dir(model_dir))
    numbered = [path for path in latest + best if path.endswith(f"-{which}")][:1]
    found = {None: best + latest, "latest": latest, "best": best}.get(which, numbered)
    if found:
        if started(model_dir) and not _named_by_state(model_dir):
            problem = f"{model_dir}/{STATE_FILE} is damaged, and names no checkpoint"
            if strict:
                raise AocrError(f"{problem}; without --strict those beside it are taken")
            log.warning(f"{problem}; those beside it are taken, the newest first")
        return found
    if which is not None and latest + best:
        steps = sorted({_step(path) for path in latest + best})
        raise AocrError(f"no checkpoint {which!r} in {model_dir}; it has "
                        f"{', '.join(map(str, steps))}" + ", best" * bool(best))
    if started(model_dir):
        anew = ", or train anew with --no-resume" if config_file.exists(model_dir) else ""
        raise AocrError(f"the checkpoint that {model_dir}/{STATE_FILE} names is not there; bring "
                        f"its files back{anew}")
    refuse_exported(model_dir)
    there = tf.io.gfile.isdir(model_dir)
    if tf.io.gfile.exists(model_dir) and not there:
        raise AocrError(f"{model_dir} is a file; name the folder that `aocr train` has written")
    raise AocrError(f"no {'checkpoint in' if there else 'model folder'} {model_dir}; --model-dir "
                    "names the folder that `aocr train` has written")


def repair_state(model_dir: str) -> None:
    """Writes a damaged state file anew, with the checkpoints that lie beside it."""
    paths = _listed(model_dir)
    if started(model_dir) and paths and not _named_by_state(model_dir):
        tf.compat.v1.train.update_checkpoint_state(model_dir, paths[0], paths[::-1])


def state_is_lost(model_dir: str) -> bool:
    """Returns whether a training has left checkpoints, but its state file is missing."""
    return (not started(model_dir) and config_file.exists(model_dir)
            and bool(_listed(model_dir)))


def refuse_exported(model_dir: str) -> None:
    """Refuses a directory that holds an exported model where checkpoints are needed.

    Raises:
        AocrError: The directory, or one of its numbered versions, holds an exported model.
    """
    for folder in (model_dir, *filesystem.numbered_dirs(model_dir).values()):
        for name, kind in _EXPORTS.items():
            if tf.io.gfile.exists(tf.io.gfile.join(folder, name)):
                raise AocrError(f"{folder} holds {kind}; --model-dir names a folder of "
                                "checkpoints here, as `aocr train` writes it")


def checkpoint_paths(folder: str) -> list[str]:
    """Paths of the checkpoints that a folder names, the newest first.

    The state file of a model of the original may name paths of another machine, or be lost.
    """
    named = _named_by_state(folder)
    if named and (config_file.exists(folder) or any(_there(folder, path) for path in named)):
        return [_moved(folder, path) for path in named]
    if config_file.exists(folder) and not started(folder):
        return []  # a training that was started anew and has saved nothing yet
    return _listed(folder)


def _step(path: str) -> int:
    """Number of a checkpoint; 0 where its name has none."""
    number = path.rsplit("-", 1)[-1]
    return int(number) if number.isdecimal() else 0


def _listed(folder: str) -> list[str]:
    """Paths of the checkpoints that lie in a folder, the newest first."""
    pattern = re.compile(re.escape(CHECKPOINT_NAME) + r"-(\d+)\.index")
    names = tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []
    steps = sorted((int(found[1]) for found in map(pattern.fullmatch, names) if found),
                   reverse=True)
    return [tf.io.gfile.join(folder, f"{CHECKPOINT_NAME}-{step}") for step in steps]


def _moved(folder: str, path: str) -> str:
    """The path, or where it lies now if the folder has come from elsewhere."""
    inside = str(tf.io.gfile.join(folder, path.replace("\\", "/").split("/")[-1]))
    there, elsewhere = (tf.io.gfile.exists(f"{each}.index") for each in (inside, path))
    return path if elsewhere and not there else inside


def _there(folder: str, path: str) -> bool:
    return bool(tf.io.gfile.exists(f"{_moved(folder, path)}.index"))


def _named_by_state(folder: str) -> list[str]:
    """The paths in the state file, the newest first; none when it is not there, or damaged."""
    try:
        state = tf.train.get_checkpoint_state(folder)
    except (ValueError, tf.errors.OpError):
        return []
    if state is None or not state.model_checkpoint_path:
        return []
    newest = state.model_checkpoint_path
    return [newest, *(path for path in reversed(state.all_model_checkpoint_paths)
                      if path != newest)]
