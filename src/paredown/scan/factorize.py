"""Layers factorized: each alone at a share of its own MACs, kinds and ranks as `Factorize` chooses them."""

from collections.abc import Sequence
from functools import partial
from operator import attrgetter
from typing import Any

from paredown.factors import FACTORIZATIONS, Candidate, Option
from paredown.scan.case import Case, Cases, Method, shares
from paredown.scan.chain_times import saved_ms
from paredown.scan.result import MethodSkip
from paredown.scan.scope import Scope
from paredown.transforms import Factorize
from paredown.transforms.factor_ranks import by_rule
from paredown.transforms.factorize import KINDS

NAME = "factorize"


def _cases(scope: Scope, levels: Sequence[float]) -> Cases:
    cases, skips, suitable = [], [], {}
    for path in scope.with_kernels():
        reasons = scope.reasons(path, KINDS)
        suitable[path] = tuple(kind for kind, reason in reasons.items() if reason is None)
        if not suitable[path]:
            said = "; ".join(dict.fromkeys(f"{reason}" for reason in reasons.values()))
            skips.append(MethodSkip(path, f"it {said}", NAME))
    treated = [path for path, kinds in suitable.items() if kinds]
    for path in treated:
        exclude = tuple(other for other in treated if other != path)
        cheaper = _candidate(scope, path, suitable[path], plain=True)
        if all(cheaper.bound(kind) == 0 for kind in cheaper.kinds):
            skips.append(MethodSkip(path, "no rank makes it cheaper", NAME))
            continue
        for level in levels:
            run = partial(_run, scope, path, suitable[path], level)
            settings = {"layer": path, "level": level, "kinds": list(suitable[path])}
            cases.append(Case(path, (path,), NAME, level, settings, run, partial(_alone, scope, level, exclude)))
    return cases, skips


def _alone(scope: Scope, level: float, exclude: tuple[str, ...], more: dict) -> Factorize:
    return Factorize(layer_macs=level, exclude=exclude, asymmetric=False, examples=scope.examples)


def _candidate(scope: Scope, path: str, kinds: Sequence[str], price: str = "macs", plain: bool = False) -> Candidate:
    calls = scope.calls[path]
    problem = scope.unfitted(path) if plain else scope.problem(path)
    shapes = [scope.shapes.of(call.inputs[0]) for call in calls]
    return Candidate(path, problem, shapes, calls[0].operation.use_bias, attrgetter(price), kinds)


def _run(scope: Scope, path: str, kinds: Sequence[str], level: float) -> dict[str, Any] | str:
    candidate = scope.known.get((NAME, path))
    if candidate is None:
        # One layer's solvers at a time: those of a whole network would be many times its weights.
        scope.known = {key: value for key, value in scope.known.items() if key[0] != NAME}
        candidate = scope.known[(NAME, path)] = _candidate(scope, path, kinds)
    option = by_rule(candidate, "layer_macs", level)
    if not isinstance(option, Option):
        return option
    kernel = candidate.solver(option.kind, option.rank).factors(option.rank)[1]
    shift = candidate.problem.shift(kernel)
    with scope.trial.changed():
        scope.fitting.put(path, kernel, shift)
        judged = scope.trial.judge(scope.trial.outputs())
    predicted = None
    if path in scope.linear:
        predicted = scope.predicted(path, scope.lost(path, kernel - candidate.problem.matrix, shift))
    sizes = _candidate(scope, path, kinds, "params", plain=True)
    params = round(sizes.own_cost - sizes.cost(option.kind, option.rank))
    return {
        "setting": f"{option.kind}, rank {option.rank}",
        "predicted": predicted,
        **judged,
        "saved_macs": round(candidate.own_cost - option.cost),
        "saved_params": params,
        "saved_bytes": 4 * params,
        "more": {"layer": path, "kind": option.kind, "rank": option.rank},
    }


def _times(scope: Scope, mores: list[dict]) -> list[float | None]:
    layers = {more["layer"]: scope.calls[more["layer"]][0].operation for more in mores}
    return saved_ms(
        scope,
        [(m["layer"], FACTORIZATIONS[m["kind"]].pieces(layers[m["layer"]], m["rank"])) for m in mores],
    )


METHOD = Method("factorize", shares, _cases, _times)
