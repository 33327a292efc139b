"""What a person sees: progress bars on standard error, tables on standard output."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import TextIO

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from paredown import progress
from paredown.report import formats, notices, summary

#: Columns where nobody's window sets a width (a file, a pipe): tables are not folded there.
_PIPE_WIDTH = 160


def console() -> Console:
    """Standard output as it is now."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, markup=False)


@contextmanager
def working(json: bool = False) -> Iterator[None]:
    """Shows the progress of everything done inside.

    Args:
        json: Whether standard output is to hold one JSON document: what others print then goes to standard error.
    """
    with ExitStack() as stack:
        stream = stack.enter_context(_own_stderr())
        if json:
            stack.enter_context(redirect_stdout(sys.stderr))
        stack.enter_context(progress.showing(_bars(stack, stream) if stream.isatty() else _lines(stream)))
        yield


@contextmanager
def _own_stderr() -> Iterator[TextIO]:
    """Standard error under a descriptor of our own: native libraries are silenced by closing theirs."""
    if sys.stderr is not sys.__stderr__:
        yield sys.stderr
        return
    with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="replace") as stream:
        yield stream


def _bars(stack: ExitStack, stream: TextIO) -> progress.Display:
    live = stack.enter_context(
        Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            console=Console(file=stream, force_terminal=True),
            # An experiment's cases take minutes: what is left is told from all of them, not from the last seconds.
            speed_estimate_period=24 * 3600.0,
        )
    )
    depth = 0

    @contextmanager
    def display(label: str, total: float | None) -> Iterator[Callable[[float], None]]:
        nonlocal depth
        item = live.add_task("  " * depth + label, total=total)
        depth += 1
        try:
            yield lambda amount=1.0: live.advance(item, amount)
            live.update(item, total=total or 1.0, completed=total or 1.0)
        finally:
            depth -= 1
            # Parts of a task would fill the screen: what stays is the task.
            live.remove_task(item) if depth else live.stop_task(item)

    return display


def _lines(stream: TextIO) -> progress.Display:
    @contextmanager
    def display(label: str, total: float | None) -> Iterator[Callable[[float], None]]:
        start = time.monotonic()
        yield lambda amount=1.0: None
        print(f"{label}: {formats.seconds(time.monotonic() - start)}", file=stream, flush=True)

    return display


def table(*columns: str, left: int = 1) -> Table:
    """An empty table whose first `left` columns hold text and whose others hold figures."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(columns):
        made.add_column(column, justify="left" if place < left else "right", no_wrap=place >= left, overflow="fold")
    return made


def run_summary(record: dict) -> None:
    """Prints what a run came to: the figures before and after, notices, checks and skips."""
    out = console()
    made = table("", "before", "after", "factor", "")
    made.columns[-1].justify = "left"
    for row in summary.rows(record):
        means = row.means + (f" (p10 to p90: {row.spread})" if row.spread else "")
        if row.label == summary.score_name(record["metric"]) and not record["metric"]["higher_is_better"]:
            means = "lower is better"
        made.add_row(row.label, row.before, row.after, Text(row.factor, style="red" if row.worse else "bold"), means)
    out.print(made)
    for notice in notices.notices(record):
        out.print(f"{notice.title}. {notice.text}", style="red")
    checks, skips = summary.checks(record), summary.skips(record)
    passed = sum(check["passed"] for check in checks)
    alone = f"{len(skips)} layer{'' if len(skips) == 1 else 's'} left alone"
    out.print(f"Checks: {passed} of {len(checks)} passed; {alone}{', reasons in the report' if skips else ''}.")
