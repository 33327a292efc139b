"""Optimal Brain Surgeon on one output at a time: the algebra, without any network.

An output of a layer is wᵀx. Changing w by δ changes it over the data by ½δᵀHδ in the mean, H = 2·mean(xxᵀ). With
w_B to become zero (one weight, or a block of them) and all others free, the least change is

    cost  ½·w_Bᵀ·([H⁻¹]_BB)⁻¹·w_B        δ = −H⁻¹_:B·([H⁻¹]_BB)⁻¹·w_B

and what is left of the inverse, for the weights that are still there, is

    H⁻¹ ← H⁻¹ − H⁻¹_:B·([H⁻¹]_BB)⁻¹·H⁻¹_B:

Repeated, the updates end where a least-squares fit of the surviving weights ends: w_S = H_SS⁻¹·(H·w)_S. So
`removal_costs` only chooses, in the order of the updates, and `refitted` solves for the choice once.
"""

import numpy as np
import scipy.linalg

from paredown.sparse.patterns import Pattern

#: Inputs among which the order of removal is exact, all others being free to make up; cost grows with its square.
INPUTS_TOGETHER = 128
#: Bytes of inverses that are updated at a time.
_WORKING_BYTES = 2**22
#: So much dearer than the removal before it counts one that would be cheaper: the order stays in the costs.
_ABOVE = 1 + 1e-9


def damped(hessian: np.ndarray, ridge: float) -> np.ndarray:
    """H with `ridge` times its mean diagonal added to the diagonal, so that inputs that never vary do no harm.

    Args:
        hessian: Shape (..., n, n).
    Returns:
        The same shape, float64; 1 is added where a matrix is all zero.
    """
    hessian = np.asarray(hessian, "float64")
    mean = np.trace(hessian, axis1=-2, axis2=-1)[..., None, None] / hessian.shape[-1]
    return hessian + np.where(mean > 0, ridge * mean, 1.0) * np.eye(hessian.shape[-1])


def removal_costs(weights: np.ndarray, hessian: np.ndarray, pattern: Pattern) -> np.ndarray:
    """What each weight's removal costs at the time when it is the cheapest to remove.

    Each output has its own order. A cost is always above that of an earlier removal, so that the cheapest k of an
    output are the first k that go.

    Args:
        weights: W[g, n, o].
        hessian: Shape (g, n, n), positive definite.
        pattern: Blocks are removed as one (the cost divided among their weights); of an n:m group only so many as
            must, the others cost infinity.
    Returns:
        Shape (g, n, o), mean squared output error, halved.
    Source:
        Hassibi & Stork 1993, NIPS 5, eqs. 5 and 6; rows one by one: Frantar & Alistarh 2022, arXiv:2208.11580,
        section 4; blocks of inputs: Frantar & Alistarh 2023, arXiv:2301.00774, section 3.4.
    """
    g, n, o = weights.shape
    inverse = np.linalg.inv(hessian)
    costs = np.empty((g, o, n))
    rows = weights.astype("float64").transpose(0, 2, 1)
    step = max(1, INPUTS_TOGETHER // pattern.width) * pattern.width
    for start in range(0, n, step):
        inputs = slice(start, min(start + step, n))
        size = inputs.stop - inputs.start
        at_once = max(1, _WORKING_BYTES // (8 * size * size))
        of_row = np.arange(g * o)
        for first in range(0, g * o, at_once):
            group, output = np.divmod(of_row[first : first + at_once], o)
            part = inverse[group, inputs, inputs]
            costs[group, output, inputs] = _in_order(rows[group, output, inputs].copy(), part, pattern)
    return costs.transpose(0, 2, 1)


def _in_order(weights: np.ndarray, inverse: np.ndarray, pattern: Pattern) -> np.ndarray:
    """Removes the weights of each row, cheapest first; both arrays are worked on in place.

    Args:
        weights: Shape (rows, n).
        inverse: Shape (rows, n, n).
    """
    (rows, n), block = weights.shape, pattern.block
    units = n // block
    every = np.arange(rows)
    costs = np.full((rows, units), np.inf)
    spent = np.zeros(rows)
    open_to = np.ones((rows, units), bool)
    for _ in range(_removals(pattern, units)):
        cost = np.where(open_to, _costs(weights, inverse, block), np.inf)
        unit = cost.argmin(1)
        spent = np.maximum(spent * _ABOVE, cost[every, unit])
        costs[every, unit] = spent
        _remove(weights, inverse, every, unit, block)
        open_to[every, unit] = False
        if pattern.at_most is not None:
            _close_full_groups(open_to, every, unit, pattern)
    return np.repeat(costs / block, block, axis=1)


def _removals(pattern: Pattern, units: int) -> int:
    return units if pattern.at_most is None else units // pattern.of * (pattern.of - pattern.at_most)


def _costs(weights: np.ndarray, inverse: np.ndarray, block: int) -> np.ndarray:
    """½·w_Bᵀ·([H⁻¹]_BB)⁻¹·w_B for every block, shape (rows, units)."""
    rows, n = weights.shape
    if block == 1:
        return 0.5 * np.square(weights) / np.einsum("rnn->rn", inverse)
    blocks = inverse.reshape(rows, n // block, block, n // block, block)
    pivots = np.einsum("rubuc->rubc", blocks)
    parts = weights.reshape(rows, n // block, block, 1)
    return 0.5 * (parts * np.linalg.solve(pivots, parts)).sum((2, 3))


def _remove(weights: np.ndarray, inverse: np.ndarray, every: np.ndarray, unit: np.ndarray, block: int) -> None:
    inside = unit[:, None] * block + np.arange(block)  # [rows, block]
    across = inverse[every[:, None], inside]  # [rows, block, n]
    pivots = np.take_along_axis(across, inside[:, None, :], axis=2)  # [rows, block, block]
    solved = across / pivots if block == 1 else np.linalg.solve(pivots, across)  # [rows, block, n]
    values = np.take_along_axis(weights, inside, axis=1)  # [rows, block]
    for member in range(block):
        weights -= values[:, member, None] * solved[:, member]
        inverse -= across[:, member, :, None] * solved[:, member, None, :]
    # Rounding must not bring back what is gone; ones keep the pivots of what is gone regular.
    weights[every[:, None], inside] = 0
    inverse[every[:, None], inside] = 0
    inverse[every[:, None], :, inside] = 0
    inverse[every[:, None], inside, inside] = 1


def _close_full_groups(open_to: np.ndarray, every: np.ndarray, unit: np.ndarray, pattern: Pattern) -> None:
    assert pattern.at_most is not None
    groups = open_to.reshape(len(every), -1, pattern.of)
    group = unit // pattern.of
    full = groups[every, group].sum(1) <= pattern.at_most
    groups[every[full], group[full]] = False


def refitted(weights: np.ndarray, hessian: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """The surviving weights that change each output least: w_S = H_SS⁻¹·(H·w)_S.

    Args:
        weights: W[g, n, o].
        hessian: Shape (g, n, n), positive definite.
        gone: Boolean, shape (g, n, o).
    Returns:
        Shape (g, n, o), float64; zero where `gone`, as it was where nothing of an output goes.
    """
    result = np.where(gone, 0.0, weights.astype("float64"))
    wanted = np.matmul(hessian, weights)  # [g, n, o]
    for group, output in np.argwhere(gone.any(1) & ~gone.all(1)):
        stays = np.flatnonzero(~gone[group, :, output])
        inner = hessian[group][np.ix_(stays, stays)]
        factor = scipy.linalg.cho_factor(inner, overwrite_a=True, check_finite=False)
        result[group, stays, output] = scipy.linalg.cho_solve(factor, wanted[group, stays, output], check_finite=False)
    return result


def output_error(before: np.ndarray, after: np.ndarray, hessian: np.ndarray) -> float:
    """½·Σ δᵀHδ over all outputs: the mean squared output error, halved.

    Args:
        before, after: W[g, n, o].
        hessian: Shape (g, n, n).
    """
    delta = np.asarray(after, "float64") - before
    return 0.5 * float((delta * np.matmul(hessian, delta)).sum())
