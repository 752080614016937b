"""What a person sees: the log in the original's form, and progress bars on a terminal."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any

from tqdm import tqdm

from aocr.errors import AocrError

# The original logged through the root logger; its name is part of what scripts parse.
_FORMAT = "%(asctime)-15s root  %(levelname)-8s %(message)s"

log = logging.getLogger("aocr")
log.addHandler(logging.NullHandler())


class _BesideBars(logging.Handler):
    """Writes to standard error without tearing a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        on_bar = getattr(record, "on_bar", False)
        if on_bar and sys.stderr.isatty():
            return
        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except (OSError, ValueError):  # nobody reads standard error any more; the work goes on
            return


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
    try:
        _attach(_LogFile(path, encoding="utf-8"))
    except OSError as error:
        problem = f"cannot write the log file {path} ({error.strerror}); --log-path names another"
        if chosen:
            raise AocrError(problem) from error
        log.warning(problem)


def _attach(handler: logging.Handler) -> None:
    handler.setFormatter(logging.Formatter(_FORMAT))
    log.addHandler(handler)


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
    """A tqdm progress bar on standard error; nothing where that is no terminal."""
    return tqdm(file=sys.stderr, disable=not sys.stderr.isatty(),
                dynamic_ncols=True, **options)
