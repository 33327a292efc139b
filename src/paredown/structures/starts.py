"""Where weights of structures start from that no factorization gives: grouped convolutions, and two for one of 5×5.

Both end in a last kernel by least squares on what the layer reads (`Basis`).
"""

import numpy as np
import scipy.linalg

from paredown.factors import Problem, sizes
from paredown.factors.bases import Basis, whitened_basis

#: Rounds of alternating least squares, the share of the error that a round must gain, and what counts as none.
_ROUNDS, _GAIN, _EXACT = 200, 3e-3, 1e-14
#: How many of the 3×3 places of two kernels meet in each place of their 5×5, along one axis.
_MEET = np.array([1, 2, 3, 2, 1])
_PLACES = tuple(np.ndindex(3, 3))


def grouped_start(problem: Problem, width: int, groups: int) -> list[np.ndarray]:
    """A grouped convolution, and the 1×1 that mixes: the best directions of each group by itself, then least squares
    over all.

    Args:
        problem: The layer's.
        width: Channels between, a multiple of `groups`.
    Returns:
        Kernels as Keras holds them: (h, w, S/groups, width) and (1, 1, width, T).
    """
    window, inputs, outputs = sizes(problem)
    area, own, each = int(np.prod(window)), inputs // groups, width // groups
    wanted = problem.wanted.reshape(area, groups, own, outputs)
    blocks = None if problem.gram is None else problem.gram.reshape(area, groups, own, area, groups, own)
    columns = np.zeros((area, groups, own, groups, each))
    for g in range(groups):
        gram = None if blocks is None else blocks[:, g, :, :, g].reshape(area * own, area * own)
        directions = whitened_basis(wanted[:, g].reshape(area * own, outputs), gram, each)
        columns[:, g, :, g, : directions.shape[1]] = directions.reshape(area, own, -1)
    first = np.stack([columns[:, g, :, g] for g in range(groups)], 2).reshape(*window, own, width)
    last = Basis(problem, columns.reshape(area * inputs, width)).last(width)
    return [first, last.reshape(1, 1, width, outputs)]


def stacked_start(problem: Problem, width: int) -> list[np.ndarray]:
    """Two 3×3 for one 5×5: alternating least squares on the kernel, its input channels weighed by their second moments;
    then the second by least squares on what the layer reads.

    Args:
        problem: The layer's.
        width: Channels between.
    Returns:
        Kernels (3, 3, S, width) and (3, 3, width, T).
    """
    _, inputs, outputs = sizes(problem)
    kernel, triangle = problem.wanted.reshape(5, 5, inputs, outputs), None
    if problem.gram is not None:
        triangle = np.linalg.cholesky(np.einsum("dsdt->st", problem.gram.reshape(25, inputs, 25, inputs)))
        kernel = np.einsum("sc,hwst->hwct", triangle, kernel)
    first = _alternate(kernel, width)
    if triangle is not None:
        first = np.einsum("cs,hwcr->hwsr", np.linalg.inv(triangle), first)
    last = Basis(problem, _windows(first).reshape(25 * inputs, 9 * width)).last(9 * width)
    return [first, last.reshape(3, 3, width, outputs)]


def _alternate(kernel: np.ndarray, width: int) -> np.ndarray:
    """The first kernel after rounds of alternating least squares."""
    first, before, whole = _start(kernel, width), np.inf, float(np.square(kernel).sum())
    for _ in range(_ROUNDS):
        last, _ = _second(kernel, first)
        # The first of a chain is the second of the chain read backwards.
        turned, error = _second(kernel.swapaxes(2, 3), last.swapaxes(2, 3))
        first = turned.swapaxes(2, 3)
        if before - error <= _GAIN * error or error <= _EXACT * whole:
            break
        before = error
    return first


def _start(kernel: np.ndarray, width: int) -> np.ndarray:
    """The first kernel of the best products over all pairs of places, each 5×5 place shared out among its pairs."""
    inputs, outputs = kernel.shape[2:]
    shared = kernel / np.outer(_MEET, _MEET)[:, :, None, None]
    pairs = np.array([[shared[y + v, x + u] for v, u in _PLACES] for y, x in _PLACES])  # [9, 9, s, t]
    left, _, _ = np.linalg.svd(pairs.transpose(0, 2, 1, 3).reshape(9 * inputs, 9 * outputs), full_matrices=False)
    first = np.zeros((9 * inputs, width))
    first[:, : left.shape[1]] = left[:, :width]
    return first.reshape(3, 3, inputs, width)


def _second(kernel: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, float]:
    """The second kernel that the first calls for, and the sum of squares that is left."""
    width, outputs = first.shape[3], kernel.shape[3]
    columns, wanted = _windows(first).reshape(-1, 9 * width), kernel.reshape(-1, outputs)
    inner = columns.T @ columns
    inner[np.diag_indices_from(inner)] += 1e-12 * max(np.trace(inner), 1e-30)
    found = scipy.linalg.solve(inner, columns.T @ wanted, assume_a="pos")
    return found.reshape(3, 3, width, outputs), float(np.square(columns @ found - wanted).sum())


def _windows(first: np.ndarray) -> np.ndarray:
    """What each place of the second kernel sees of the 5×5, shape (5, 5, s, 9, r)."""
    seen = np.zeros((5, 5, first.shape[2], 9, first.shape[3]))
    for at, (y, x) in enumerate(_PLACES):
        seen[y : y + 3, x : x + 3, :, at] = first
    return seen
