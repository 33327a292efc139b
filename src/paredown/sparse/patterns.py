"""Where zeros may lie, and which weights become zero: the cheapest that the pattern and the budget allow."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paredown.errors import SettingError


@dataclass(frozen=True)
class Pattern:
    """Where zeros may lie along the input axis of W[g, n, o].

    Args:
        block: So many neighbours become zero together; 1 leaves every weight free.
        of: Of so many neighbours ...
        at_most: ... at most so many are not zero; None where no such rule holds.
    """

    block: int = 1
    of: int = 1
    at_most: int | None = None

    @staticmethod
    def parse(text: str) -> "Pattern":
        """The pattern that "unstructured", "2:4" or "block 4" names.

        Raises:
            SettingError: If the text is none of these.
        """
        if text == "unstructured":
            return Pattern()
        if match := re.fullmatch(r"block ([1-9]\d*)", text):
            return Pattern(block=int(match[1]))
        match = re.fullmatch(r"(\d+):(\d+)", text)
        if match and 1 <= int(match[1]) < int(match[2]):
            return Pattern(of=int(match[2]), at_most=int(match[1]))
        raise SettingError(
            "pattern must be 'unstructured', 'n:m' with 1 <= n < m (n of m neighbours stay) or 'block k'. "
            f"Received: pattern={text!r} (PruneWeights). Use '2:4' or 'block 4'."
        )

    @property
    def width(self) -> int:
        """Neighbours that the pattern speaks of together."""
        return self.block if self.at_most is None else self.of

    @property
    def share(self) -> float | None:
        """Share of zeros that the pattern itself demands; None where a budget says so."""
        return None if self.at_most is None else 1 - self.at_most / self.of

    def parts(self, matrices: np.ndarray) -> np.ndarray:
        """W[g, n, o] -> [g, n/width, width, o]."""
        g, n, o = matrices.shape
        return matrices.reshape(g, n // self.width, self.width, o)

    def zeros_that_count(self, matrices: np.ndarray) -> int:
        """Weights that are zero in whole blocks."""
        return int((self.parts(matrices) == 0).all(2).sum()) * self.width if self.at_most is None else -1

    def broken(self, matrices: np.ndarray) -> int:
        """Groups of neighbours that hold more weights than the pattern allows."""
        if self.at_most is None:
            return 0
        return int(((self.parts(matrices) != 0).sum(2) > self.at_most).sum())


def count_to_zero(pattern: Pattern, size: int, sparsity: float) -> int:
    """How many of `size` weights a sparsity makes zero: whole blocks, the nearest number."""
    return round(sparsity * size / pattern.block) * pattern.block


def zeros(pattern: Pattern, scores: Sequence[np.ndarray], sparsity: float | None, together: bool) -> list[np.ndarray]:
    """The weights that become zero: those with the least scores.

    Args:
        pattern: Where zeros may lie.
        scores: One array [g, n, o] per kernel, at least 0; below 0 for weights that are zero already, so that they
            go first and a pruned network is pruned further, not anew.
        sparsity: Share of the weights that become zero; None where the pattern says it.
        together: Rank the weights of all kernels together; False: the same share of each kernel.
    Returns:
        One boolean array [g, n, o] per kernel. Equal scores: the first in memory goes first.
    """
    if pattern.at_most is not None:
        return [_all_but(pattern, score) for score in scores]
    assert sparsity is not None  # The transform saw to it.
    units = [_of_blocks(pattern, score) for score in scores]
    ranked = [np.concatenate([unit.ravel() for unit in units])] if together else [unit.ravel() for unit in units]
    gone = np.concatenate([_lowest(part, round(sparsity * part.size)) for part in ranked])
    masks, at = [], 0
    for unit in units:
        here = gone[at : at + unit.size].reshape(unit.shape)
        at += unit.size
        masks.append(np.repeat(here, pattern.block, axis=1))
    return masks


def _all_but(pattern: Pattern, score: np.ndarray) -> np.ndarray:
    assert pattern.at_most is not None
    order = np.argsort(pattern.parts(score), axis=2, kind="stable")
    gone = np.zeros(order.shape, bool)
    np.put_along_axis(gone, order[:, :, : pattern.of - pattern.at_most], True, axis=2)
    return gone.reshape(score.shape)


def _of_blocks(pattern: Pattern, score: np.ndarray) -> np.ndarray:
    """[g, n, o] -> [g, n/block, o]: the sum over each block; below 0 where all of it is zero already."""
    parts = pattern.parts(score)
    return np.where((parts < 0).all(2), -1.0, np.maximum(parts, 0).sum(2))


def _lowest(values: np.ndarray, count: int) -> np.ndarray:
    gone = np.zeros(values.size, bool)
    gone[np.argsort(values, kind="stable")[:count]] = True
    return gone
