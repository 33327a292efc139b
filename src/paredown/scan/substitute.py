"""Convolutions substituted: each alone by the structure that loses least at a share of its MACs, as `SubstituteConv`
starts it. It is not trained, so that more is lost here than there.

Of the table of structures those that no factorization gives: the others start where `Factorize` ends.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras

from paredown.factors import Problem, piece_costs, piece_of
from paredown.scan.case import Case, Cases, Method, shares
from paredown.scan.chain_times import saved_ms
from paredown.scan.result import MethodSkip
from paredown.scan.scope import Scope
from paredown.structures import STRUCTURES, Seat, composed
from paredown.transforms import SubstituteConv

NAME = "substitute_conv"
STRUCTURES_TRIED = ("grouped", "stacked")
#: Of "grouped": the first that divides the input channels.
_GROUPS = (8, 4, 2)


def _cases(scope: Scope, levels: Sequence[float]) -> Cases:
    cases, skips = [], []
    for path in scope.with_kernels():
        found = _seats(scope, path)
        if isinstance(found, str):
            skips.append(MethodSkip(path, found, NAME))
            continue
        for level in levels:
            settings = {"layer": path, "level": level, "structures": [seat.structure for seat in found]}
            run = partial(_run, scope, path, found, level)
            cases.append(Case(path, (path,), NAME, level, settings, run, partial(_alone, scope, path, level)))
    return cases, skips


def _seats(scope: Scope, path: str) -> list[Seat] | str:
    """What could take a layer's place, or why nothing can."""
    calls = scope.calls[path]
    layer, read = calls[0].operation, calls[0].inputs[0]
    if type(layer) is not keras.layers.Conv2D:
        return "it is no Conv2D"
    if len(calls) > 1:
        return "it is called more than once"
    if path not in scope.linear:
        return "it is a grouped convolution, or reads too many values"
    if not scope.takes_shift(path):
        return "it has neither a bias nor a BatchNormalization behind it, as a structure would"
    seats = []
    for structure in STRUCTURES_TRIED:
        groups = next((g for g in _GROUPS if layer.kernel.shape[-2] % g == 0), 0) if structure == "grouped" else 1
        if groups and STRUCTURES[structure].why_not(layer, groups, tuple(read.shape)) is None:
            seat = Seat(path, layer, scope.shapes.of(read), tuple(read.shape), structure, groups, False)
            if not isinstance(seat.width(None, None), str):
                seats.append(seat)
    return seats or f"neither {' nor '.join(STRUCTURES_TRIED)} suits it and is cheaper"


def _alone(scope: Scope, path: str, level: float, more: dict) -> SubstituteConv:
    groups = more["groups"] if more["structure"] == "grouped" else None
    return SubstituteConv(
        more["structure"], layers=(path,), layer_macs=level, groups=groups, epochs=0, examples=scope.examples
    )


def _run(scope: Scope, path: str, seats: Sequence[Seat], level: float) -> dict[str, Any] | str:
    problem, best = scope.problem(path), None
    for seat in seats:
        width = seat.width(None, level)
        if isinstance(width, int):
            product = composed(seat.pieces(width), seat.start(problem, width)).reshape(problem.matrix.shape)
            tried = problem.error(product), seat, width, product
            best = tried if best is None or tried[0] < best[0] else best
    if best is None:
        return f"no width costs {level:g} of its MACs or less"
    _, seat, width, product = best
    return _figures(scope, seat, width, product, problem)


def _figures(scope: Scope, seat: Seat, width: int, product: Any, problem: Problem) -> dict[str, Any]:
    path, shift = seat.path, problem.shift(product)
    with scope.trial.changed():
        scope.fitting.put(path, product, shift)
        judged = scope.trial.judge(scope.trial.outputs())
    # A structure has a bias in any case.
    pieces = seat.pieces(width)
    params = _params([piece_of(seat.layer)], seat, seat.layer.use_bias) - _params(pieces, seat, True)
    return {
        "setting": f"{seat.structure}, width {width}",
        "predicted": scope.predicted(path, scope.lost(path, product - problem.matrix, shift)),
        **judged,
        "saved_macs": seat.macs_now - seat.macs(width),
        "saved_params": params,
        "saved_bytes": 4 * params,
        "more": {"layer": path, "structure": seat.structure, "groups": seat.groups, "width": width},
    }


def _params(pieces: Sequence[Any], seat: Seat, use_bias: bool) -> int:
    return sum(params for _, params in piece_costs(pieces, [1] * len(pieces), seat.inputs, use_bias))


def _times(scope: Scope, mores: list[dict]) -> list[float | None]:
    chains = []
    for more in mores:
        call = scope.calls[more["layer"]][0]
        shapes = scope.shapes.of(call.inputs[0]), tuple(call.inputs[0].shape)
        seat = Seat(more["layer"], call.operation, *shapes, more["structure"], more["groups"], False)
        chains.append((more["layer"], seat.pieces(more["width"])))
    return saved_ms(scope, chains)


METHOD = Method("substitute", shares, _cases, _times)
