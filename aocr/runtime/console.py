"""Logging in the format of the original aocr, and progress bars on a terminal."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import unicodedata
from typing import Any

from aocr.errors import AocrError, reason
from aocr.runtime import startup

# The original used the root logger, and scripts parse its name.
_FORMAT = "%(asctime)-15s root  %(levelname)-8s %(message)s"
_FLUSH_SECONDS = 30.0
log = logging.getLogger("aocr")
log.addHandler(logging.NullHandler())


class _StderrHandler(logging.Handler):
    """Writes to standard error, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "on_bar", False) and sys.stderr.isatty():
            return
        # File names may hold bytes that are not UTF-8.
        line = self.format(record).encode(errors="backslashreplace").decode()
        tqdm = sys.modules.get("tqdm")  # absent until a progress bar is shown
        try:
            if tqdm is None:
                print(line, file=sys.stderr)
            else:
                tqdm.tqdm.write(line, file=sys.stderr)
        except (OSError, ValueError):  # standard error was closed, which does not end the command
            return


class _RemoteFileHandler(logging.Handler):
    """Appends to a file of any file system that TensorFlow supports.

    Object stores rewrite the whole file for each append, so lines are collected for 30 seconds.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._flushed = time.monotonic()
        self.pending: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.pending.append(self.format(record) + "\n")
        due = time.monotonic() > self._flushed + _FLUSH_SECONDS
        if self._path and (due or record.levelno > logging.INFO):
            self.flush()

    def flush(self) -> None:
        import tensorflow as tf

        text, self.pending = "".join(self.pending), []
        self._flushed = time.monotonic()
        if not text or not self._path:
            return
        try:
            with tf.io.gfile.GFile(self._path, "a") as file:
                file.write(text)
        except tf.errors.OpError as error:
            path, self._path = self._path, ""
            log.warning(f"cannot append to the log file {path}: {reason(error)}; logging to "
                        "it stops")

    def close(self) -> None:
        self.flush()
        super().close()


class _LocalFileHandler(logging.FileHandler):
    """Appends to a local file; a full disk gives one warning and does not end the command."""

    warned = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Logs a warning in place of a traceback."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.warned:
            self.warned = True
            log.warning(f"cannot write to the log file {self.baseFilename} ({error.strerror}); "
                        "lines will be missing from it")

    def close(self) -> None:
        """Closes the file, without the lines that could not be written."""
        with contextlib.suppress(OSError):
            super().close()


def start_log(path: str, chosen: bool) -> None:
    """Starts logging to standard error and to a file.

    Args:
        path: The log file, which is appended to; a missing local directory is created.
        chosen: Whether the user named the file. If not, a file that cannot be written gives only
            a warning.

    Raises:
        AocrError: The chosen file cannot be written.
    """
    stop_log()
    log.setLevel(logging.INFO)
    log.propagate = False
    _attach(_StderrHandler())
    if "://" in path:
        _attach(_open_remote(path))
        return
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        _attach(_LocalFileHandler(path, encoding="utf-8", errors="backslashreplace"))
    except OSError as error:
        problem = (f"cannot write the log file {path} ({error.strerror}); name another with "
                   "--log-path")
        if chosen:
            raise AocrError(problem) from error
        log.warning(problem)


def _open_remote(path: str) -> _RemoteFileHandler:
    startup.import_tensorflow()
    import tensorflow as tf

    try:
        tf.io.gfile.exists(path)
        return _RemoteFileHandler(path)
    except tf.errors.OpError as error:
        raise AocrError(f"cannot write the log file {path} ({reason(error)}); name another "
                        "with --log-path") from error


def _attach(handler: logging.Handler) -> None:
    handler.setFormatter(logging.Formatter(_FORMAT))
    log.addHandler(handler)


def close_log_file() -> None:
    """Stops logging to the file, for which another process is responsible."""
    for handler in log.handlers[:]:
        if isinstance(handler, _RemoteFileHandler):
            handler.pending.clear()  # several workers may have been given the same file
        if isinstance(handler, logging.FileHandler | _RemoteFileHandler):
            log.removeHandler(handler)
            handler.close()


def log_only_errors() -> None:
    """Logs only errors, to standard error; another process logs the rest."""
    close_log_file()
    log.setLevel(logging.ERROR)


def stop_log() -> None:
    """Closes the handlers that `start_log` added."""
    for handler in log.handlers[:]:
        if not isinstance(handler, logging.NullHandler):
            log.removeHandler(handler)
            handler.close()


def log_beside_bar(message: str) -> None:
    """Logs a line to the file only, if a progress bar shows its content on the terminal."""
    log.info(message, extra={"on_bar": True})


def on_terminal() -> bool:
    """Returns whether standard error is a terminal to which the log is written."""
    return sys.stderr.isatty() and log.isEnabledFor(logging.INFO)


def progress_bar(**options: Any) -> Any:  # noqa: ANN401
    """Returns a tqdm progress bar, which is shown on a terminal only."""
    from tqdm import tqdm

    return tqdm(file=sys.stderr, disable=not on_terminal(), dynamic_ncols=True, **options)


def printable(text: str) -> str:
    """Returns a text whose control characters, which could move the cursor, are escaped."""
    return "".join(
        repr(character)[1:-1] if unicodedata.category(character) == "Cc" else character
        for character in text)
