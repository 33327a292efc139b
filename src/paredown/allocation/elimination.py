"""The cheapest choice of levels where every price is for one level or for a pair: groups eliminated one by one.

    min over x of  Σ_g single_g[x_g] + Σ_gh pair_gh[x_g, x_h]

A group is taken out by minimizing what it touches over its own levels, which leaves a table over its neighbours
(dynamic programming; Bertelè & Brioschi 1972). Networks are chains and stars of groups, so that these tables stay
small; where every layer reads all earlier ones (DenseNet) they do not, and `order` says so.
"""

from collections.abc import Sequence

import numpy as np

from paredown.allocation.problem import LevelCosts

#: Entries of the largest table that elimination may make.
_LARGEST = 1_000_000


def order(sizes: Sequence[int], pairs: Sequence[tuple[int, int]], last: int | None = None) -> list[int] | None:
    """The groups in an order of elimination with small tables; None where a table would be too large.

    Args:
        sizes: Levels of each group.
        pairs: The groups that share a price.
        last: A group that must come last.
    """
    near: dict[int, set[int]] = {g: set() for g in range(len(sizes))}
    for g, h in pairs:
        near[g].add(h)
        near[h].add(g)

    def entries(g: int) -> float:
        return sizes[g] * float(np.prod([sizes[h] for h in near[g]], dtype="float64"))

    result = []
    left = set(near)
    while left:
        g = min(left - {last} or left, key=entries)
        if entries(g) > _LARGEST:
            return None
        for h in near[g]:
            near[h] |= near[g] - {h}
            near[h].discard(g)
        left.discard(g)
        result.append(g)
    return result


def cheapest(prices: LevelCosts, sequence: Sequence[int]) -> np.ndarray:
    """The choice with the least sum of prices, shape (groups,); `sequence` from `order`."""
    steps, _ = _eliminated(prices, sequence)
    choice = np.zeros(len(prices.single), int)
    for g, scope, table in reversed(steps):
        choice[g] = int(np.argmin(table[(slice(None), *choice[list(scope)])]))
    return choice


def least_with(prices: LevelCosts, sequence: Sequence[int]) -> np.ndarray:
    """For each level of the last group of `sequence` the least sum of prices with it, shape (levels,)."""
    steps, constant = _eliminated(prices, sequence)
    return steps[-1][2] + constant


def _eliminated(prices: LevelCosts, sequence: Sequence[int]) -> tuple[list, float]:
    """Per group its number, its neighbours then, and the table over its levels and theirs; and what is paid anyway.

    The last group's table holds all that groups connected to it cost; other parts of the network are in the constant.
    """
    factors: list[tuple[tuple[int, ...], np.ndarray]] = [((g,), cost) for g, cost in enumerate(prices.single)]
    factors += list(prices.pairs.items())
    steps, constant = [], prices.fixed
    for g in sequence:
        mine = [factor for factor in factors if g in factor[0]]
        factors = [factor for factor in factors if g not in factor[0]]
        scope = sorted({h for groups, _ in mine for h in groups} - {g})
        table = sum(_spread(cost, groups, (g, *scope)) for groups, cost in mine)
        assert isinstance(table, np.ndarray)  # Every group has a price of its own.
        steps.append((g, scope, table))
        if scope:
            factors.append((tuple(scope), table.min(0)))
        elif g != sequence[-1]:
            constant += float(table.min())
    return steps, constant


def _spread(cost: np.ndarray, groups: tuple[int, ...], onto: tuple[int, ...]) -> np.ndarray:
    """A table over `groups` with an axis for each of `onto`, 1 long where it does not depend on it."""
    by = np.argsort([onto.index(g) for g in groups])
    sizes = dict(zip(groups, cost.shape, strict=True))
    return cost.transpose(by).reshape([sizes.get(g, 1) for g in onto])
