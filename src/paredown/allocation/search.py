"""Good choices of levels, fast and without a proof: descent for a price of the cost, and exchanges at a fixed limit."""

from collections.abc import Sequence

import numpy as np

from paredown.allocation.problem import LevelCosts, total_loss


def _beside(costs: LevelCosts) -> list[list[tuple[int, np.ndarray]]]:
    """Per group its neighbours and the table of costs, shape (own levels, the neighbour's levels)."""
    near: list[list[tuple[int, np.ndarray]]] = [[] for _ in costs.single]
    for (g, h), table in costs.pairs.items():
        near[g].append((h, table))
        near[h].append((g, table.T))
    return near


def descent(prices: LevelCosts, start: np.ndarray, sweeps: int = 50) -> np.ndarray:
    """Sets each group to its cheapest level in turn, the others as they are, until nothing changes."""
    near, choice = _beside(prices), start.copy()
    for _ in range(sweeps):
        before = choice.copy()
        for g, own in enumerate(prices.single):
            here = own + sum(table[:, choice[h]] for h, table in near[g])
            if here.min() < here[choice[g]]:
                choice[g] = int(here.argmin())
        if np.array_equal(before, choice):
            break
    return choice


def exchange(
    losses: Sequence[np.ndarray], costs: LevelCosts, limit: float, start: np.ndarray, moves: int = 500
) -> np.ndarray:
    """Changes one or two groups at a time as long as the loss falls and the cost stays within the limit.

    Args:
        losses: Per group, shape (levels,).
        start: A choice within the limit, shape (groups,).
    Returns:
        A choice within the limit, of no larger loss, shape (groups,).
    """
    near, choice = _beside(costs), start.copy()
    sizes = [loss.size for loss in losses]
    first = np.concatenate([[0], np.cumsum(sizes)])
    group, level = np.repeat(np.arange(len(sizes)), sizes), np.concatenate([np.arange(size) for size in sizes])
    for _ in range(moves):
        less = np.concatenate([loss - loss[x] for loss, x in zip(losses, choice, strict=True)])
        alone = [own + sum(table[:, choice[h]] for h, table in near[g]) for g, own in enumerate(costs.single)]
        more = np.concatenate([cost - cost[x] for cost, x in zip(alone, choice, strict=True)])
        both = more[:, None] + more[None, :]
        for (g, h), table in costs.pairs.items():
            x, y = choice[g], choice[h]
            rows, columns = slice(first[g], first[g + 1]), slice(first[h], first[h + 1])
            cross = table - table[:, [y]] - table[[x], :] + table[x, y]
            both[rows, columns] += cross
            both[columns, rows] += cross.T
        gain = less[:, None] + less[None, :]
        # A group cannot change twice; a change to its own level is none, so that single changes are among the pairs.
        allowed = (both <= limit - costs.of(choice)) & (group[:, None] != group[None, :])
        gain[~allowed] = np.inf
        a, b = np.unravel_index(int(gain.argmin()), gain.shape)
        after = choice.copy()
        after[group[a]], after[group[b]] = level[a], level[b]
        # Sums of floats are not to the last digit; the limit and the progress are.
        if not gain[a, b] < 0 or costs.of(after) > limit or total_loss(losses, after) >= total_loss(losses, choice):
            break
        choice = after
    return choice
