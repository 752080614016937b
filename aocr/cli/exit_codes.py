"""Exit codes of the commands; wrong usage exits with argparse's own 2."""

from __future__ import annotations

OK, FAILED, INTERRUPTED = 0, 1, 130
