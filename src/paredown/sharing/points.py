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
        middle: What was subtracted from the values.
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
        values = np.asarray(values, "float64").ravel()
        weights = np.ones(values.shape) if weights is None else np.asarray(weights, "float64").ravel()
        _check(values, weights)
        if not weights.any():
            weights = np.ones(values.shape)
        if not weights.all():
            values, weights = values[weights > 0], weights[weights > 0]
        order = np.argsort(values, kind="stable")
        values, weights = values[order], weights[order]
        starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
        summed = np.add.reduceat(weights, starts)
        middle = float(np.average(values, weights=weights))
        return Points(values[starts] - middle, summed, middle)

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def sums(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """S0, S1 and S2, shape (n + 1,) each; summed with what precision there is, since costs are differences."""
        powers = self.weights, self.weights * self.x, self.weights * np.square(self.x)
        return tuple(np.concatenate([[0.0], np.cumsum(p, dtype=np.longdouble)]).astype("float64") for p in powers)  # type: ignore

    def centroids(self, edges: np.ndarray) -> np.ndarray:
        """Means of the parts between edges.

        Args:
            edges: Rising positions from 0 to n, shape (parts + 1,).
        Returns:
            Shape (parts,), around 0; not a number where a part is empty.
        """
        mass, first, _ = (np.diff(total[edges]) for total in self.sums)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = first / mass
        # Rounding must not carry a mean out of its part.
        inside = np.diff(edges) > 0
        low, high = self.x[np.minimum(edges[:-1], len(self) - 1)], self.x[edges[1:] - 1]
        return np.where(inside, np.clip(means, low, high), np.nan)

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


def _check(values: np.ndarray, weights: np.ndarray) -> None:
    if not values.size:
        raise SettingError("k-means needs a value. Received: none (sharing). Leave empty weights alone.")
    if weights.shape != values.shape:
        raise SettingError(
            f"There must be one weight per value. Received: {weights.size} weights, {values.size} values (sharing)."
        )
    wrong = values[~np.isfinite(values)], weights[~(np.isfinite(weights) & (weights >= 0))]
    for what, found in zip(("values must be finite", "weights must be finite and at least 0"), wrong, strict=True):
        if found.size:
            raise SettingError(f"{what}. Received: {found[0]} (sharing).")
