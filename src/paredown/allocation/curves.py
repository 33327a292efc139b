"""Loss curves from scores, and the channels that stay from widths."""

from collections.abc import Sequence

import numpy as np

from paredown.allocation.costs import AdditiveCost
from paredown.allocation.problem import Allocation
from paredown.allocation.solver import allocate
from paredown.errors import SettingError

#: Candidate widths of a group, beside those before a stair of the cost.
_LEVELS = 16


def levels(
    size: int, round_to: int = 1, least: int = 1, must: int = 0, extra: Sequence[int] = (), count: int = _LEVELS
) -> np.ndarray:
    """Candidate widths of a group, from the smallest allowed to all of it.

    Args:
        size: Channels of the group.
        round_to: Widths are multiples of this; all channels together are always a width.
        least: Smallest width, rounded up to a multiple.
        must: Channels that have to stay.
        extra: Widths to have among them where the other rules allow it.
        count: About how many, evenly spread.
    Returns:
        Shape (levels,), rising.
    """
    smallest = min(size, -(-max(least, must, 1) // round_to) * round_to)
    possible = np.unique(np.append(np.arange(smallest, size, round_to), size))
    spread = possible[np.unique(np.linspace(0, possible.size - 1, min(possible.size, count)).round().astype(int))]
    return np.union1d(spread, np.intersect1d(possible, np.asarray(extra, int)))


def curves_from_scores(
    scores: np.ndarray, groups: Sequence[np.ndarray], widths: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """What is lost with the best w channels of each group: the sum of the other channels' scores.

    Exact for a criterion whose scores add up (Taylor, Fisher); for others a ranking made comparable.

    Args:
        scores: Shape (count,), higher = keep; infinite: stays.
        groups: Components of each group.
        widths: Candidate widths of each group, shape (levels,).
    Returns:
        One array per group, shape (levels,), in the unit of the scores; infinite where a channel would go that stays.
    """
    curves = []
    for members, candidates in zip(groups, widths, strict=True):
        lost = np.concatenate([[0.0], np.cumsum(np.sort(scores[members]))])
        curves.append(lost[len(members) - candidates])
    return curves


def keep_best(scores: np.ndarray, groups: Sequence[np.ndarray], widths: Sequence[int]) -> np.ndarray:
    """Keeps the channels of the highest scores of each group; among equal scores the first go.

    Returns:
        Boolean, shape (count,), True where the channel stays; always True outside the groups.
    """
    keep = np.ones(len(scores), bool)
    for members, width in zip(groups, widths, strict=True):
        worst_first = members[np.argsort(scores[members], kind="stable")]
        keep[worst_first[: len(members) - width]] = False
    return keep


def keep_optimal(
    scores: np.ndarray,
    groups: Sequence[np.ndarray],
    cost: AdditiveCost,
    limit: float,
    round_to: int = 1,
    least: int = 1,
) -> np.ndarray:
    """Removes the channels of the least sum of scores with which the cost is at most `limit`.

    Arguments and result as for `budget.keep_within`; a group's width is one of `levels`.

    Raises:
        SettingError: If no widths are within the limit.
    """
    stays = [int(np.isinf(scores[members]).sum()) for members in groups]
    steps = cost.steps(len(scores), groups)
    widths = [
        levels(len(members), round_to, least, must, extra)
        for members, must, extra in zip(groups, stays, steps, strict=True)
    ]
    found = allocate_within(scores.size, groups, widths, curves_from_scores(scores, groups, widths), cost, limit)
    return keep_best(scores, groups, found.widths)


def allocate_within(
    count: int,
    groups: Sequence[np.ndarray],
    widths: Sequence[np.ndarray],
    losses: Sequence[np.ndarray],
    cost: AdditiveCost,
    limit: float,
    seconds: float = 20.0,
) -> Allocation:
    """`allocate` under the cost itself, also where its prices have to be linearized.

    Such prices are linearized again around each solution; a solution over the limit lowers the limit by what it is
    over. The gap then holds for the linearized cost.

    Args:
        count: Number of components.
        groups: Components of each group.
        widths, losses, limit, seconds: As for `allocate`.
        cost: The cost.
    Raises:
        SettingError: If no widths are found within the limit.
    """
    around, aim, best = None, limit, None
    for _ in range(6):
        costs = cost.by_levels(count, groups, widths, around)
        try:
            found = allocate(widths, losses, costs, aim, seconds)
        except SettingError:
            if best is None:
                raise
            break
        if costs.exact:
            return found
        around = found.widths
        paid = cost.by_levels(count, groups, [np.array([w]) for w in around], around).of(np.zeros(len(groups), int))
        if paid <= limit and (best is None or found.loss < best.loss):
            best = Allocation(found.widths, found.loss, paid, found.gap)
        aim += min(0.0, limit - paid)
    if best is None:
        raise SettingError(
            f"The budget must be one that can be reached. Received: {limit:.4g}; no widths within it were found with "
            "this latency table, whose layers read several groups of channels. Give a larger budget."
        )
    return best
