"""Loss curves from scores, and the channels that stay from widths."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paredown.allocation.costs import AdditiveCost
from paredown.allocation.problem import Allocation, LevelCosts, total_loss
from paredown.allocation.solver import allocate
from paredown.errors import SettingError

#: Candidate widths of a group, beside those before a stair of the cost.
_LEVELS = 16
#: Rounds of finer widths, and the seconds that the programme may take in each.
_REFINEMENTS, _SECONDS = 6, 5.0
#: How often prices are linearized.
_ROUNDS = 5


def levels(
    size: int,
    round_to: int = 1,
    least: int = 1,
    must: int = 0,
    extra: Sequence[int] | np.ndarray = (),
    count: int = _LEVELS,
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


def keep_best(scores: np.ndarray, groups: Sequence[np.ndarray], widths: Sequence[int] | np.ndarray) -> np.ndarray:
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
    losses: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """Removes the channels of the least sum of scores (or losses) with which the cost is at most `limit`.

    Other arguments and result as for `budget.keep_within`. Widths are first taken from `levels`, then from finer ones
    around the solution, until the loss falls no more.

    Args:
        losses: Per group what is lost with 0, 1, … of its worst channels gone, shape (size + 1,); None: the sum of
            their scores.
    Raises:
        SettingError: If no widths are within the limit.
    """
    everything = np.ones(len(scores), bool)
    if cost(everything) <= limit:
        return everything
    stays = [int(np.isinf(scores[members]).sum()) for members in groups]
    steps = cost.steps(len(scores), groups)
    every = [
        levels(len(members), round_to, least, must, extra, count=len(members))
        for members, must, extra in zip(groups, stays, steps, strict=True)
    ]
    widths = [levels(len(m), round_to, least, must, x) for m, must, x in zip(groups, stays, steps, strict=True)]
    best = None
    for _ in range(_REFINEMENTS):
        if losses is None:
            curves = curves_from_scores(scores, groups, widths)
        else:
            curves = [lost[len(m) - w] for lost, m, w in zip(losses, groups, widths, strict=True)]
        found = allocate_within(len(scores), groups, widths, curves, cost, limit, _SECONDS)
        if best is not None and found.loss >= best.loss:
            break
        best = found
        # Coarse widths can be worse than a plain ranking; around the solution all are tried in the end.
        widths = [_finer(w, all_of, width) for w, all_of, width in zip(widths, every, found.widths, strict=True)]
    assert best is not None  # The first round found widths, or raised.
    return keep_best(scores, groups, best.widths)


def _finer(widths: np.ndarray, every: np.ndarray, chosen: int) -> np.ndarray:
    """About as many candidates as before, between the neighbours of the chosen one, which is among them."""
    at = int(np.flatnonzero(widths == chosen)[0])
    low, high = widths[max(0, at - 2)], widths[min(len(widths) - 1, at + 2)]
    between = every[(every >= low) & (every <= high)]
    spread = between[np.unique(np.linspace(0, between.size - 1, min(between.size, _LEVELS)).round().astype(int))]
    return np.union1d(spread, [chosen])


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

    Such prices are linearized again around each solution, and single groups are widened at the end. What is handed
    out keeps to the limit by the true cost; the gap is that of the linearized one.

    Args:
        count: Number of components.
        groups: Components of each group.
        widths, losses, limit, seconds: As for `allocate`.
        cost: The cost.
    Raises:
        SettingError: If no widths are found within the limit.
    """
    costs = cost.by_levels(count, groups, widths)
    if costs.exact:
        return allocate(widths, losses, costs, limit, seconds)
    return _by_linearization(_TrueCost(count, groups, cost, limit), widths, losses, costs, seconds)


@dataclass(frozen=True, eq=False)
class _TrueCost:
    """The cost of widths as it is, where the cost of levels is only near it."""

    count: int
    groups: Sequence[np.ndarray]
    cost: AdditiveCost
    limit: float

    def of(self, widths: np.ndarray) -> float:
        """What one width per group costs: a linearization is exact where it is made."""
        alone = [np.array([width]) for width in widths]
        return self.near(alone, widths).of(np.zeros(len(widths), int))

    def near(self, widths: Sequence[np.ndarray], around: np.ndarray) -> LevelCosts:
        return self.cost.by_levels(self.count, self.groups, widths, around)


def _by_linearization(
    true: _TrueCost, widths: Sequence[np.ndarray], losses: Sequence[np.ndarray], costs: LevelCosts, seconds: float
) -> Allocation:
    """Solves, linearizes there, solves again; then widens one group at a time as long as the true cost allows."""
    narrowest = np.array([w[np.isfinite(loss)].min() for w, loss in zip(widths, losses, strict=True)])
    best = _priced(narrowest, 1.0, true, widths, losses)
    aim = true.limit
    for _ in range(_ROUNDS):
        try:
            solved = allocate(widths, losses, costs, aim, seconds / _ROUNDS)
        except SettingError:
            break
        found = _priced(solved.widths, solved.gap, true, widths, losses)
        if found.cost <= true.limit and (best.cost > true.limit or found.loss < best.loss):
            best = found
        # What the linearization missed is taken off the next limit.
        aim = true.limit - max(0.0, found.cost - solved.cost)
        costs = true.near(widths, found.widths)
    if best.cost > true.limit:
        raise SettingError(
            f"The budget must be one that can be reached. Received: {true.limit:.4g}; no widths within it were found, "
            f"the narrowest cost {best.cost:.4g}. Give a larger budget, or exclude fewer layers."
        )
    return _widened(best, true, widths, losses)


def _widened(best: Allocation, true: _TrueCost, widths: Sequence, losses: Sequence) -> Allocation:
    """The same with single groups at other widths, as long as the loss falls and the true cost is within the limit."""
    improved = True
    while improved:
        improved = False
        for g, candidates in enumerate(widths):
            for width in candidates:
                changed = best.widths.copy()
                changed[g] = width
                found = _priced(changed, best.gap, true, widths, losses)
                if found.loss < best.loss and found.cost <= true.limit:
                    best, improved = found, True
    return best


def _priced(chosen: np.ndarray, gap: float, true: _TrueCost, widths: Sequence, losses: Sequence) -> Allocation:
    levels_of = [int(np.flatnonzero(w == width)[0]) for w, width in zip(widths, chosen, strict=True)]
    return Allocation(chosen, total_loss(losses, np.array(levels_of)), true.of(chosen), gap)
