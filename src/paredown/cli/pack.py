"""`paredown pack` and `paredown unpack`: a .tflite file made small for its way, and restored byte for byte."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from paredown.cli import start
from paredown.errors import ModelError, SettingError

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
    from paredown.report import formats

    made = pack_file(file, out)
    if as_json:
        typer.echo(json.dumps({**dataclasses.asdict(made), "path": str(made.path)}, indent=2))
        return
    sizes = (made.size_bytes, made.zipped_bytes, made.packed_bytes)
    whole, zipped, packed = (f"{formats.size(size)} ({size:,} bytes)" for size in sizes)
    typer.echo(f"File {whole}, zipped {zipped}, packed {packed}: {made.path}")


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
