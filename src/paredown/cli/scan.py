"""`paredown scan`: where a network has fat, and where bone."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from paredown.cli import options, start
from paredown.errors import ModelError, SettingError
from paredown.files import writable_folder, write_text

#: The results; finished cases stand beside them.
RESULT, PAGE = "scan.json", "scan.html"


def scan(
    model: options.Model,
    data: options.DataSource,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where scan.json and scan.html go, and finished cases.")],
    methods: Annotated[
        str | None, typer.Option(metavar="A,B", help="Only these, e.g. prune_channels,factorize.")
    ] = None,
    levels: Annotated[
        str, typer.Option(metavar="A,B", help="Shares of a layer's channels or MACs to keep, each in (0, 1).")
    ] = "0.75,0.5,0.25",
    examples: Annotated[int, typer.Option(min=1, help="For statistics; others are judged on.")] = 512,
    seed: options.Seed = 0,
    latency: Annotated[bool, typer.Option(help="Also time layers in LiteRT on this computer.")] = True,
    trust: options.Trust = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Tries every method on every layer alone: what it costs, what it saves."""
    shares, names = _levels(levels), None if methods is None else _names(methods)
    start.check_file(model, "A model", ModelError)
    start.check_data(data)
    writable_folder(out)
    start.prepare()
    from paredown import model_file
    from paredown.cli import display
    from paredown.data import Data
    from paredown.report import write_scan
    from paredown.scan import check_settings, scan_sensitivity

    check_settings(names, shares, seed, examples)
    with display.working(json=as_json):
        network = model_file.load_model(model, trust=trust)
        found = scan_sensitivity(network, Data.load(data), names, shares, out, seed, examples, latency).to_dict()
        write_text(out / RESULT, json.dumps(found, indent=1))
        write_scan(found, out / PAGE)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    _print(found)
    typer.echo(f"Heat map: {out / PAGE}")


def _levels(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise SettingError(
            f"--levels must be numbers in (0, 1) parted by commas. Received: {text!r}. Use e.g. --levels 0.75,0.5,0.25."
        ) from error


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _print(found: dict[str, Any]) -> None:
    """Layers by methods, each at its middle level; of each method the layer that loses least and the one that loses
    most are marked."""
    from rich.text import Text

    from paredown.cli import display
    from paredown.report import fat
    from paredown.report.heat_map import loss, saved

    levels = {method["name"]: fat.middle(method) for method in found["methods"]}
    labels = {
        method["name"]: f"{method['label']} {level['label']}"
        for method in found["methods"]
        for level in method["levels"]
        if level["level"] == levels[method["name"]]
    }
    rows = {(row["layer"], row["method"]): row for row in found["rows"] if row["level"] == levels[row["method"]]}
    ends = {name: _ends([row for (_, of), row in rows.items() if of == name]) for name in levels}
    made = display.table("layer", *labels.values())
    for layer in found["layers"]:
        cells = []
        for name in levels:
            row = rows.get((layer, name))
            mark, style = ends[name].get(layer, ("", "")) if row else ("", "")
            cells.append(Text(f"{mark}{loss(row['measured'])}" if row else "", style=style))
        made.add_row(layer, *cells)
    out = display.console()
    out.print(made)
    out.print(
        "Loss: mean square change of the outputs as a share of their variance, this layer alone. − least, + most."
    )
    for title, cases in (("Fat", fat.fattest(found, 3)), ("Bone", fat.bone(found, 3))):
        for row in cases:
            drop = "" if row["score_drop"] is None else f", {found['metric']['name']} {_points(found['metric'], row)}"
            of_it = f"{row['layer']}, {row['setting']}: loss {loss(row['measured'])}{drop}"
            out.print(f"{title}: {of_it}; {', '.join(saved(row))}.")
    out.print(f"{len(found['rows'])} cases; {len(found['skips'])} left alone, reasons on the page.")
    for note in found["notes"]:
        out.print(note)


def _ends(rows: list[dict]) -> dict[str, tuple[str, str]]:
    """Layer -> mark and style, of those that lose least and most."""
    if len(rows) < 2:
        return {}
    least, most = (end(rows, key=lambda row: row["measured"])["layer"] for end in (min, max))
    return {least: ("− ", "green"), most: ("+ ", "red")}


def _points(metric: dict, row: dict) -> str:
    from paredown.report import formats

    sign = -1 if metric["higher_is_better"] else 1
    return formats.score_change(metric["value"], metric["value"] + sign * row["score_drop"], metric["name"])
