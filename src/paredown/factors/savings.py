"""What factorizing could save at most, layer by layer, without data: for `paredown profile --factors`."""

from dataclasses import asdict, dataclass
from typing import Any

from paredown.factors.kinds import FACTORIZATIONS
from paredown.factors.options import Candidate
from paredown.factors.problem import Problem
from paredown.network import Call, Network
from paredown.patches import LinearLayer
from paredown.profiling import Shapes
from paredown.progress import task

#: The kinds that are looked at: their factors come in closed form.
KINDS = ("svd", "spatial", "tucker", "depthwise")


@dataclass(frozen=True)
class Saving:
    """What the best kind could save in one layer.

    Args:
        layer: Path.
        macs: MACs of the layer now.
        kind: Row of `FACTORIZATIONS`; None: no rank that keeps the energy is cheaper.
        rank: The smallest that keeps the energy.
        bound: Ranks up to this are cheaper than the layer.
        saved: MACs that it saves.
        why: Why it saves nothing, where it does not.
    """

    layer: str
    macs: int
    kind: str | None
    rank: int | None
    bound: int
    saved: int
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def possible_savings(model: Any, energy: float = 0.95, input_shape: tuple[int, ...] | None = None) -> list[Saving]:
    """For each layer with a kernel what factorizing could save, were losing 1 - `energy` of its kernel free.

    Fitted to data, a layer usually bears a lower rank than its kernel alone says.

    Args:
        model: A built Functional or Sequential model.
        energy: Share of the kernel's sum of squares to keep, in (0, 1].
        input_shape: As for `profile`.
    Returns:
        One entry per layer, in the order of the network; a shared layer's MACs are those of all its calls.
    """
    network = Network(model)
    shapes, found = Shapes(network, input_shape), {}
    calls: dict[str, list[Call]] = {}
    for call in network.all_calls():
        if any(len(w.shape) > 1 for w in getattr(call.operation, "weights", [])):
            calls.setdefault(call.path, []).append(call)
    with task("Possible savings", total=len(calls)) as advance:
        for path, of_layer in calls.items():
            read = [shapes.of(call.inputs[0]) for call in of_layer]
            found[path] = _saving(path, of_layer[0].operation, read, energy)
            advance(1)
    return list(found.values())


def _saving(path: str, layer: Any, shapes: list[tuple[int, ...]], energy: float) -> Saving:
    reasons = {kind: FACTORIZATIONS[kind].why_not(layer) for kind in KINDS}
    kinds = [kind for kind, reason in reasons.items() if reason is None]
    if not kinds:
        return Saving(path, 0, None, None, 0, 0, f"it {reasons['svd']}")
    problem = Problem.plain(LinearLayer(layer))
    candidate = Candidate(path, problem, shapes, layer.use_bias, lambda piece: piece.macs, kinds)
    own = int(candidate.own_cost)
    options = [
        candidate.option(kind, rank) for kind in kinds if (rank := candidate.reaching(kind, 1 - energy)) is not None
    ]
    if not options:
        bound = max(candidate.bound(kind) for kind in kinds)
        return Saving(path, own, None, None, bound, 0, f"no cheaper rank keeps {energy:.0%} of the kernel")
    best = min(options, key=lambda option: option.cost)
    return Saving(path, own, best.kind, best.rank, candidate.bound(best.kind), own - int(best.cost))
