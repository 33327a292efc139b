"""`paredown pack` and `paredown unpack`: a .tflite file made small for its way, and restored byte for byte."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from paredown.cli import start
from paredown.errors import DeviceError, ModelError, SettingError

SUFFIX = ".pdz"


def pack(
    file: Annotated[Path, typer.Argument(metavar="MODEL.tflite", help="The network.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="MODEL.pdz", help="The container; none: beside the network.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Packs a .tflite file without loss, smaller than a zip where its weights take few values."""
    start.check_tflite(file)
    out = _place(file, out, SUFFIX)
    from paredown.container import pack_file

    made = pack_file(file, out)
    running, unknown = _running(file)
    if as_json:
        plain = {**dataclasses.asdict(made), "path": str(made.path), "running_bytes": running}
        typer.echo(json.dumps(plain, indent=2))
    else:
        _print(made, running)
    if unknown:
        typer.echo(unknown, err=True)


def _running(file: Path) -> tuple[int | None, str]:
    """Memory while running; where it cannot be had, None and why: the file is packed all the same."""
    from paredown.measure import running_bytes

    try:
        return running_bytes(file), ""
    except (ModelError, DeviceError) as error:
        return None, f"Memory while running is unknown. {error}"


def _print(made: Any, running: int | None) -> None:
    from paredown.report import formats

    sizes = {"File": made.size_bytes, "File, zipped": made.zipped_bytes, "Container": made.packed_bytes}
    for name, size in sizes.items():
        typer.echo(f"{name:<22}{formats.size(size)} ({size:,} bytes)")
    after = "" if running is None else ", unpacked; on this computer, one thread"
    typer.echo(f"{'Memory while running':<22}{formats.size(running)}{after}")
    typer.echo(f"Written: {made.path}")


def unpack(
    file: Annotated[Path, typer.Argument(metavar="MODEL.pdz", help="What `paredown pack` wrote.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="MODEL.tflite", help="The network; none: beside the container."),
    ] = None,
    most_mb: Annotated[int, typer.Option("--max-mb", min=1, help="Refuse what unpacks to more megabytes.")] = 2048,
) -> None:
    """Restores the .tflite file of a container, byte for byte."""
    start.check_file(file, "A container", ModelError)
    out = _place(file, out, ".tflite")
    from paredown.container import unpack_file
    from paredown.report import formats

    size = unpack_file(file, out, most_mb << 20)
    typer.echo(f"Restored {formats.size(size)} ({size:,} bytes), checked by its SHA-256: {out}")


def _place(file: Path, out: Path | None, suffix: str) -> Path:
    """Where to write; what nobody named must not take the place of a file."""
    if out is not None:
        return out
    beside = file.with_suffix(suffix)
    if beside.exists():
        raise SettingError(
            f"Without --out nothing is replaced. Received: {beside}, which is there. Name it with --out."
        )
    return beside
