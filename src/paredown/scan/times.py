"""What a network, and each case of a scan, takes in LiteRT on this computer."""

from typing import Any

from paredown.checkpoints import next_key
from paredown.errors import ParedownError
from paredown.latency import predict_latency
from paredown.progress import task
from paredown.scan.case import Case
from paredown.scan.methods import METHODS
from paredown.scan.scope import Scope


def times(scope: Scope, names: list[str], done: list[tuple[Case, dict]]) -> tuple[float | None, list, list[str]]:
    """From tables, for all cases of a method at once.

    Args:
        scope: What is scanned.
        names: Methods.
        done: Cases with their figures.
    Returns:
        (the network's milliseconds, for each case those that it saves, what must be said of them).
    """
    unknown: list[float | None] = [None] * len(done)
    if not scope.latency:
        return None, unknown, ["Latency was not looked at."]
    try:
        whole_ms = _kept(scope, "network", [], lambda: predict_latency(scope.model, input_shape=scope.input_shape).ms)
    except ParedownError as error:
        return None, unknown, [f"Latency is not known: {error}"]
    saved: dict[int, float | None] = {}
    notes = []
    for name in names:
        mine = [number for number, (case, _) in enumerate(done) if case.method == name]
        if METHODS[name].untimed and mine:
            notes.append(f"Latency of {name} is not known: {METHODS[name].untimed}.")
        mores = [done[number][1]["more"] for number in mine]
        try:
            found = _kept(scope, name, mores, lambda name=name, mores=mores: METHODS[name].times(scope, mores))
        except ParedownError as error:
            found = [None] * len(mine)
            notes.append(f"Latency of {name} is not known: {error}")
        saved |= dict(zip(mine, found, strict=True))
    return whole_ms, [saved[number] for number in range(len(done))], notes


def _kept(scope: Scope, name: str, mores: list[dict], measure: Any) -> Any:
    """Times that were measured before, or are now."""
    if name != "network" and not mores:
        return []
    key = next_key(scope.key, "latency", {"of": name, "cases": mores})
    found = scope.kept.get(key)
    if found is None:
        with task(f"Time {name}", total=None):
            found = measure()
        scope.kept.keep(key, found)
    return found
