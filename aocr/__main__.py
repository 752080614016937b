"""`python -m aocr` and the console script."""

from __future__ import annotations

import sys

from aocr import cli, quiet


def main() -> int:
    """A command in a process of its own; returns its exit code."""
    with quiet.apart():
        return cli.main()


if __name__ == "__main__":
    sys.exit(main())
