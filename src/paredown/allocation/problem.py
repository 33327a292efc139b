"""What is shared out: levels of width for every group, with a loss each, and costs of pairs of levels.

A choice is one level per group, x_g. Its loss is Σ_g loss_g[x_g]; its cost is

    fixed + Σ_g single_g[x_g] + Σ_(g,h) pair_gh[x_g, x_h]

Nothing here knows networks, channels or what a cost stands for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class LevelCosts:
    """The cost of every level and of every pair of levels.

    Args:
        fixed: What is paid whatever is chosen.
        single: Per group the cost of its levels, shape (levels of g,).
        pairs: (g, h) with g < h -> shape (levels of g, levels of h).
        exact: Whether this is the cost itself; False where a term of more than two groups was linearized.
    """

    fixed: float
    single: list[np.ndarray]
    pairs: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    exact: bool = True

    @staticmethod
    def nothing(sizes: Sequence[int]) -> "LevelCosts":
        """No costs yet, for groups with so many levels."""
        return LevelCosts(0.0, [np.zeros(size) for size in sizes])

    def add(self, groups: tuple[int, ...], cost: np.ndarray | float) -> None:
        """Adds a cost of the levels of no, one or two different groups, shape (levels, …)."""
        if len(groups) == 0:
            self.fixed += float(cost)
        elif len(groups) == 1:
            self.single[groups[0]] = self.single[groups[0]] + cost
        else:
            first, second = groups
            table = np.asarray(cost) if first < second else np.asarray(cost).T
            key = (min(groups), max(groups))
            self.pairs[key] = self.pairs.get(key, 0) + table

    def of(self, choice: np.ndarray) -> float:
        """The cost of one level per group, shape (groups,)."""
        alone = sum(float(cost[level]) for cost, level in zip(self.single, choice, strict=True))
        return self.fixed + alone + sum(float(table[choice[g], choice[h]]) for (g, h), table in self.pairs.items())

    def restricted(self, levels: Sequence[np.ndarray]) -> "LevelCosts":
        """The same for some levels of each group only."""
        single = [cost[rows] for cost, rows in zip(self.single, levels, strict=True)]
        pairs = {(g, h): table[np.ix_(levels[g], levels[h])] for (g, h), table in self.pairs.items()}
        return LevelCosts(self.fixed, single, pairs, self.exact)

    def scaled(self, factor: float) -> "LevelCosts":
        """All costs times a factor."""
        pairs = {key: factor * table for key, table in self.pairs.items()}
        return LevelCosts(factor * self.fixed, [factor * cost for cost in self.single], pairs, self.exact)


@dataclass(frozen=True, eq=False)
class Allocation:
    """Widths for all groups.

    Args:
        widths: Shape (groups,).
        loss: Sum of the groups' losses at these widths.
        cost: In the unit of the limit.
        gap: (loss - bound) / |loss|: no widths within the limit lose less than `loss * (1 - gap)`. 0: the optimum.
            1: nothing was proven.
    """

    widths: np.ndarray
    loss: float
    cost: float
    gap: float


def total_loss(losses: Sequence[np.ndarray], choice: np.ndarray) -> float:
    """The loss of one level per group."""
    return float(sum(loss[level] for loss, level in zip(losses, choice, strict=True)))
