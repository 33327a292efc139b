"""A codebook: the few values that many weights share, and how many bits that takes."""

from typing import Any

import numpy as np

from paredown.sharing.methods import METHODS
from paredown.sharing.points import Points, nearest

#: Bits that an index may take.
WIDTHS = (1, 2, 3, 4, 5, 6, 8)
#: Bits of a value in a codebook, and of a weight that is not shared.
VALUE_BITS = 32


def shared(values: np.ndarray, k: int, method: str = "optimal", weights: Any = None, keep_zeros: bool = False):
    """The values with each replaced by one of k that they share.

    Args:
        values: Any shape, finite.
        k: At least 1; at least 2 with `keep_zeros`.
        method: A row of `METHODS`.
        weights: What the square of each value's change counts, the shape of `values`, at least 0; None: all the same.
        keep_zeros: What is zero stays zero; zero is one of the k where it occurs, and the others share the rest.
    Returns:
        The same shape and type.
    """
    if keep_zeros and (zero := values == 0).any():
        result = np.zeros_like(values)
        if not zero.all():
            result[~zero] = shared(values[~zero], k - 1, method, None if weights is None else weights[~zero])
        return result
    if different(values) <= k:
        return values.copy()
    points = Points.of(values, weights)
    centroids = points.centroids(METHODS[method](points, k))
    centroids = centroids[~np.isnan(centroids)] + points.middle
    return centroids[nearest(values, centroids)].astype(values.dtype)


def error(before: np.ndarray, after: np.ndarray, weights: Any = None) -> float:
    """Σ h·(before - after)², with h = 1 without weights."""
    square = np.square(before.astype("float64") - after)
    return float((square if weights is None else weights * square).sum())


def spread(values: np.ndarray, weights: Any = None) -> float:
    """Σ h·(value - mean)², the mean weighted by h: what one shared value would lose."""
    values = values.astype("float64")
    usable = weights is not None and np.any(weights)
    return error(values, np.full(values.shape, np.average(values, weights=weights if usable else None)), weights)


def index_bits(k: int) -> int:
    """The narrowest width of an index of k values."""
    return next(width for width in WIDTHS if 2**width >= k)


def total_bits(count: int, k: int, codebooks: int = 1) -> int:
    """What so many weights take: their indices and the values of their codebooks."""
    return count * index_bits(k) + codebooks * k * VALUE_BITS


def different(values: np.ndarray) -> int:
    """How many different values there are."""
    return len(np.unique(values))
