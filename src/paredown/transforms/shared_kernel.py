"""One kernel as indices into codebooks, at any k; and the k of all kernels under one budget of bits."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from paredown.allocation import LevelCosts, allocate
from paredown.errors import SettingError
from paredown.sharing import VALUE_BITS, WIDTHS, different, error, scale_of, shared, snapped, spread, total_bits
from paredown.sparse import Kernel


@dataclass(frozen=True, eq=False)
class SharedKernel:
    """One kernel.

    Args:
        kernel: The kernel.
        channels: So many neighbouring output channels have one codebook; None: all.
        method, keep_zeros: As for `sharing.shared`.
        on_grid: Shared values lie on an int8 grid, one for the whole kernel.
        weights: What each weight's change counts, in the kernel's shape; None: all the same.
    """

    kernel: Kernel
    channels: int | None
    method: str
    keep_zeros: bool
    on_grid: bool
    weights: np.ndarray | None = None

    @cached_property
    def value(self) -> np.ndarray:
        """The kernel as it is."""
        return self.kernel.value()

    @property
    def own_bits(self) -> int:
        """What the kernel takes as it is, in float32."""
        return self.value.size * VALUE_BITS

    def parts(self, value: np.ndarray) -> list[np.ndarray]:
        """A value in the kernel's shape by codebooks, each part [n, outputs]."""
        g, n, o = (matrices := self.kernel.split(value)).shape
        columns = matrices.transpose(1, 0, 2).reshape(n, g * o)
        step = self.channels or g * o
        return [columns[:, at : at + step] for at in range(0, g * o, step)]

    def may_change(self, k: int) -> bool:
        """Whether a codebook stands for more than k different values, or the kernel is not on the grid asked for."""
        more = any(different(part) > k for part in self.parts(self.value))
        return more or (self.on_grid and scale_of(self.value) is None)

    def shared(self, k: int) -> np.ndarray:
        """The kernel with at most k values per codebook."""
        parts = self.parts(self.value)
        weights = [None] * len(parts) if self.weights is None else self.parts(self.weights)
        new = [
            shared(part, k, self.method, weight, self.keep_zeros) for part, weight in zip(parts, weights, strict=True)
        ]
        g, n, o = self.kernel.split(self.value).shape
        value = self.kernel.join(np.concatenate(new, 1).reshape(n, g, o).transpose(1, 0, 2))
        return snapped(value) if self.on_grid else value

    def bits(self, k: int) -> int:
        """Indices and codebooks."""
        return total_bits(self.value.size, k, len(self.parts(self.value)))

    def loss(self, new: np.ndarray, absolute: bool = False) -> float:
        """Σ h·δ² over the kernel, as a share of Σ h·(w - mean)²; or absolute, halved."""
        lost = error(self.value, new, self.weights)
        if absolute:
            return lost / 2
        whole = spread(self.value, self.weights)
        return lost / whole if whole else 0.0

    def told(self, k: int, new: np.ndarray) -> dict[str, Any]:
        """Plain figures of the kernel with k values, as `shared` gave it."""
        return {"k": k, "codebooks": len(self.parts(new)), "loss": self.loss(new), "bits": self.bits(k)}


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
        losses.append(np.array([*(each.loss(each.shared(k), absolute) for k in ks), 0.0]))
        levels.append(np.arange(len(ks) + 1))
    found = allocate(levels, losses, costs, limit)
    chosen = [ks[level] if level < len(ks) else None for ks, level in zip(options, found.widths, strict=True)]
    return chosen, found.gap
