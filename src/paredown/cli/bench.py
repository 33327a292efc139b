"""`paredown bench`: latency of .tflite files, measured in turns."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from paredown.cli import start
from paredown.devices import MODULES, Options, measure_on
from paredown.devices import device as find_device


def bench(
    files: Annotated[list[Path], typer.Argument(metavar="A.tflite [B.tflite ...]", help="The first is the baseline.")],
    threads: Annotated[int, typer.Option(min=1, help="Threads of the interpreter.")] = 1,
    device: Annotated[str, typer.Option(help=f"Where to run them: {', '.join(MODULES)}.")] = "host",
    runs: Annotated[int, typer.Option(min=1, help="Timings per file.")] = 50,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for a device that gives no sign.")] = 600,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port that a phone opens; 0: any free one.")] = 0,
    https: Annotated[bool, typer.Option("--https", help="Serve phones over HTTPS, for more threads.")] = False,
    phones: Annotated[int, typer.Option(min=1, help="Phones to wait for.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Measures the latency of .tflite files, interleaved."""
    chosen = find_device(device)
    for file in files:
        start.check_tflite(file)
    start.choose_backend()
    from paredown.cli import display

    options = Options(threads, runs, timeout, port, https, phones)
    with display.working(json=as_json):
        found = measure_on(chosen.name, files, options)
    if as_json:
        # One machine, one report: the form that scripts read since there was the host alone.
        plain = [report.to_dict() for report in found]
        typer.echo(json.dumps(plain[0] if len(plain) == 1 else plain, indent=2))
        return
    for report in found:
        _print(report)


def _print(found: Any) -> None:
    _TABLES[getattr(found, "unit", "ms")](found)


def _times(found: Any) -> None:
    from paredown.cli import display
    from paredown.report import formats

    made = display.table("file", "median", "p10 to p90", "speed", "p10 to p90", "file size")
    for row in found.rows:
        made.add_row(
            str(row.path),
            formats.ms(row.median_ms),
            f"{formats.digits(row.p10_ms)} to {formats.ms(row.p90_ms)}",
            formats.factor(row.speedup_median),
            f"{formats.digits(row.speedup_p10)} to {formats.factor(row.speedup_p90)}",
            formats.size(Path(row.path).stat().st_size),
        )
    out = display.console()
    out.print(made)
    threads = f"{found.threads} thread{'' if found.threads == 1 else 's'}"
    out.print(f"{found.runs} paired runs, {threads}, {found.runtime}.")
    for note in getattr(found, "notes", ()):
        out.print(note)


def _instructions(found: Any) -> None:
    from paredown.cli import display
    from paredown.report import formats

    made = display.table("file", "instructions", "fewer", "outputs differ by", "file size")
    for row in found.rows:
        made.add_row(
            str(row.path),
            f"{row.instructions:,}",
            formats.factor(row.fewer),
            f"{row.difference:.1e} of the range" if row.difference else "nothing",
            formats.size(Path(row.path).stat().st_size),
        )
    out = display.console()
    out.print(made)
    out.print(f"One inference on one thread of an emulated {found.core}, {found.runtime}, {found.emulator}.")
    for note in found.notes:
        out.print(note)


#: How a report is shown, by the unit of its figures.
_TABLES = {"ms": _times, "instructions": _instructions}
