"""The worst images and the most frequent confusions, as tables on a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aocr.evaluation import alignment
from aocr.evaluation.characters import code_point, visible
from aocr.evaluation.details import Details
from aocr.evaluation.report import EvaluationRow

MOST_IMAGES = 10
_MOST_CONFUSIONS = 10
_STYLES = {"read": "bold red", "label": "bold green"}


def show(details: Details) -> None:
    """Prints the tables to standard error; nothing if every image is read without an error."""
    console = Console(stderr=True, highlight=False)
    if details.confusions:
        console.print(_worst([image.row for image in details.worst()[:MOST_IMAGES]]))
        console.print(_confusions(details))


def _worst(rows: list[EvaluationRow]) -> Table:
    table = _table("Images with most errors")
    table.add_column("errors", justify="right")
    table.add_column("probability", justify="right")
    table.add_column("read", ratio=2)
    table.add_column("label", ratio=2)
    table.add_column("image", ratio=1)
    for row in rows:
        read, label = _aligned(row)
        table.add_row(str(row.compared.errors),
                      f"{row.result.probability:.1%}", read, label,
                      Text(_printed(row.comment or f"record {row.number}"), overflow="fold"))
    return table


def _aligned(row: EvaluationRow) -> tuple[Text, Text]:
    """Returns the prediction and the label with the characters in color that differ."""
    texts = Text(overflow="fold"), Text(overflow="fold")
    for segment in alignment.align(row.compared.text, row.label):
        for text, part, style in zip(texts, segment, _STYLES.values(), strict=True):
            text.append(_printed(part), "" if segment.correct else style)
    return texts


def _confusions(details: Details) -> Table:
    table = _table("Most frequent confusions")
    table.add_column("count", justify="right")
    table.add_column("read")
    table.add_column("label")
    for segment, count in details.confusions.most_common(_MOST_CONFUSIONS):
        table.add_row(str(count), Text(visible(segment.text), _STYLES["read"]),
                      Text(visible(segment.label), _STYLES["label"]))
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
                 pad_edge=False, min_width=len(title))


def _printed(text: str) -> str:
    """Returns a text without control characters."""
    return "".join(code_point(character) or character for character in text)
