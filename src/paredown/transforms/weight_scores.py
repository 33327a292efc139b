"""One kernel with the scores of its weights, and with what a method needs to take some of them out."""

from dataclasses import dataclass

import numpy as np

from paredown.sparse import Hessian, Kernel, Method, Pattern, refitted
from paredown.sparse.surgeon import damped, output_error


@dataclass(frozen=True, eq=False)
class Scored:
    """One kernel.

    Args:
        kernel: The kernel.
        matrices: Its weights, W[g, n, o].
        scores: One per weight, shape (g, n, o), at least 0; -1 where the weight is zero already.
        hessian: Where the method fits the surviving weights; None elsewhere.
    """

    kernel: Kernel
    matrices: np.ndarray
    scores: np.ndarray
    hessian: Hessian | None

    def masked(self, gone: np.ndarray) -> np.ndarray:
        """The weights with those that are `gone` at zero."""
        return np.where(gone, np.zeros((), self.matrices.dtype), self.matrices)

    def without(self, gone: np.ndarray) -> np.ndarray:
        """The same, the surviving weights fitted where the method does so."""
        if self.hessian is None:
            return self.masked(gone)
        # What was zero before stays so, whether the budget counts it or not.
        gone = gone | (self.matrices == 0)
        result = np.empty_like(self.matrices)
        for inputs, block in zip(self.hessian.inputs, self.hessian.blocks, strict=True):
            result[:, inputs] = refitted(self.matrices[:, inputs], block, gone[:, inputs])
        return result

    def error(self, after: np.ndarray) -> float:
        """How far the layer's outputs move: squared error as a share of their squared size over the data."""
        assert self.hessian is not None
        pairs = list(zip(self.hessian.inputs, self.hessian.blocks, strict=True))
        moved = sum(output_error(self.matrices[:, i], after[:, i], block) for i, block in pairs)
        whole = sum(output_error(np.zeros_like(self.matrices[:, i]), self.matrices[:, i], block) for i, block in pairs)
        return moved / whole if whole else 0.0


def scored(
    method: Method,
    kernel: Kernel,
    pattern: Pattern,
    seen: Hessian | None,
    generator: np.random.Generator,
    ridge: float,
    as_shares: bool,
) -> Scored:
    """The scores of a kernel's weights.

    Args:
        seen: Of the kernel's inputs, where the method reads them.
        generator: For a random order.
        ridge: Added to the Hessian's diagonal, as a share of its mean.
        as_shares: Divide scores that are costs by Σ ½·h_kk·w_k², the layer's output energy were its inputs
            uncorrelated, so that layers can be compared.
    """
    matrices = kernel.split(kernel.value())
    hessian = None
    if method.reads == "nothing":
        scores = method.score(matrices)
    elif method.reads == "random":
        scores = method.score(matrices, generator)
    else:
        assert seen is not None
        if method.reads == "hessian":
            hessian = Hessian(seen.inputs, tuple(damped(block, ridge) for block in seen.blocks))
        scores = _costs(method, matrices, pattern, hessian or seen)
        energy = _energy(matrices, hessian or seen)
        scores = scores / energy if as_shares and energy else scores
    return Scored(kernel, matrices, np.where(matrices == 0, -1.0, scores), hessian)


def _costs(method: Method, matrices: np.ndarray, pattern: Pattern, seen: Hessian) -> np.ndarray:
    scores = np.empty(matrices.shape)
    for inputs, block in zip(seen.inputs, seen.blocks, strict=True):
        arguments = (block, pattern) if method.reads == "hessian" else (block,)
        scores[:, inputs] = method.score(matrices[:, inputs], *arguments)
    return scores


def _energy(matrices: np.ndarray, seen: Hessian) -> float:
    total = 0.0
    for inputs, block in zip(seen.inputs, seen.blocks, strict=True):
        diagonal = block if block.ndim == 2 else np.einsum("gnn->gn", block)
        total += float((0.5 * diagonal[:, :, None] * np.square(matrices[:, inputs], dtype="float64")).sum())
    return total
