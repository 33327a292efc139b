"""`paredown profile`: what costs what, layer by layer."""

import json
from typing import Annotated, Any

import typer

from paredown.cli import options, start
from paredown.errors import ModelError, SettingError

#: Percent by which the sum of a network's layers may differ from the whole before the reader is told why.
_DISTURBED = 20


def profile(
    model: options.Model,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    trust: options.Trust = False,
    why: Annotated[
        bool, typer.Option("--why", help="Also how many channels of each layer can be removed, and why not the others.")
    ] = False,
    factors: Annotated[
        bool, typer.Option("--factors", help="Also what factorizing could save in each layer at 95 % of its kernel.")
    ] = False,
    latency: Annotated[
        bool, typer.Option("--latency", help="Also measure every layer in LiteRT here, and say what makes it slow.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of LiteRT, with --latency.")] = 1,
    input_shape: Annotated[
        str | None, typer.Option(metavar="H,W,C", help="Sizes of an input that has open ones, e.g. 224,224,3.")
    ] = None,
) -> None:
    """Shows what every layer costs: MACs, parameters, bytes."""
    shape = _shape(input_shape)
    start.check_file(model, "A model", ModelError)
    start.prepare()
    from paredown import model_file, profiling
    from paredown.cli import display

    with display.working(json=as_json):
        network = model_file.load_model(model, trust=trust)
        found, savings = profiling.profile(network, input_shape=shape), []
        if factors:
            from paredown.factors import possible_savings

            savings = possible_savings(network, input_shape=shape)
        slow = None
        if latency:
            from paredown.latency import OperationTable, roofline

            slow = roofline(network, OperationTable(threads=threads), input_shape=shape)
    if as_json:
        more = {"factors": [saving.to_dict() for saving in savings]} if factors else {}
        more |= {"roofline": slow.to_dict()} if slow else {}
        typer.echo(json.dumps(found.to_dict() | more, indent=2))
        return
    _print(found, model.name)
    if why:
        _print_why(found)
    if factors:
        _print_factors(savings)
    if slow:
        _print_latency(slow)


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise SettingError(
            f"--input-shape must be positive whole numbers parted by commas, without the batch. Received: {text!r}. "
            "Use e.g. --input-shape 224,224,3."
        )
    return tuple(int(part) for part in parts)


def _print(found: Any, name: str) -> None:
    from paredown.cli import display
    from paredown.report import formats

    made = display.table(
        "layer", "kind", "output", "MACs", "share", "parameters", "weights", "activations", "MACs/byte", left=2
    )
    known = sum(layer.macs or 0 for layer in found.layers)
    for layer in found.layers:
        intensity = layer.intensity_macs_per_byte
        made.add_row(
            layer.name,
            layer.kind,
            formats.shape(layer.output_shape),
            formats.count(layer.macs),
            "" if not known or not layer.macs else _share(layer.macs / known),
            formats.count(layer.params),
            formats.size(layer.weight_bytes),
            formats.size(layer.activation_bytes),
            formats.UNKNOWN if intensity is None else formats.digits(intensity),
        )
    out = display.console()
    out.print(made)
    incomplete = f" without {len(found.unknown)} of unknown cost" if found.unknown else ""
    out.print(
        f"{name}: {formats.count(known)} MACs{incomplete}, {formats.count(found.params)} parameters, "
        f"{formats.size(found.weight_bytes)} of weights, {formats.size(found.activation_bytes)} of activations, "
        f"{formats.size(found.peak_activation_bytes)} of them at once."
    )
    if found.additions:
        out.print(
            f"In place of MACs: {formats.count(found.additions)} additions and {formats.count(found.sign_changes)} "
            "sign changes of additive layers. LiteRT has no operation for them and multiplies twice."
        )
    for layer in found.layers:
        if layer.note:
            out.print(f"{layer.name}: {layer.note}")


def _print_why(found: Any) -> None:
    from paredown.cli import display
    from paredown.report import formats

    made = display.table("layer", "kind", "channels", "removable", "why", left=2)
    made.columns[-1].justify, made.columns[-1].no_wrap = "left", False
    for layer in found.layers:
        if layer.removable is not None:
            made.add_row(
                layer.name, layer.kind, formats.count(layer.channels), formats.count(layer.removable), layer.why
            )
    display.console().print(made)


def _print_factors(savings: list[Any]) -> None:
    from paredown.cli import display
    from paredown.report import formats

    made = display.table("layer", "MACs", "best kind", "rank", "cheaper up to", "saves", "", left=1)
    made.columns[-1].justify, made.columns[-1].no_wrap = "left", False
    for saving in savings:
        made.add_row(
            saving.layer,
            formats.count(saving.macs) if saving.macs else "",
            saving.kind or "",
            "" if saving.rank is None else str(saving.rank),
            str(saving.bound or ""),
            _share(saving.saved / saving.macs) if saving.saved else "",
            saving.why,
        )
    display.console().print(made)


def _print_latency(slow: Any) -> None:
    from paredown.cli import display
    from paredown.report import formats

    made = display.table("layer", "operation", "time", "share", "bound by", "reached", "what would help", left=2)
    for column in made.columns[-3:]:
        column.justify = "left"
    for layer in slow.layers:
        made.add_row(
            layer.layer,
            layer.kind,
            formats.ms(layer.ms),
            _share(layer.share),
            layer.bound,
            f"{100 * layer.reached:.0f} %",
            layer.advice,
        )
    out, latency, peaks = display.console(), slow.latency, slow.peaks
    out.print(made)
    off = 100 * (latency.ms / latency.measured_ms - 1)
    whole = formats.ms(latency.measured_ms)
    out.print(f"Sum of all layers {formats.ms(latency.ms)}, the whole network {whole}: {off:+.1f} %.")
    if latency.networks:
        out.print(
            f"Over all networks measured whole here ({latency.networks}) sums are off by {100 * latency.error:.1f} % "
            "(root mean square)."
        )
    if off < -_DISTURBED:
        out.print("The whole took much longer than its layers: something else was running. Measure on a quiet machine.")
    if off > _DISTURBED:
        out.print("The whole is much faster than its layers alone: LiteRT joins small operations, so shares are rough.")
    shares = ", ".join(f"{100 * share:.0f} % {bound}" for bound, share in slow.shares().items())
    out.print(
        f"Bound by: {shares}. Peaks: {formats.digits(peaks.macs_per_s / 1e9)} G MACs/s, "
        f"{formats.digits(peaks.bytes_per_s / 1e9)} GB/s, {formats.digits(1e3 * peaks.overhead_ms)} µs per operation. "
        f"{latency.device}, {latency.threads} thread{'' if latency.threads == 1 else 's'}, {latency.runtime}."
    )


def _share(share: float) -> str:
    """A bar of up to ten eighth-block steps and the percentage."""
    return f"{'█' * round(10 * share)} {100 * share:4.1f} %"
