"""Widths for all groups of channels at once, under one limit: the least loss that the limit allows.

1. For a price λ of the cost, the choice that minimizes loss + λ·cost is found exactly by elimination. The best λ
   gives a bound (Lagrangian duality: no choice within the limit has a smaller loss) and a choice near it.
2. Exchanges of one or two groups' levels improve that choice.
3. A level with which even the bound is above the best loss known cannot be in the optimum, and is left out.
4. What remains open is a mixed-integer programme, small by then (`exact`).

Where elimination would need too large tables, 1 is a descent without a bound and the programme alone proves.
"""

import math
import time
from collections.abc import Sequence

import numpy as np

from paredown.allocation.elimination import cheapest, least_with, order
from paredown.allocation.exact import solve
from paredown.allocation.problem import Allocation, LevelCosts, total_loss
from paredown.allocation.search import descent, exchange
from paredown.errors import SettingError

#: Variables of the largest programme that covers all levels; above this only levels near the best choice are tried.
_LARGEST = 40_000


def allocate(
    widths: Sequence[np.ndarray],
    losses: Sequence[np.ndarray],
    costs: LevelCosts,
    limit: float,
    seconds: float = 20.0,
    gap: float = 1e-4,
) -> Allocation:
    """Chooses one width per group: the least sum of losses with a cost of at most `limit`.

    Args:
        widths: Per group its candidate widths, shape (levels of g,).
        losses: Per group the loss at each of them, shape (levels of g,); infinite: the width is not allowed.
        costs: In any unit; need not rise with the widths.
        limit: In the unit of `costs`.
        seconds: About how long the mixed-integer programme may take.
        gap: Relative gap that is good enough.
    Returns:
        The widths, with the gap that was proven.
    Raises:
        SettingError: If no choice is within the limit.
    """
    if not widths:
        if costs.fixed > limit:
            raise _out_of_reach(limit, costs.fixed)
        return Allocation(np.zeros(0, int), 0.0, costs.fixed, 0.0)
    allowed = [np.flatnonzero(np.isfinite(loss)) for loss in losses]
    problem = _Problem(
        [loss[rows] for loss, rows in zip(losses, allowed, strict=True)], costs.restricted(allowed), limit
    )
    choice, bound = problem.solved(seconds, gap)
    levels = np.array([rows[x] for rows, x in zip(allowed, choice, strict=True)])
    loss = total_loss(losses, levels)
    missing = max(0.0, loss - problem.shift - bound)
    proven = 0.0 if missing <= 1e-12 * max(1.0, abs(loss)) else min(1.0, missing / max(abs(loss), 1e-300))
    return Allocation(np.array([w[x] for w, x in zip(widths, levels, strict=True)]), loss, costs.of(levels), proven)


class _Problem:
    """Losses moved to a least of zero per group, costs as they are."""

    def __init__(self, losses: Sequence[np.ndarray], costs: LevelCosts, limit: float):
        self.shift = float(sum(loss.min() for loss in losses))
        self.losses = [loss - loss.min() for loss in losses]
        self.costs, self.limit = costs, limit
        self.order = order([loss.size for loss in losses], list(costs.pairs))
        self.price = 0.0

    def solved(self, seconds: float, gap: float) -> tuple[np.ndarray, float]:
        """A choice within the limit, and a bound of the loss."""
        until = time.monotonic() + seconds
        best, bound = self._by_prices()
        if best is None:
            found = solve(self._over(1.0), *self._normalized(self.limit), math.inf, seconds, 1.0)
            if found.choice is None or self.costs.of(found.choice) > self.limit:
                raise _out_of_reach(self.limit, self.costs.of(self._priced(1.0, 0.0, None)))
            best = found.choice
        best = exchange(self.losses, self.costs, self.limit, best)
        if self._loss(best) - bound > gap * abs(self._loss(best) + self.shift):
            best, bound = self._by_programme(best, bound, until, gap)
        return best, bound

    def _loss(self, choice: np.ndarray) -> float:
        return total_loss(self.losses, choice)

    def _priced(self, cost: float, loss: float, start: np.ndarray | None) -> np.ndarray:
        """The choice that minimizes cost·costs + loss·losses; without an order of elimination a good one."""
        prices = self._prices(cost, loss)
        if self.order is not None:
            return cheapest(prices, self.order)
        starts = [np.zeros(len(self.losses), int), np.array([x.size - 1 for x in self.losses])]
        found = [descent(prices, s) for s in [*starts, *([] if start is None else [start])]]
        return min(found, key=prices.of)

    def _prices(self, cost: float, loss: float) -> LevelCosts:
        prices = self.costs.scaled(cost)
        prices.single = [own + loss * lost for own, lost in zip(prices.single, self.losses, strict=True)]
        return prices

    def _by_prices(self) -> tuple[np.ndarray | None, float]:
        """The best choice within the limit met on the way to the best price, and the bound there."""
        dear, cheap = self._priced(0.0, 1.0, None), self._priced(1.0, 0.0, None)
        if self.costs.of(cheap) > self.limit:
            if self.order is not None:
                raise _out_of_reach(self.limit, self.costs.of(cheap))
            return None, 0.0
        if self.costs.of(dear) <= self.limit:
            return dear, 0.0
        # The bound is concave and made of lines; the price where two of them cross is the next to try.
        for _ in range(100):
            fall = self.costs.of(dear) - self.costs.of(cheap)
            self.price = max(0.0, (self._loss(cheap) - self._loss(dear)) / fall)
            new = self._priced(self.price, 1.0, cheap)
            reached = self._loss(cheap) + self.price * self.costs.of(cheap)
            if self._loss(new) + self.price * self.costs.of(new) >= reached - 1e-12 * abs(reached):
                break
            if self.costs.of(new) <= self.limit:
                cheap = new
            else:
                dear = new
        return cheap, self._bound(new)

    def _bound(self, priced: np.ndarray) -> float:
        """Lagrangian bound at the present price, where `priced` is its proven minimum."""
        if self.order is None:
            return 0.0
        return max(0.0, self._loss(priced) + self.price * (self.costs.of(priced) - self.limit))

    def _by_programme(self, best: np.ndarray, bound: float, until: float, gap: float) -> tuple[np.ndarray, float]:
        levels = self._possible(self._loss(best))
        costs = self.costs.restricted(levels)
        whole = sum(table.size for table in costs.pairs.values()) <= _LARGEST
        if not whole:
            levels = [rows[abs(rows - x) <= 1] for rows, x in zip(levels, best, strict=True)]
        loss = self._loss(best)
        aim = loss - gap * abs(loss + self.shift)
        # Only what is better by more than the gap is looked for: finding nothing proves the gap.
        for tightened in (0.0, 2e-6):
            found = self._programme(levels, loss, aim, tightened, until, gap)
            if tightened == 0.0 and whole:
                bound = max(bound, min(aim, found.bound * loss))
            if found.choice is None:
                break
            choice = np.array([rows[x] for rows, x in zip(levels, found.choice, strict=True)])
            # The solver keeps the limit to about 1e-6; here it is kept to the last digit.
            if self.costs.of(choice) <= self.limit:
                best = choice if self._loss(choice) < loss else best
                break
        return exchange(self.losses, self.costs, self.limit, best), bound

    def _programme(self, levels: list, loss: float, aim: float, tightened: float, until: float, gap: float):
        lost = [self.losses[g][rows] / loss for g, rows in enumerate(levels)]
        costs, limit = self._normalized(self.limit, levels)
        return solve(lost, costs, limit - tightened, aim / loss, until - time.monotonic(), gap)

    def _normalized(self, limit: float, levels: list | None = None) -> tuple[LevelCosts, float]:
        costs = self.costs if levels is None else self.costs.restricted(levels)
        scale = 1 / max(abs(limit), 1e-300)
        return costs.scaled(scale), limit * scale

    def _over(self, scale: float) -> list[np.ndarray]:
        return [loss / scale for loss in self.losses]

    def _possible(self, best: float) -> list[np.ndarray]:
        """Per group the levels that a choice with a smaller loss than `best` can have."""
        every = [np.arange(loss.size) for loss in self.losses]
        if self.order is None:
            return [rows[loss <= best] for rows, loss in zip(every, self.losses, strict=True)]
        prices, sizes = self._prices(self.price, 1.0), [rows.size for rows in every]
        result = []
        for g, rows in enumerate(every):
            sequence = order(sizes, list(self.costs.pairs), last=g)
            if sequence is None:
                result.append(rows)
                continue
            bounds = least_with(prices, sequence) - self.price * self.limit
            result.append(rows[bounds <= best * (1 + 1e-9) + 1e-12])
        return result


def _out_of_reach(limit: float, least: float) -> SettingError:
    return SettingError(
        f"The budget must be one that can be reached. Received: {limit:.4g}; the cheapest widths allowed cost "
        f"{least:.4g}. Give a larger budget, exclude fewer layers, or lower min_channels and round_to."
    )
