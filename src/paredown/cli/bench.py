"""`paredown bench`: latency of .tflite files, measured in turns."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from paredown.cli import start
from paredown.errors import SettingError


def bench(
    files: Annotated[list[Path], typer.Argument(metavar="A.tflite [B.tflite ...]", help="The first is the baseline.")],
    threads: Annotated[int, typer.Option(min=1, help="Threads of the interpreter.")] = 1,
    device: Annotated[str, typer.Option(help="Where to run them: host, this computer.")] = "host",
    runs: Annotated[int, typer.Option(min=1, help="Timings per file.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Measures the latency of .tflite files, interleaved."""
    if device != "host":
        raise SettingError(f"device must be host. Received: device={device!r}. Copy the files there and run it there.")
    for file in files:
        start.check_tflite(file)
    start.prepare()
    from paredown.cli import display
    from paredown.measure import latency

    with display.working(json=as_json):
        found = latency.measure_latency(files, threads=threads, runs=runs)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
    else:
        _print(found)


def _print(found: Any) -> None:
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
