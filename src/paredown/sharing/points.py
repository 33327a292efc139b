"""Numbers on a line, sorted, with weights: what 1-D k-means works on.

With prefix sums S0, S1, S2 of w, w·x and w·x² the cost of putting the sorted values a to b-1 on one centroid is

    C(a, b) = S2[b] - S2[a] - (S1[b] - S1[a])² / (S0[b] - S0[a])
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from paredown.errors import SettingError


@dataclass(frozen=True, eq=False)
class Points:
    """Distinct values in rising order, around 0.

    Args:
        x: Shape (n,), float64.
        weights: What each counts, shape (n,), above 0; a value that occurs twice counts twice.
        middle: What was subtracted from the values: their median.
    """

    x: np.ndarray
    weights: np.ndarray
    middle: float

    @staticmethod
    def of(values: Any, weights: Any = None) -> "Points":
        """Any numbers as points.

        Args:
            values: Any shape.
            weights: The same shape, at least 0; None: all count 1. Values of weight 0 are left out, unless all are.
        Raises:
            SettingError: If a number is not finite, a weight negative, or there are no values.
        """
        values = np.asarray(values).ravel()
        weights = None if weights is None else np.asarray(weights, "float64").ravel()
        _check(values, weights)
        x, weights = _distinct(values, weights if weights is not None and weights.any() else None)
        mass = np.cumsum(weights)
        middle = float(x[np.searchsorted(mass, mass[-1] / 2)])
        return Points(x - middle, weights, middle)

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def sums(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """S0, S1 and S2, shape (n + 1,) each, up to a constant, since only differences count.

        They start from 0 at the middle, outwards, so that far values do not blur the differences of near ones.
        """
        middle = np.searchsorted(self.x, 0)
        powers = self.weights, self.weights * self.x, self.weights * np.square(self.x)
        return tuple(_outwards(power, middle) for power in powers)  # type: ignore

    def centroids(self, edges: np.ndarray) -> np.ndarray:
        """Means of the parts between edges.

        Args:
            edges: Rising positions from 0 to n, shape (parts + 1,).
        Returns:
            Shape (parts,), around 0; not a number where a part is empty.
        """
        mass, first, _ = (np.diff(total[edges]) for total in self.sums)
        low, high = self.x[np.minimum(edges[:-1], len(self) - 1)], self.x[edges[1:] - 1]
        # What weighs next to nothing may have no mass beside what weighs much.
        means = np.divide(first, mass, out=low.copy(), where=mass > 0)
        # Rounding must not carry a mean out of its part.
        return np.where(np.diff(edges) > 0, np.clip(means, low, high), np.nan)

    def edges(self, centroids: np.ndarray) -> np.ndarray:
        """Where one centroid's values end and the next one's begin; the middle between two counts to the lower."""
        between = (centroids[1:] + centroids[:-1]) / 2
        return np.concatenate([[0], np.searchsorted(self.x, between, "right"), [len(self)]])

    def loss(self, edges: np.ndarray) -> float:
        """Σ w·(x - centroid)² of the parts between edges."""
        filled = edges[np.concatenate([[True], np.diff(edges) > 0])]
        each = np.repeat(self.centroids(filled), np.diff(filled))
        return float((self.weights * np.square(self.x - each)).sum())


def nearest(values: Any, centroids: np.ndarray) -> np.ndarray:
    """The number of the nearest centroid (rising, shape (k,)) for every value; the lower of two as near."""
    return np.searchsorted((centroids[1:] + centroids[:-1]) / 2, np.asarray(values, "float64"), "left")


def _outwards(numbers: np.ndarray, middle: int) -> np.ndarray:
    """Sums up to each position, shape (n + 1,), 0 at the middle; with what precision there is while they are summed."""
    below = np.cumsum(numbers[:middle][::-1], dtype=np.longdouble)[::-1]
    above = np.cumsum(numbers[middle:], dtype=np.longdouble)
    return np.concatenate([-below, [0.0], above]).astype("float64")


def _distinct(values: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(distinct values that weigh something, rising, float64; the weight of each)."""
    if weights is None:
        x, mass = np.unique(values, return_counts=True)
    else:
        x, places = np.unique(values[weights > 0], return_inverse=True)
        mass = np.bincount(places, weights[weights > 0])
    return x.astype("float64"), mass.astype("float64")


def _check(values: np.ndarray, weights: np.ndarray | None) -> None:
    if not values.size:
        raise SettingError("k-means needs a value. Received: none (sharing). Leave empty weights alone.")
    _require(values, np.isfinite(values), "values must be finite")
    if weights is None:
        return
    if weights.shape != values.shape:
        raise SettingError(
            f"There must be one weight per value. Received: {weights.size} weights, {values.size} values (sharing)."
        )
    _require(weights, np.isfinite(weights) & (weights >= 0), "weights must be finite and at least 0")


def _require(numbers: np.ndarray, hold: np.ndarray, rule: str) -> None:
    if not hold.all():
        raise SettingError(f"{rule}. Received: {numbers[~hold][0]} (sharing).")
