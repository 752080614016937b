"""What a person sees: the log in the original's form, and progress bars on a terminal."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import unicodedata
from typing import Any

from tqdm import tqdm

from aocr.errors import AocrError, reason
from aocr.runtime import startup

# The original logged through the root logger; its name is part of what scripts parse.
_FORMAT = "%(asctime)-15s root  %(levelname)-8s %(message)s"
_FLUSH_SECONDS = 30.0
log = logging.getLogger("aocr")
log.addHandler(logging.NullHandler())


class _BesideBars(logging.Handler):
    """Writes to standard error without tearing a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        on_bar = getattr(record, "on_bar", False)
        if on_bar and sys.stderr.isatty():
            return
        # File names need not be text.
        line = self.format(record).encode(errors="backslashreplace").decode()
        try:
            tqdm.write(line, file=sys.stderr)
        except (OSError, ValueError):  # nobody reads standard error any more; the work goes on
            return


class _RemoteFile(logging.Handler):
    """Appends to a file of any file system that TensorFlow knows.

    Object stores write the whole file anew for that, so lines are put together for a while.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._flushed = time.monotonic()
        self.waiting: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.waiting.append(self.format(record) + "\n")
        due = time.monotonic() > self._flushed + _FLUSH_SECONDS
        if self._path and (due or record.levelno > logging.INFO):
            self.flush()

    def flush(self) -> None:
        import tensorflow as tf

        text, self.waiting = "".join(self.waiting), []
        self._flushed = time.monotonic()
        if not text or not self._path:
            return
        try:
            with tf.io.gfile.GFile(self._path, "a") as file:
                file.write(text)
        except tf.errors.OpError as error:
            path, self._path = self._path, ""
            log.warning(f"cannot write on in the log file {path}: {reason(error)}; the work "
                        "goes on without it")

    def close(self) -> None:
        self.flush()
        super().close()


class _LogFile(logging.FileHandler):
    """Tells once that its disk takes no more, and goes on trying: the work is worth more."""

    told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Takes the place of a traceback."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.told:
            self.told = True
            log.warning(f"cannot write to the log file {self.baseFilename} ({error.strerror}); "
                        "it misses lines from here on")

    def close(self) -> None:
        """Gives up what the disk has not taken."""
        with contextlib.suppress(OSError):
            super().close()


def start_log(path: str, chosen: bool) -> None:
    """Sends the log to standard error and to a file.

    Args:
        path: The log file; it is appended to.
        chosen: Whether the user named it. A default that cannot be written is only warned about.

    Raises:
        AocrError: The chosen file cannot be written.
    """
    stop_log()
    log.setLevel(logging.INFO)
    log.propagate = False
    _attach(_BesideBars())
    if "://" in path:
        _attach(_opened(path))
        return
    try:
        _attach(_LogFile(path, encoding="utf-8", errors="backslashreplace"))
    except OSError as error:
        problem = f"cannot write the log file {path} ({error.strerror}); --log-path names another"
        if chosen:
            raise AocrError(problem) from error
        log.warning(problem)


def _opened(path: str) -> _RemoteFile:
    startup.import_tensorflow()
    import tensorflow as tf

    try:
        tf.io.gfile.exists(path)
        return _RemoteFile(path)
    except tf.errors.OpError as error:
        raise AocrError(f"cannot write the log file {path} ({reason(error)}); --log-path names "
                        "another") from error


def _attach(handler: logging.Handler) -> None:
    handler.setFormatter(logging.Formatter(_FORMAT))
    log.addHandler(handler)


def leave_file() -> None:
    """Leaves the log file to another process."""
    for handler in log.handlers[:]:
        if isinstance(handler, _RemoteFile):
            handler.waiting.clear()  # all machines may have been given the same file
        if isinstance(handler, logging.FileHandler | _RemoteFile):
            log.removeHandler(handler)
            handler.close()


def only_errors() -> None:
    """Leaves the log to another process: nothing but errors, and those on standard error."""
    leave_file()
    log.setLevel(logging.ERROR)


def stop_log() -> None:
    """Closes what `start_log` opened."""
    for handler in log.handlers[:]:
        if not isinstance(handler, logging.NullHandler):
            log.removeHandler(handler)
            handler.close()


def on_bar(message: str) -> None:
    """Logs a line of which the bar shows the gist; a terminal is spared it."""
    log.info(message, extra={"on_bar": True})


def bar(**options: Any) -> Any:  # noqa: ANN401
    """A tqdm progress bar on standard error; nothing where that is no terminal, or no log."""
    shown = sys.stderr.isatty() and log.isEnabledFor(logging.INFO)
    return tqdm(file=sys.stderr, disable=not shown, dynamic_ncols=True, **options)


def printable(text: str) -> str:
    """The text with its control characters, which would move a cursor, as escapes."""
    return "".join(repr(each)[1:-1] if unicodedata.category(each) == "Cc" else each
                   for each in text)
