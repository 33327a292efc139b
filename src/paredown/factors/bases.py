"""Nested bases: the first factors of a layer for every rank at once, the last factor by least squares.

The factors before the last take the rows x to x A; the last one is the B with which A B comes nearest to the wanted
matrix. Columns of A are in the order of their worth, so that a lower rank is a part of a higher one, its error follows
from the same decomposition, and errors never rise with the rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg
from sklearn.utils.extmath import randomized_svd

from paredown.factors.problem import Problem

#: Above so many outputs a low rank is found by random projections (Halko et al. 2011, arXiv:0909.4061).
_LARGE = 1024


@dataclass(frozen=True, eq=False)
class Basis:
    """What the factors before the last can give.

    Args:
        problem: The layer's.
        columns: A, shape (n, m), in the order of rank.
        each: Columns that one more rank adds.
        orthonormal: A' G A is known to be the identity, as it is without data for columns from `whitened_basis`.
    """

    problem: Problem
    columns: np.ndarray
    each: int = 1
    orthonormal: bool = False

    @cached_property
    def _lengths(self) -> np.ndarray:
        lengths = np.sqrt(np.einsum("nm,nm->m", self.columns, self.problem.times(self.columns)))
        return np.where(lengths > 1e-12 * max(lengths.max(), 1e-300), lengths, np.inf)

    @cached_property
    def _triangle(self) -> np.ndarray:
        """L with L L' = A' G A, columns of unit length."""
        scaled = self.columns / self._lengths
        inner = scaled.T @ self.problem.times(scaled)
        # Columns that others explain are left with next to nothing; a column of length zero is its own.
        inner[np.diag_indices_from(inner)] = np.diag(inner) * (1 + 1e-10) + 1e-10 * ~np.isfinite(self._lengths)
        return np.linalg.cholesky(inner)

    @cached_property
    def explained(self) -> np.ndarray:
        """L^-1 A' G W, shape (m, o): the squares of row k are what column k takes from the error."""
        weighted = self.problem.times(self.problem.wanted)
        if self.orthonormal:
            return self.columns.T @ weighted
        scaled = self.columns / self._lengths
        return scipy.linalg.solve_triangular(self._triangle, scaled.T @ weighted, lower=True)

    def losses(self, ranks: Sequence[Any]) -> np.ndarray:
        """What is lost beyond what no K avoids, for each rank."""
        taken = np.append(0.0, np.cumsum(np.square(self.explained).sum(1)))
        return np.maximum(0, self.problem.total - taken[np.asarray(ranks, dtype=int) * self.each])

    def last(self, rank: int, kept: np.ndarray | None = None) -> np.ndarray:
        """B for a rank, shape (rank · each, o); `kept` stands in for `explained`."""
        m = rank * self.each
        explained = self.explained[:m] if kept is None else kept
        if self.orthonormal:
            return explained
        solved = scipy.linalg.solve_triangular(self._triangle[:m, :m].T, explained, lower=False)
        return solved / self._lengths[:m, None]

    def first(self, rank: int) -> np.ndarray:
        """A for a rank, shape (n, rank · each)."""
        return self.columns[:, : rank * self.each]


def whitened_basis(matrix: np.ndarray, gram: np.ndarray | None, most: int) -> np.ndarray:
    """The directions, in order, in which the columns of a matrix are best given, shape (rows, most or fewer).

    Args:
        matrix: Shape (rows, columns).
        gram: Second moments of what the rows multiply, shape (rows, rows); None: the identity.
        most: Directions that are needed at most.
    Source:
        With L L' = G, the left singular vectors U of L' W are those of the outputs; L'^-1 U spans the same in W.
    """
    if gram is None:
        return left_singular(matrix, most)
    triangle = np.linalg.cholesky(gram)
    return scipy.linalg.solve_triangular(triangle.T, left_singular(triangle.T @ matrix, most), lower=False)


def left_singular(matrix: np.ndarray, most: int) -> np.ndarray:
    """The left singular vectors of the `most` largest singular values."""
    if min(matrix.shape) > _LARGE and most < min(matrix.shape) // 4:
        return randomized_svd(matrix, most, random_state=0)[0]
    if matrix.shape[1] < matrix.shape[0]:
        return np.linalg.svd(matrix, full_matrices=False)[0][:, :most]
    return largest_eigenvectors(matrix @ matrix.T, min(most, min(matrix.shape)))


def largest_eigenvectors(symmetric: np.ndarray, most: int) -> np.ndarray:
    """Eigenvectors of the `most` largest eigenvalues, the largest first."""
    size = len(symmetric)
    # Single precision is enough for directions, and a large matrix takes half the time.
    symmetric = symmetric.astype("float32") if size > _LARGE else symmetric
    _, vectors = scipy.linalg.eigh(symmetric, subset_by_index=(size - min(most, size), size - 1))
    return vectors[:, ::-1]
