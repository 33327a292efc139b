"""The dynamic programme of 1-D k-means: the least cost of j parts that end at an edge, for all edges at once.

    F_j(b) = min over a ≤ b of F_(j-1)(a) + C(a, b)

C fulfils the quadrangle inequality C(a, b) + C(a', b') ≤ C(a', b) + C(a, b') for a ≤ a' ≤ b ≤ b', so that the leftmost
best a rises with b, and a row's best lies between those of rows that are known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Rows between two that are known are found in so many steps at once: fewer and larger operations.
_FAN = 8


@dataclass(frozen=True, eq=False)
class Segments:
    """Costs of parts from edge a to edge b: second - first² / mass, with each a difference of b's sum and a's.

    Args:
        mass: S0, shape (edges,).
        first, second: Pairs of S1 and of S2, for where parts begin and for where they end.
        free: Parts of so many bins cost nothing.
    """

    mass: np.ndarray
    first: tuple[np.ndarray, np.ndarray]
    second: tuple[np.ndarray, np.ndarray]
    free: int = 0

    def cost(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        mass = self.mass[b] - self.mass[a]
        first = self.first[1][b] - self.first[0][a]
        cost = self.second[1][b] - self.second[0][a]
        np.square(first, out=first)
        # What weighs next to nothing may have no mass beside what weighs much; nor have parts without values.
        np.divide(first, mass, out=first, where=mass > 0)
        cost -= first
        np.maximum(cost, 0, out=cost)
        cost[b - a <= self.free] = 0
        return cost

    def mirrored(self) -> "Segments":
        """The same parts, counted from the other end."""
        turned = [(-end[::-1], -start[::-1]) for start, end in (self.first, self.second)]
        return Segments(-self.mass[::-1], turned[0], turned[1], self.free)


def forward(segments: Segments, low: np.ndarray, high: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """F_j at the edges where the j-th part may end.

    Args:
        segments: The costs.
        low, high: First and last such edge, both rising, shape (k + 1,); the first pair is (0, 0).
    Returns:
        (F_j, the a that it is best reached from), one array over the edges low[j] .. high[j] for each j > 0; F_0 too.
    """
    costs, origins = [np.zeros(1)], [np.zeros(1, int)]
    for j in range(1, len(low)):
        cost, origin = _row_minima(segments, costs[-1], int(low[j - 1]), int(low[j]), int(high[j]))
        costs.append(cost)
        origins.append(origin)
    return costs, origins


def path(origins: Sequence[np.ndarray], low: np.ndarray) -> np.ndarray:
    """The best edges, from the first to the last, shape (k + 1,)."""
    edges = [int(low[-1])]
    for j in range(len(low) - 1, 0, -1):
        edges.append(int(origins[j][edges[-1] - low[j]]))
    return np.array(edges[::-1])


def _row_minima(segments: Segments, before: np.ndarray, start: int, low: int, high: int):
    """Minimum and leftmost best a for each row b = low .. high; `before` is over a = start, start + 1, …."""
    count = high - low + 1
    best, origin = np.empty(count), np.empty(count, int)
    step = 1
    while step < count:
        step *= _FAN
    known = None
    while step:
        rows = np.arange(0, count, step)
        if known is not None:
            rows = rows[rows % known != 0]
        if rows.size:
            least = np.full(rows.size, start)
            most = np.minimum(low + rows, start + before.size - 1)
            if known is not None:
                least = origin[rows // known * known]
                after = (rows // known + 1) * known
                inside = after < count
                most[inside] = np.minimum(most[inside], origin[after[inside]])
            best[rows], origin[rows] = _ragged(segments, before, start, low + rows, least, most)
        known, step = step, step // _FAN
    return best, origin


def _ragged(segments: Segments, before: np.ndarray, start: int, b: np.ndarray, least: np.ndarray, most: np.ndarray):
    """For each b the least of F(a) + C(a, b) over a = least .. most, and the first a that gives it."""
    # Where two are as good up to rounding, the order of the origins may be broken.
    sizes = np.maximum(most, least) - least + 1
    ends = np.cumsum(sizes)
    starts = ends - sizes
    a = np.arange(ends[-1]) + np.repeat(least - starts, sizes)
    total = segments.cost(a, np.repeat(b, sizes))
    total += before[a - start]
    best = np.minimum.reduceat(total, starts)
    found = np.flatnonzero(total == np.repeat(best, sizes))
    return best, a[found[np.searchsorted(found, starts)]]
