"""Lloyd's iteration on a line, where parts are intervals: a step takes k searches, however many values there are."""

import numpy as np

from paredown.sharing.points import Points

#: The iteration may creep for long over many values; what is left to gain by then is next to nothing.
MOST_STEPS = 1000


def lloyd(points: Points, centroids: np.ndarray) -> np.ndarray:
    """Moves centroids to the means of what is nearest to them until nothing changes, or `MOST_STEPS` times.

    Args:
        points: The values.
        centroids: Where to start, shape (k,). One that nothing is nearest to stays where it is.
    Returns:
        Edges of the parts, rising from 0 to n, shape (k + 1,).
    Source:
        Lloyd 1982, IEEE Transactions on Information Theory 28(2), section II.
    """
    centroids = np.sort(centroids)
    edges = points.edges(centroids)
    for _ in range(MOST_STEPS):
        means = points.centroids(edges)
        centroids = np.sort(np.where(np.isnan(means), centroids, means))
        before, edges = edges, points.edges(centroids)
        if np.array_equal(before, edges):
            break
    return edges


def linear(points: Points, k: int) -> np.ndarray:
    """Edges by Lloyd from centroids evenly spaced between the least and the largest value.

    Source:
        Han et al. 2016, arXiv:1510.00149, section 3.2 (the start that keeps large weights best).
    """
    return lloyd(points, np.linspace(points.x[0], points.x[-1], k))


def density(points: Points, k: int) -> np.ndarray:
    """Edges by Lloyd from quantiles: each of the k centroids stands for the same weight at the start.

    Source:
        Han et al. 2016, arXiv:1510.00149, section 3.2.
    """
    mass = np.cumsum(points.weights)
    wanted = (np.arange(k) + 0.5) / k * mass[-1]
    return lloyd(points, points.x[np.searchsorted(mass, wanted)])
