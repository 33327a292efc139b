"""The one kernel that a chain of convolutions stands for, as long as nothing is between them.

K[a + b, s, t] = Σ_r A[a, s, r] · B[b, r, t]
"""

from collections.abc import Sequence

import numpy as np

from paredown.factors import Piece


def composed(pieces: Sequence[Piece], kernels: Sequence[np.ndarray]) -> np.ndarray:
    """The kernel, shape (h, w, inputs, outputs).

    Args:
        pieces: Convolutions over two axes; those without a kernel are passed over.
        kernels: As Keras holds them, one per piece that has one.
    """
    own = [piece for piece in pieces if piece.has_kernel]
    whole = _dense(own[0], kernels[0])
    for piece, kernel in zip(own[1:], kernels[1:], strict=True):
        whole = _behind(whole, _dense(piece, kernel))
    return whole


def _behind(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    (h, w, inputs, _), (below, beside, _, outputs) = first.shape, second.shape
    whole = np.zeros((h + below - 1, w + beside - 1, inputs, outputs))
    for y, x in np.ndindex(below, beside):
        whole[y : y + h, x : x + w] += first @ second[y, x]
    return whole


def _dense(piece: Piece, kernel: np.ndarray) -> np.ndarray:
    """The kernel with the zeros written out that stand for channels that do not meet."""
    kernel = np.asarray(kernel, "float64")
    h, w, own, width = kernel.shape
    # [h, w, in a group, groups, out of a group]; a depthwise kernel has a group per channel.
    if piece.kind == "depthwise":
        groups, kernel = own, kernel[:, :, None]
    else:
        groups, kernel = piece.groups, kernel.reshape(h, w, own, piece.groups, width // piece.groups)
    dense = np.zeros((h, w, groups, kernel.shape[2], groups, kernel.shape[4]))
    for group in range(groups):
        dense[:, :, group, :, group] = kernel[:, :, :, group]
    return dense.reshape(h, w, groups * kernel.shape[2], groups * kernel.shape[4])
