"""One kernel as indices into codebooks, at any k; and the k of all kernels under one budget of bits."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from paredown.allocation import LevelCosts, allocate
from paredown.errors import SettingError
from paredown.sharing import VALUE_BITS, WIDTHS, different, error, shared, spread, total_bits
from paredown.sparse import Kernel


class SharedKernel:
    """One kernel.

    Args:
        kernel: The kernel.
        channels: So many neighbouring output channels have one codebook; None: all.
        method, keep_zeros: As for `sharing.shared`.
        weights: What each weight's change counts, in the kernel's shape; None: all the same.
    """

    def __init__(
        self, kernel: Kernel, channels: int | None, method: str, keep_zeros: bool, weights: np.ndarray | None = None
    ):
        self.kernel = kernel
        self._channels, self._method, self._keep_zeros, self._weights = channels, method, keep_zeros, weights
        self._known: dict[int, np.ndarray] = {}

    @property
    def own_bits(self) -> int:
        """What the kernel takes as it is, in float32."""
        return self.kernel.value().size * VALUE_BITS

    def parts(self, value: np.ndarray) -> list[np.ndarray]:
        """A value in the kernel's shape by codebooks, each part [n, outputs]."""
        columns = self._columns(value)
        step = self._channels or columns.shape[1]
        return [columns[:, at : at + step] for at in range(0, columns.shape[1], step)]

    def most_different(self) -> int:
        """The largest number of different values that one codebook stands for."""
        return max(different(part) for part in self.parts(self.kernel.value()))

    def shared(self, k: int) -> np.ndarray:
        """The kernel with k values per codebook."""
        if k not in self._known:
            parts = self.parts(self.kernel.value())
            weights = [None] * len(parts) if self._weights is None else self.parts(self._weights)
            new = [
                shared(part, k, self._method, weight, self._keep_zeros)
                for part, weight in zip(parts, weights, strict=True)
            ]
            shape = self.kernel.split(self.kernel.value()).shape
            g, n, o = shape
            self._known[k] = self.kernel.join(np.concatenate(new, 1).reshape(n, g, o).transpose(1, 0, 2))
        return self._known[k]

    def bits(self, k: int) -> int:
        """Indices and codebooks."""
        value = self.kernel.value()
        return total_bits(value.size, k, len(self.parts(value)))

    def loss(self, k: int, absolute: bool = False) -> float:
        """Σ h·δ² over the kernel, as a share of Σ h·(w - mean)²; or absolute, halved."""
        lost = error(self.kernel.value(), self.shared(k), self._weights)
        if absolute:
            return lost / 2
        whole = spread(self.kernel.value(), self._weights)
        return lost / whole if whole else 0.0

    def told(self, k: int) -> dict[str, Any]:
        """Plain figures of the kernel at k values."""
        books = len(self.parts(self.kernel.value()))
        return {"k": k, "codebooks": books, "loss": self.loss(k), "bits": self.bits(k)}

    def _columns(self, value: np.ndarray) -> np.ndarray:
        matrices = self.kernel.split(value)
        g, n, o = matrices.shape
        return matrices.transpose(1, 0, 2).reshape(n, g * o)


def within(share: float, kernels: Sequence[SharedKernel], absolute: bool) -> tuple[list[int | None], float]:
    """The bits of all kernels at once.

    Args:
        share: Of the kernels' own bits to keep.
        kernels: The kernels.
        absolute: Which losses are added up, see `SharedKernel.loss`.
    Returns:
        (per kernel its k, or None where it stays as it is; the proven gap to the least sum of losses).
    Raises:
        SettingError: If the share cannot be met.
    """
    options = [[2**width for width in WIDTHS if each.bits(2**width) < each.own_bits] for each in kernels]
    least = sum(min([e.own_bits, *map(e.bits, o)]) for e, o in zip(kernels, options, strict=True))
    limit = share * sum(each.own_bits for each in kernels)
    if least > limit:
        raise SettingError(
            f"size must be a budget that can be reached. Received: size={share}, {limit:.0f} bits; one bit a weight "
            f"takes {least} (ShareWeights). Give a larger size, or exclude fewer layers."
        )
    costs = LevelCosts.nothing([len(o) + 1 for o in options])
    losses, levels = [], []
    for number, (each, ks) in enumerate(zip(kernels, options, strict=True)):
        # The last level is the kernel as it is.
        costs.add((number,), np.array([*map(each.bits, ks), each.own_bits], float))
        losses.append(np.array([*(each.loss(k, absolute) for k in ks), 0.0]))
        levels.append(np.arange(len(ks) + 1))
    found = allocate(levels, losses, costs, limit)
    chosen = [ks[level] if level < len(ks) else None for ks, level in zip(options, found.widths, strict=True)]
    return chosen, found.gap
