"""Writes the option tables of `aocr/cli/README.md` from the argument parsers of the commands.

Run it as `python -m tests.option_tables`.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from aocr.cli.main import parser

README = Path(__file__).parents[1] / "aocr" / "cli" / "README.md"
_MARKERS = re.compile(r"(?<=<!-- options -->\n).*(?=<!-- end of options -->)", re.DOTALL)
_DEFAULT = re.compile(r"(.*) \(default: (.*)\)", re.DOTALL)


def with_tables(readme: str) -> str:
    """Returns the text with the tables between its markers replaced by the current ones."""
    return _MARKERS.sub(lambda _: "\n".join(_sections()) + "\n", readme)


def _sections() -> Iterator[str]:
    for action in parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield from _section(name, command)


def _section(name: str, command: argparse.ArgumentParser) -> Iterator[str]:
    usage = command.format_usage().removeprefix("usage: ").strip()
    yield from ("", f"## aocr {name}", "", f"    {usage}", "", command.description or "", "")
    yield from ("| option | default | meaning |", "|---|---|---|")
    for group in command._action_groups:
        actions = [action for action in group._group_actions
                   if action.help != argparse.SUPPRESS and action.dest != "help"]
        if actions:
            yield f"| **{group.title}** | | {_cell(group.description or '')} |".replace("  ", " ")
            yield from map(_row, actions)
    hidden = [f"`{action.option_strings[0]}`" for action in command._actions
              if action.help == argparse.SUPPRESS]
    if hidden:
        yield from ("", f"Accepted as well, as aocr 0.7 did: {', '.join(hidden)}.")


def _row(action: argparse.Action) -> str:
    meaning = (action.help or "") % vars(action)
    match = _DEFAULT.fullmatch(meaning)
    meaning, default = match.groups() if match else (meaning, "")
    return f"| {_names(action)} | {_cell(default)} | {_cell(meaning)} |"


def _names(action: argparse.Action) -> str:
    value = action.metavar or "|".join(action.choices or ())
    if action.nargs in ("+", "*"):
        value = f"{value}..."
    names = [f"{name} {value}".strip() for name in action.option_strings] or [str(value)]
    return ", ".join(f"`{_cell(name)}`" for name in names)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
