"""`python -m aocr` and the console script."""

from __future__ import annotations

import sys

from aocr.cli.main import main as run_command
from aocr.runtime import startup


def main() -> int:
    """Runs a command in this process and returns its exit code."""
    with startup.native_stderr_hidden():
        return run_command()


if __name__ == "__main__":
    sys.exit(main())
