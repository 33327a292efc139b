"""The ranks of Factorize: what each layer becomes, by a rule for one layer or by a budget of the whole network.

To add a rule: a function and a row in `RULES`, and a field of the same name.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from paredown.allocation import LevelCosts, allocate
from paredown.errors import SettingError
from paredown.factors import Candidate, Option, evbmf_rank, sizes
from paredown.factors.kinds import unfoldings

#: A rule gives the kinds at the ranks it wants, or the reason why there are none.
Wanted = list[tuple[str, Any]] | str


def _by_rank(candidate: Candidate, rank: Any) -> Wanted:
    wanted = []
    for kind in candidate.kinds:
        if isinstance(rank, tuple | list):
            if kind == "tucker":
                _, inputs, outputs = sizes(candidate.problem)
                pair = min(rank[0], inputs), min(rank[1], outputs)
                wanted += [(kind, pair)] if candidate.cost(kind, pair) < candidate.own_cost else []
        elif rank <= candidate.bound(kind):
            wanted.append((kind, rank))
    if isinstance(rank, tuple | list):
        does = (
            f"ranks {tuple(rank)} are not cheaper" if "tucker" in candidate.kinds else "a pair of ranks is for 'tucker'"
        )
        return wanted or does
    return wanted or f"rank {rank} is not cheaper: it would have to be at most {_bounds(candidate)}"


def _by_energy(candidate: Candidate, energy: float) -> Wanted:
    found = {kind: candidate.reaching(kind, 1 - energy) for kind in candidate.kinds}
    wanted = [(kind, rank) for kind, rank in found.items() if rank is not None]
    return wanted or f"no rank that is cheaper keeps {energy:g} of the energy: {_bounds(candidate)}"


def _by_evbmf(candidate: Candidate, weight: Any) -> Wanted:
    wanted: list[tuple[str, Any]] = []
    for kind in candidate.kinds:
        matrices = unfoldings(kind, candidate.problem)
        ranks = tuple(evbmf_rank(matrix) for matrix in matrices)
        rank: Any = ranks if len(ranks) > 1 else min(ranks)
        if candidate.cost(kind, rank) < candidate.own_cost:
            wanted.append((kind, rank))
    return wanted or f"the rank by EVBMF is not cheaper: it would have to be at most {_bounds(candidate)}"


def _by_layer_macs(candidate: Candidate, share: float) -> Wanted:
    found = {kind: candidate.within(kind, share * candidate.own_cost) for kind in candidate.kinds}
    wanted = [(kind, rank) for kind, rank in found.items() if rank]
    return wanted or f"no rank costs {share:g} of its MACs or less"


#: Field -> (rule, whether the most accurate of the kinds is taken; else the cheapest).
RULES: dict[str, tuple[Callable[[Candidate, Any], Wanted], bool]] = {
    "rank": (_by_rank, True),
    "energy": (_by_energy, False),
    "evbmf": (_by_evbmf, False),
    "layer_macs": (_by_layer_macs, True),
}


def by_rule(candidate: Candidate, rule: str, value: Any) -> Option | str:
    """What one layer becomes by a rule, or why it stays as it is."""
    if all(candidate.bound(kind) == 0 for kind in candidate.kinds):
        return "no rank makes it cheaper"
    function, accurate = RULES[rule]
    wanted = function(candidate, value)
    if isinstance(wanted, str):
        return wanted
    options = [candidate.option(kind, rank) for kind, rank in wanted]
    return min(options, key=lambda option: (option.loss, option.cost) if accurate else (option.cost, option.loss))


def by_budget(
    candidates: Sequence[Candidate], losses: Sequence[Callable[[Option], float]], rest: float, limit: float
) -> tuple[list[Option | str], float]:
    """What each layer becomes so that the whole network costs at most `limit`, with the least sum of losses.

    Args:
        candidates: The layers that may be factorized.
        losses: For each what an option loses in the unit that is summed.
        rest: What the rest of the network costs.
        limit: In the unit of the candidates' prices.
    Returns:
        Per candidate its option, or why it stays; and the proven gap to the least sum.
    Raises:
        SettingError: If the limit cannot be met.
    """
    tables = [candidate.options() for candidate in candidates]
    least = rest + sum(min([c.own_cost, *(o.cost for o in t)]) for c, t in zip(candidates, tables, strict=True))
    if least > limit:
        raise SettingError(
            f"The budget must be one that can be reached. Received: {limit:.4g}; the cheapest factors cost {least:.4g} "
            "(Factorize). Give a larger budget, allow more kinds, or exclude fewer layers."
        )
    costs = LevelCosts.nothing([len(options) + 1 for options in tables])
    costs.add((), rest)
    lost, levels = [], []
    for number, (candidate, options) in enumerate(zip(candidates, tables, strict=True)):
        # The last level is the layer as it is.
        costs.add((number,), np.array([*(option.cost for option in options), candidate.own_cost]))
        lost.append(np.array([*(losses[number](option) for option in options), 0.0]))
        levels.append(np.arange(len(options) + 1))
    found = allocate(levels, lost, costs, limit)
    chosen: list[Option | str] = []
    for options, level in zip(tables, found.widths, strict=True):
        stays = "the budget is met without it" if options else "no rank makes it cheaper"
        chosen.append(options[level] if level < len(options) else stays)
    return chosen, found.gap


def _bounds(candidate: Candidate) -> str:
    return ", ".join(f"{candidate.bound(kind)} ({kind})" for kind in candidate.kinds)
