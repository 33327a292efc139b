"""A kernel as a sum of products of a vector per mode (CP, canonical polyadic decomposition).

    K[d, s, t]  ≈  Σ_r places[d, r] · channels[s, r] · outputs[t, r]

Alternating least squares: two modes held, the third has a closed form. The last mode is left to `Basis`.
"""

import numpy as np
import scipy.linalg

#: Rounds of alternating least squares, and the share of the error that a round must still gain.
_ROUNDS, _GAIN = 60, 1e-4


def cp_basis(kernel: np.ndarray, gram: np.ndarray | None, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and channels of `rank` products.

    Args:
        kernel: Shape (D², S, T).
        gram: Second moments of the rows, shape (D²·S, D²·S); their sum over places weighs the channels. None: all
            weigh alike.
    Returns:
        Shapes (D², rank) and (S, rank).
    Source:
        Lebedev et al. 2015, arXiv:1412.6553, section 3; Kolda & Bader 2009, figure 3.3.
    """
    area, inputs, _ = kernel.shape
    triangle = None
    if gram is not None:
        triangle = np.linalg.cholesky(np.einsum("dsdt->st", gram.reshape(area, inputs, area, inputs)))
        kernel = np.einsum("sc,dst->dct", triangle, kernel)
    places, channels, outputs = _start(kernel, rank)
    if rank < min(inputs, area * kernel.shape[2]) * min(area, kernel.shape[2]):
        places, channels = _alternate(kernel, places, channels, outputs)
    if triangle is not None:
        channels = scipy.linalg.solve_triangular(triangle.T, channels, lower=False)
    return places, channels


def _start(kernel: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The products of the largest weight among those of nested singular value decompositions; all of them are exact."""
    area, inputs, outputs = kernel.shape
    left, values, right = np.linalg.svd(kernel.swapaxes(0, 1).reshape(inputs, -1), full_matrices=False)
    inner_left, inner_values, inner_right = np.linalg.svd(right.reshape(-1, area, outputs), full_matrices=False)
    weights = values[:, None] * inner_values
    order = np.argsort(-weights.ravel(), kind="stable")[:rank]
    outer, inner = np.unravel_index(order, weights.shape)
    return inner_left[outer, :, inner].T, left[:, outer], (inner_right[outer, inner] * weights[outer, inner][:, None]).T


def _alternate(
    kernel: np.ndarray, places: np.ndarray, channels: np.ndarray, outputs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Places and channels after rounds of alternating least squares, columns of unit length."""
    whole, before = float(np.square(kernel).sum()), np.inf
    for _ in range(_ROUNDS):
        channels = _solved(np.einsum("dst,dr,tr->sr", kernel, places, outputs, optimize=True), places, outputs)
        channels = channels / _lengths(channels)
        places = _solved(np.einsum("dst,sr,tr->dr", kernel, channels, outputs, optimize=True), channels, outputs)
        places = places / _lengths(places)
        seen = np.einsum("dst,dr,sr->tr", kernel, places, channels, optimize=True)
        outputs = _solved(seen, places, channels)
        inner = (places.T @ places) * (channels.T @ channels) * (outputs.T @ outputs)
        error = whole - 2 * float((seen * outputs).sum()) + float(inner.sum())
        if before - error <= _GAIN * max(error, 1e-12 * whole):
            break
        before = error
    return places, channels


def _solved(seen: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The mode that the kernel `seen` through the two others calls for."""
    inner = (first.T @ first) * (second.T @ second)
    # A product that has become zero, as all are of a kernel of zeros, stays zero.
    diagonal = np.diag(inner)
    inner[np.diag_indices_from(inner)] = diagonal * (1 + 1e-9) + 1e-12 * (diagonal.max() or 1)
    return scipy.linalg.solve(inner, seen.T, assume_a="pos").T


def _lengths(columns: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(columns, axis=0)
    return np.where(lengths > 0, lengths, 1)
