"""Tables for the pages of results."""

from collections.abc import Iterable, Sequence
from typing import Any


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], left: int = 1) -> str:
    """A Markdown table.

    Args:
        columns: Headings, with units: `"accuracy (%)"`.
        rows: Cells, written by `str`; each row as long as `columns`.
        left: How many columns hold text (to the left); the others hold figures (to the right).
    """
    ruler = ["---" if place < left else "---:" for place in range(len(columns))]
    lines = [columns, ruler, *rows]
    for line in lines:
        if len(line) != len(columns):
            raise ValueError(f"A row must have {len(columns)} cells, one a column. Received: {list(line)!r}.")
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
