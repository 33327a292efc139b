"""`paredown report`: draws the report of a run again."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `paredown compress --out` wrote.")],
) -> None:
    """Draws DIR/report.html again from DIR/run.json."""
    from paredown.report import read_record, write

    page = folder / "report.html"
    write(read_record(folder / "run.json"), page)
    typer.echo(f"Report: {page}")
