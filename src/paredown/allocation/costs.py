"""Costs that add up: sums of terms, each a price for how many of two lists of channels stay.

MACs and parameters are `factor · in · out`; a measured latency is any table over (in, out), stairs included. The same
terms answer two questions: what a given choice of channels costs (`cost(keep)`, exact), and what each pair of levels
costs, for `allocate`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from paredown.allocation.problem import LevelCosts

#: Groups and how often the term counts each of their channels; -1 stands for channels that stay.
_Counts = dict[int, float]


@dataclass(frozen=True, eq=False)
class CostTerm:
    """`factor · first · second / shared`, or `price(first, second)`, where both are numbers of channels that stay.

    Args:
        path: The layer it stands for.
        factor: Cost of one pair of channels.
        first, second: Component of each channel that counts, shape (n,); a component that occurs twice counts
            twice. None: counts as 1.
        shared: Divides the product, which is a multiple of it (groups of a convolution).
        price: A cost that is no product.
        steps: With `price`: widths of `first` and of `second` worth trying, those before a stair of the price.
    """

    path: str
    factor: float = 1
    first: np.ndarray | None = None
    second: np.ndarray | None = None
    shared: int = 1
    price: Callable[[int, int], float] | None = None
    steps: tuple[Sequence[int], Sequence[int]] = ((), ())

    def at(self, first: float, second: float) -> float:
        """The cost with so many channels of each side."""
        if self.price is not None:
            return self.price(round(first), round(second))
        product = self.factor * first * second
        return product if self.shared == 1 else product / self.shared


class AdditiveCost:
    """A sum of terms.

    Args:
        terms: The terms; one layer may have several.
        fixed: What is paid whatever stays.
    """

    def __init__(self, terms: Sequence[CostTerm], fixed: float = 0):
        self.terms, self.fixed = tuple(terms), fixed

    def __call__(self, keep: np.ndarray) -> float:
        """The cost with some channels.

        Args:
            keep: Boolean, one per component, True where it stays.
        """
        return self.fixed + sum(term.at(_kept(term.first, keep), _kept(term.second, keep)) for term in self.terms)

    def by_levels(
        self, count: int, groups: Sequence[np.ndarray], widths: Sequence[np.ndarray], around: np.ndarray | None = None
    ) -> LevelCosts:
        """The cost of every level and of every pair of levels.

        Products are exact however many groups they count. A `price` of more than two groups is not: beside the last
        group of its `second` side the others move one at a time from the widths `around`, and their differences add.

        Args:
            count: Number of components.
            groups: Components of each group, shape (size,); all others stay.
            widths: Candidate widths of each group, shape (levels,).
            around: Width of each group where prices of more than two groups are linearized; None: the largest.
        """
        group_of = np.full(count, -1)
        for number, members in enumerate(groups):
            group_of[members] = number
        sizes = [len(members) for members in groups]
        here = np.array([w.max() for w in widths] if around is None else around)
        costs = LevelCosts.nothing([len(w) for w in widths])
        costs.add((), self.fixed)
        for term in self.terms:
            sides = _counts(term.first, group_of, sizes), _counts(term.second, group_of, sizes)
            (_add_product if term.price is None else _add_price)(costs, term, *sides, widths, here)
        return costs

    def steps(self, count: int, groups: Sequence[np.ndarray]) -> list[np.ndarray]:
        """For each group the widths before a stair of a price that counts no other group, shape (any,)."""
        group_of = np.full(count, -1)
        for number, members in enumerate(groups):
            group_of[members] = number
        sizes = [len(members) for members in groups]
        found: list[set[int]] = [set() for _ in groups]
        for term in self.terms:
            for side, grid in zip((term.first, term.second), term.steps, strict=True):
                counts = _counts(side, group_of, sizes)
                fixed = counts.pop(-1, 0)
                if len(counts) == 1:
                    ((group, times),) = counts.items()
                    below = {int((step - fixed) // times) for step in grid}
                    found[group] |= {width for width in below if 1 <= width <= sizes[group]}
        return [np.array(sorted(widths), int) for widths in found]


def _kept(components: np.ndarray | None, keep: np.ndarray) -> int:
    return 1 if components is None else int(keep[components].sum())


def _counts(components: np.ndarray | None, group_of: np.ndarray, sizes: Sequence[int]) -> _Counts:
    """How often each channel of a group counts; under -1 how many channels count that stay anyway."""
    if components is None:
        return {-1: 1}
    numbers, times = np.unique(group_of[components], return_counts=True)
    return {int(g): n / sizes[g] if g >= 0 else int(n) for g, n in zip(numbers, times, strict=True)}


def _add_product(costs: LevelCosts, term: CostTerm, first: _Counts, second: _Counts, widths, _) -> None:
    """(a + Σ m_g w_g) · (b + Σ n_h w_h), multiplied out."""
    for g, m in first.items():
        for h, n in second.items():
            price = term.factor * m * n / term.shared
            rows = widths[g] if g >= 0 else np.ones(1)
            columns = widths[h] if h >= 0 else np.ones(1)
            if g == h >= 0:
                costs.add((g,), price * rows**2)
            else:
                table = price * np.outer(rows, columns)
                groups = tuple(x for x in (g, h) if x >= 0)
                costs.add(groups, table.reshape([len(widths[x]) for x in groups]) if groups else float(table[0, 0]))


def _add_price(
    costs: LevelCosts, term: CostTerm, first: _Counts, second: _Counts, widths: Sequence[np.ndarray], here: np.ndarray
) -> None:
    """A table over one group or two; over more, the sum of the tables of each with the last (see `by_levels`)."""

    def at(now: dict[int, int]) -> float:
        width = {-1: 1, **dict(enumerate(here)), **now}
        left, right = (sum(n * width[g] for g, n in side.items()) for side in (first, second))
        return term.at(left, right)

    groups = [*(g for g in first if g >= 0 and g not in second), *(g for g in second if g >= 0)]
    if not groups:
        costs.add((), at({}))
        return
    last, others = groups[-1], groups[:-1]
    alone = np.array([at({last: w}) for w in widths[last]])
    costs.add((last,), alone)
    for g in others:
        table = np.array([[at({g: v, last: w}) for w in widths[last]] for v in widths[g]])
        costs.add((g, last), table - alone)
    costs.exact &= len(groups) <= 2
