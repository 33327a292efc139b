"""Scores and a budget -> which channels stay.

Nothing here knows networks: channels are numbers, groups are arrays of them, a cost is a function of what stays.
"""

from collections.abc import Callable, Sequence

import numpy as np

from paredown.errors import SettingError

Cost = Callable[[np.ndarray], float]

#: Removed shares that are tried before halving.
_SHARES = 65


def keep_share(
    scores: np.ndarray, groups: Sequence[np.ndarray], removed: float, scope: str, round_to: int = 1, least: int = 1
) -> np.ndarray:
    """Keeps all but the lowest `removed` share of channels.

    Args:
        scores: Shape (count,), higher = keep; only those of group members are looked at. Infinite: stays.
        groups: Arrays of channel numbers.
        removed: Share of channels to remove, in [0, 1); rounded down to whole channels.
        scope: `"layer"`: the share of each group; `"global"`: the share of all, ranked together.
        round_to: How many of a group stay is rounded up to a multiple of this.
        least: As many of each group stay at least.
    Returns:
        Boolean, shape (count,), True where the channel stays; always True outside the groups.
    """
    keep = np.ones(len(scores), bool)
    if scope == "layer":
        quotas = [group.size - int(removed * group.size + 1e-9) for group in groups]
    else:
        members = np.concatenate([np.zeros(0, int), *groups])
        order = members[np.argsort(scores[members], kind="stable")]
        lowest = np.zeros(len(scores), bool)
        lowest[order[: int(removed * members.size + 1e-9)]] = True
        quotas = [int((~lowest[group]).sum()) for group in groups]
    for group, quota in zip(groups, quotas, strict=True):
        quota = min(group.size, max(quota, least))
        quota = min(group.size, -(-quota // round_to) * round_to)
        worst_first = group[np.argsort(scores[group], kind="stable")]
        gone = worst_first[: group.size - quota]
        keep[gone[np.isfinite(scores[gone])]] = False
    return keep


def keep_above(
    scores: np.ndarray, groups: Sequence[np.ndarray], threshold: float, round_to: int = 1, least: int = 1
) -> np.ndarray:
    """Removes the channels whose score is at or below `threshold`; arguments as for `keep_share`."""
    keep = np.ones(len(scores), bool)
    for group in groups:
        share = (scores[group] <= threshold).sum() / group.size
        keep &= keep_share(scores, [group], share, "layer", round_to, least)
    return keep


def keep_within(
    scores: np.ndarray,
    groups: Sequence[np.ndarray],
    cost: Cost,
    limit: float,
    scope: str,
    round_to: int = 1,
    least: int = 1,
) -> np.ndarray:
    """Removes the smallest share of channels with which the cost is at most `limit`.

    Args:
        cost: `cost(keep)`; where it rises when more is removed, the share found is the smallest up to 1/64.
        limit: In the unit of `cost`.
    Raises:
        SettingError: If the cost stays above the limit with everything removed that may go.
    """

    def at(removed: float) -> np.ndarray:
        return keep_share(scores, groups, removed, scope, round_to, least)

    # A measured cost may rise where less is left, so that halving alone could miss a share that fits.
    shares = np.linspace(0, 1, _SHARES)
    first = next((i for i, share in enumerate(shares) if cost(at(share)) <= limit), None)
    if first is None:
        least_cost = min(cost(at(share)) for share in shares)
        raise SettingError(
            f"The budget must be one that can be reached. Received: {limit:.4g}; with every channel gone that may go "
            f"(at least {least} of each layer stays, in multiples of {round_to}) it is {least_cost:.4g}. "
            "Give a larger budget, or exclude fewer layers."
        )
    if first == 0:
        return at(0.0)
    # The cost is a staircase in the removed share; 40 halvings reach past the finest step.
    low, high = shares[first - 1], shares[first]
    for _ in range(40):
        middle = (low + high) / 2
        if cost(at(middle)) <= limit:
            high = middle
        else:
            low = middle
    return at(high)
