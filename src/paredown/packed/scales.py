"""The one codebook of rows that are each a multiple of its values.

Neither multiples nor codebook are known: a file holds products alone, rounded to float32. Where row r has the scale s,
the ratio of its values to those of the codebook is s wherever they belong together, and anything elsewhere: s is the
ratio that most pairs agree on.
"""

import numpy as np

from paredown.packed.bits import MOST

#: How far ratios of products, each rounded to float32, can be apart: some 2^-23, and what estimates add to it.
AGREEING = 1e-6
#: Pairs that must agree before a row that brings new values is believed; fewer do so by chance.
_VOTES = 3
#: Values of a row that take part in finding its scale.
_VOTERS = 24
#: Rows that are tried before it is believed that none fits.
_PATIENCE = 16
_ROUNDS = 3


def common_codebook(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Codebook, indices and scales of a matrix.

    Args:
        rows: float32 (rows, n).
    Returns:
        Codebook float32 (k,), k at most 256; indices (rows, n); scales float32 (rows,). None where there is none.
    """
    values = [np.unique(row[row != 0]).astype(np.float64) for row in rows]
    order = sorted((i for i in range(len(rows)) if len(values[i])), key=lambda i: -len(values[i]))
    scales = _scales(values, order)
    if scales is None:
        return None
    return _fitted(rows, scales)


def _scales(values: list[np.ndarray], order: list[int]) -> np.ndarray | None:
    """A scale for each row, the widest row's being 1; rows of zeros get 0. None where they do not fit together."""
    scales = np.zeros(len(values))
    if not order:
        return None
    codebook, scales[order[0]], waiting = values[order[0]], 1.0, order[1:]
    while waiting:
        left = []
        for tried, row in enumerate(waiting, 1):
            scale = _scale(values[row], codebook)
            if scale is None:
                left.append(row)
                # Rows whose weights are not shared never fit: not all of them need to be tried.
                if len(left) == tried == _PATIENCE:
                    return None
                continue
            scales[row] = scale
            codebook = _grown(codebook, values[row] / scale)
            if len(codebook) > MOST:
                return None
        if len(left) == len(waiting):
            return None
        waiting = left
    return scales


def _scale(values: np.ndarray, codebook: np.ndarray) -> float | None:
    """What values divided by it are the codebook's, or most surely so; None where too few agree."""
    voters = values[np.linspace(0, len(values) - 1, min(len(values), _VOTERS)).astype(int)]
    ratios = np.sort((voters[:, None] / codebook[None, :]).ravel())
    reach = ratios + AGREEING * np.abs(ratios)
    counts = np.searchsorted(ratios, reach, "right") - np.arange(len(ratios))
    best = int(counts.argmax())
    if counts[best] < min(_VOTES, len(voters)):
        return None
    return float(ratios[best : best + counts[best]].mean())


def _grown(codebook: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A sorted codebook with those of the values that it lacks."""
    near = codebook[_nearest(codebook, values)]
    new = values[np.abs(values - near) > AGREEING * np.abs(values)]
    return np.sort(np.concatenate([codebook, new])) if len(new) else codebook


def _nearest(codebook: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Places of the codebook's values that are next to `values`; it is sorted."""
    right = np.clip(np.searchsorted(codebook, values), 1, max(len(codebook) - 1, 1))
    if len(codebook) == 1:
        return np.zeros(values.shape, int)
    left = right - 1
    return np.where(values - codebook[left] <= codebook[right] - values, left, right)


def _fitted(rows: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Indices and codebook for given scales, and both fitted to all rows in turn; None where one is not met."""
    wide = rows.astype(np.float64)
    normal = np.divide(wide, scales[:, None], out=np.zeros_like(wide), where=scales[:, None] != 0)
    codebook = _clusters(normal[wide != 0])
    if (wide == 0).any():
        codebook = np.sort(np.append(codebook, 0.0))
    if len(codebook) > MOST:
        return None
    places = _nearest(codebook, normal)
    for _ in range(_ROUNDS):
        there = codebook[places]
        scales = _ratio((wide * there).sum(1), (there**2).sum(1))
        spread = np.broadcast_to(scales[:, None], wide.shape)
        above = np.bincount(places.ravel(), (wide * spread).ravel(), len(codebook))
        codebook = _ratio(above, np.bincount(places.ravel(), (spread**2).ravel(), len(codebook)))
    narrow, factors = codebook.astype(np.float32), scales.astype(np.float32)
    made = narrow[places] * factors[:, None]
    if (np.abs(made - rows) > AGREEING * np.abs(rows)).any():
        return None
    return narrow, places, factors


def _clusters(values: np.ndarray) -> np.ndarray:
    """The values, those that differ by rounding alone being one."""
    values = np.sort(values)
    apart = np.diff(values) > 2 * AGREEING * np.abs(values[1:])
    starts = np.concatenate([[0], np.flatnonzero(apart) + 1])
    return np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values)))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)
