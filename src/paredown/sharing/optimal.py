"""1-D k-means solved to its optimum, fast for millions of values: coarse bins rule out where no edge can be.

1. Some partition is found by the dynamic programme over coarse bins, and Lloyd's iteration; its loss is U.
2. Values are put into bins, and edges may lie anywhere in a bin. A part's cost is at least that with the values of its
   outermost bins moved to their inner ends. So moved, it is a minimum over the centroid of functions that are linear in
   how much of a bin falls to it, hence concave, and the least sum over all splits of all bins has whole bins. The
   dynamic programme with these costs (they fulfil the quadrangle inequality, too) from both ends gives the least loss
   of all partitions whose j-th edge is near a given bin. Where it is above U, the j-th edge of the optimum is not.
3. With finer bins within what is left, the bound closes in by the square of their width. In the end the dynamic
   programme runs over the values themselves, within the windows that are left.

Nothing is lost on the way: the result is the optimum over all partitions, up to the rounding of 64-bit sums.
"""

import numpy as np

from paredown.sharing.lloyd import lloyd
from paredown.sharing.points import Points
from paredown.sharing.segments import Segments, forward, path

#: Bins of the first partition, at least; and bins to each of its parts in the first bound.
_BINS, _PER_PART = 512, 8
#: How many times finer the next bins are.
_FINER = 4
#: What rounding may have added to a bound, as a share of U and of the whole sum of squares.
_ROUNDING = 1e-9, 1e-12


def optimal(points: Points, k: int) -> np.ndarray:
    """The partition of the values into at most k parts with the least loss.

    Args:
        points: The values.
        k: At least 1.
    Returns:
        Edges of the parts, rising from 0 to n, shape (min(k, n) + 1,).
    Source:
        Dynamic programme: Wang & Song 2011, The R Journal 3(2), section 2; order of the best origins: Grønlund et al.
        2017, arXiv:1701.07204, section 2. The windows are this module's own.
    """
    n = len(points)
    if k >= n:
        return np.arange(n + 1)
    low, high = _free(k, n)
    if n > 2 * max(_BINS, _PER_PART * k):
        low, high = _windows(points, k)
    _, origins = forward(_exact(points, np.arange(n + 1)), low, high)
    return path(origins, low)


def _free(k: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows of all edges where nothing is known."""
    low, high = np.zeros(k + 1, int), np.full(k + 1, n)
    low[-1], high[0] = n, 0
    return low, high


def _windows(points: Points, k: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last position of each of the k + 1 edges of the optimum."""
    n = len(points)
    edges, (low, high) = _some(points, k), _free(k, n)
    per_part = max(_PER_PART, 2 * _BINS // k)
    # Bins pay as long as they are fewer than the values in the windows.
    while 2 * k * per_part < n:
        at = _bins(points, edges, per_part)
        edges, low, high = _narrowed(points, at, edges, low, high)
        per_part *= _FINER
    return low, high


def _some(points: Points, k: int) -> np.ndarray:
    """A good partition, as the dynamic programme finds it among edges of bins."""
    bins = max(_BINS, _PER_PART * k // 2)
    values = np.searchsorted(points.x, np.linspace(points.x[0], points.x[-1], bins // 2)[1:-1])
    counts = np.linspace(0, len(points), bins // 2).astype(int)
    at = np.union1d(values, counts)
    low, high = _free(k, len(at) - 1)
    _, origins = forward(_exact(points, at), low, high)
    return _improved(points, at[path(origins, low)])


def _improved(points: Points, edges: np.ndarray) -> np.ndarray:
    centroids = points.centroids(edges)
    return lloyd(points, centroids[~np.isnan(centroids)])


def _bins(points: Points, edges: np.ndarray, per_part: int) -> np.ndarray:
    """Positions of edges of bins: each part is cut into so many of equal width."""
    edges = np.unique(edges)
    first, last = points.x[edges[:-1]], points.x[edges[1:] - 1]
    cuts = first + np.linspace(0, 1, per_part, endpoint=False)[:, None] * (last - first)
    return np.union1d(np.searchsorted(points.x, cuts.ravel()), edges)


def _exact(points: Points, at: np.ndarray) -> Segments:
    """Costs of parts that end at given positions."""
    mass, first, second = (total[at] for total in points.sums)
    return Segments(mass, (first, first), (second, second))


def _bounding(points: Points, at: np.ndarray) -> Segments:
    """Least costs of parts that begin and end anywhere in their outermost bins."""
    sums = [total[at] for total in points.sums]
    mass = np.diff(sums[0])
    inner_end = points.x[at[1:] - 1], points.x[at[:-1]]
    pairs = []
    for power in (1, 2):
        total, own = sums[power], np.diff(sums[power])
        begins, ends = (mass * end**power - own for end in inner_end)
        pairs.append((total - np.append(begins, 0.0), total + np.append(0.0, ends)))
    return Segments(sums[0], pairs[0], pairs[1], free=1)


def _narrowed(
    points: Points, at: np.ndarray, edges: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(a partition at least as good as `edges`, windows of positions without what loses more than it)."""
    segments, last = _bounding(points, at), len(at) - 1
    first, final = np.searchsorted(at, low, "right") - 1, np.searchsorted(at, high, "left")
    before, origins = forward(segments, first, final)
    after, _ = forward(segments.mirrored(), last - final[::-1], last - first[::-1])
    # What the bound is reached by is a good partition, too.
    edges = min((edges, _improved(points, at[path(origins, first)])), key=points.loss)
    most = points.loss(edges) * (1 + _ROUNDING[0]) + _ROUNDING[1] * points.loss(np.array([0, len(points)]))
    low, high = low.copy(), high.copy()
    for j in range(1, len(low) - 1):
        possible = np.flatnonzero(before[j] + after[-1 - j][::-1] <= most)
        # The edge itself lies in one of the two bins beside a whole-bin edge that is possible.
        low[j] = max(low[j], at[max(0, first[j] + possible[0] - 1)])
        high[j] = min(high[j], at[min(last, first[j] + possible[-1] + 1)])
    return edges, np.maximum.accumulate(low), np.minimum.accumulate(high[::-1])[::-1]
