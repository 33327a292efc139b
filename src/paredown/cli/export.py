"""`paredown export`: a .tflite file of a network, its shared weights packed where that is asked for."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from paredown.cli import options, start
from paredown.errors import ModelError, SettingError


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A .keras file; with --pack also a .tflite file.")],
    out: Annotated[Path, typer.Option(metavar="FILE.tflite", help="Where to write.")],
    pack: Annotated[
        str | None, typer.Option(metavar="FORM", help="Pack shared weights: ship (smallest), run (fast) or auto.")
    ] = None,
    quantization: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="float16, dynamic, int8 (needs --data) or int4.")
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="SRC", help="Inputs to calibrate and to check with.")] = None,
    trust: options.Trust = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Writes a network as a .tflite file, checked against it."""
    _check(model, pack, quantization, data)
    start.prepare() if model.suffix != ".tflite" else start.choose_backend()
    from paredown.cli import display

    with display.working(json=as_json):
        record = (
            _packed(model, out, str(pack))
            if model.suffix == ".tflite"
            else _exported(model, out, quantization, data, pack, trust)
        )
    if as_json:
        typer.echo(json.dumps(record, indent=2))
    else:
        _print(record, out)


def _check(model: Path, pack: str | None, quantization: str | None, data: str | None) -> None:
    """What can be said without Keras."""
    from paredown.packed import check_form

    if pack is not None:
        check_form(pack)
    if model.suffix != ".tflite":
        start.check_file(model, "A model", ModelError)
    elif pack is None or quantization is not None or data is not None:
        raise SettingError(
            f"A .tflite file can be packed, nothing else. Received: {model} without --pack, or with --quantization or "
            "--data. Give --pack auto, or the .keras file."
        )
    else:
        start.check_tflite(model)
    if data is not None:
        start.check_data(data)


def _exported(
    model: Path, out: Path, quantization: str | None, data: str | None, pack: str | None, trust: bool
) -> dict[str, Any]:
    from paredown.data import Data
    from paredown.export import export_litert
    from paredown.model_file import load_model

    inputs = None if data is None else Data.load(data)
    made = export_litert(load_model(model, trust), out, quantization, inputs, pack=pack)
    return {"file_bytes": made.size_bytes, "zipped_bytes": made.zipped_bytes, **made.to_dict()}


def _packed(model: Path, out: Path, pack: str) -> dict[str, Any]:
    from paredown.packed import pack_litert

    packing = pack_litert(model, out, pack).to_dict()
    sizes = {key: packing["after"][key] for key in ("file_bytes", "zipped_bytes")}
    return {**sizes, "checks": packing["checks"], "skips": packing["skips"], "packing": packing}


def _print(record: dict[str, Any], out: Path) -> None:
    from paredown.cli import display
    from paredown.report import formats

    console = display.console()
    packing = record.get("packing")
    if packing:
        _print_packing(packing)
    for check in record["checks"]:
        console.print(
            f"{check['name']}: {formats.digits(check['value'])} (tolerance {formats.digits(check['tolerance'])})"
            f"{'' if check['passed'] else ', FAILED'}"
        )
    for skip in record["skips"]:
        console.print(f"{skip['layer']}: {skip['reason']}")
    console.print(f"{out}: {record['file_bytes']:,} bytes, zipped {record['zipped_bytes']:,}.")


def _print_packing(packing: dict[str, Any]) -> None:
    from paredown.cli import display
    from paredown.packed import AUTO
    from paredown.report import formats

    console = display.console()
    made = display.table("kernel", "values", "bits", "bytes", "packed", "change", left=1)
    for kernel in packing["kernels"]:
        values = f"{kernel['codebooks']} × {kernel['values']}" if kernel["codebooks"] > 1 else str(kernel["values"])
        error = f"{100 * kernel['error']:.2g} %" if kernel["error"] > 1e-6 else "none"
        cells = (values, str(kernel["bits"]), f"{kernel['plain_bytes']:,}", f"{kernel['payload_bytes']:,}", error)
        made.add_row(kernel["name"], *cells)
    console.print(made)
    sizes = display.table("", "plain", packing["form"])
    for name, key in (("file", "file_bytes"), ("file, zipped", "zipped_bytes"), ("memory, running", "running_bytes")):
        sides = (packing[side][key] for side in ("before", "after"))
        sizes.add_row(name, *("unknown" if size is None else f"{size:,} bytes" for size in sides))
    console.print(sizes)
    console.print(f"Beside indices and codebooks decoding takes {packing['overhead_bytes']:,} bytes of the file.")
    if packing["latencies_ms"]:
        told = [
            f"{name} {formats.ms(ms)} ({formats.factor(packing['speeds'][name])})"
            for name, ms in packing["latencies_ms"].items()
        ]
        console.print(f"In LiteRT here: {', '.join(told)}.")
        console.print("Elsewhere: paredown bench with both files and --device browser or arm64.")
        if packing["asked"] == AUTO:
            console.print(f"Taken: {packing['form']}, the smallest file that is not clearly slower than the fastest.")
