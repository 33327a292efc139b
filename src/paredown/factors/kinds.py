"""THE table of factorizations: what a layer becomes, and which directions its first factors give.

    svd        k×k to R, 1×1 to T (a Dense layer: to R, to T)        D²SR + RT
    spatial    k×1 to R, 1×k to T                                    DR(S + T)
    tucker     1×1 to R3, k×k to R4, 1×1 to T                        S·R3 + D²·R3·R4 + R4·T
    cp         1×1 to R, depthwise k×k, 1×1 to T                     R(S + D² + T)
    depthwise  depthwise k×k with multiplier R, 1×1 to T             R·S(D² + T)

Costs are MACs per output position at stride 1; D² stands for the window, S for input, T for output channels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from keras import layers, ops

from paredown.factors.bases import Basis, largest_eigenvectors, whitened_basis
from paredown.factors.cp import cp_basis
from paredown.factors.pieces import Piece, is_transposed, window_of
from paredown.factors.problem import Problem
from paredown.patches import why_not_linear


@dataclass(frozen=True)
class Kind:
    """One row.

    Args:
        why_not: `why_not(layer)` says why a layer cannot be factorized so, None where it can.
        most: `most(window, S, T)` is the rank with which nothing is lost.
        pieces: `pieces(layer, rank)` gives the layers that take its place.
        solver: `solver(problem, most)` finds the factors for ranks up to `most`.
    """

    why_not: Callable[[Any], str | None]
    most: Callable[[tuple[int, ...], int, int], int]
    pieces: Callable[[Any, Any], tuple[Piece, ...]]
    solver: Callable[[Problem, int], "Solver"]


class Solver:
    """Factors of one layer for every rank up to `most`, as nested bases give them.

    Args:
        problem: The layer's.
        basis: What the factors before the last give.
        kernels: `kernels(rank)` gives those factors, each (*window, inputs, width).
    """

    def __init__(self, problem: Problem, basis: Basis, kernels: Callable[[int], list[np.ndarray]]):
        self.problem, self.basis, self._kernels = problem, basis, kernels

    def losses(self, ranks: Sequence[Any]) -> np.ndarray:
        """What each rank loses beyond what no factors avoid, in the unit of `Problem.total`."""
        return self.basis.losses(ranks)

    def factors(self, rank: Any) -> tuple[list[np.ndarray], Any]:
        """The kernels of all pieces, and the one kernel that they stand for, shape (n, o): an array, or a tensor where
        the layer is too large for being held once more while a variable takes it over."""
        last = self.basis.last(rank)
        return [*self._kernels(rank), self._shaped(rank, last)], self.basis.first(rank) @ last

    def _shaped(self, rank: int, last: np.ndarray) -> np.ndarray:
        return last


def sizes(problem: Problem) -> tuple[tuple[int, ...], int, int]:
    """(window, S, T) of a layer."""
    window = window_of(problem.linear.layer)
    n, outputs = problem.linear.shape
    return window, n // int(np.prod(window, dtype=int)), outputs


def _ones(layer: Any) -> tuple[int, ...]:
    return (1,) * len(window_of(layer))


def _core(layer: Any, suffix: str, width: int) -> Piece:
    """A piece with the layer's own window, strides and dilation."""
    if isinstance(layer, layers.Dense):
        return Piece(suffix, "dense", (), width)
    kind = "transposed" if is_transposed(layer) else "conv"
    return Piece(suffix, kind, layer.kernel_size, width, layer.strides, layer.dilation_rate)


def _pointwise(layer: Any, suffix: str, width: int) -> Piece:
    return Piece(suffix, "dense" if isinstance(layer, layers.Dense) else "conv", _ones(layer), width)


def _outputs(layer: Any) -> int:
    return layer.units if isinstance(layer, layers.Dense) else layer.filters


def _linear(layer: Any) -> str | None:
    if isinstance(layer, layers.SeparableConv1D | layers.SeparableConv2D):
        return "is a separable convolution already"
    why = why_not_linear(layer)
    if why is not None:
        return why
    if layer.kernel_constraint is not None:
        return "has a constraint on its kernel, which its factors would not keep"
    # PReLU inside another layer has no weights before it is first run.
    if getattr(layer.activation, "weights", None) or isinstance(layer.activation, layers.PReLU):
        return "has an activation with weights of its own"
    return None


def _has_window(layer: Any) -> str | None:
    why = _linear(layer)
    return why or ("has a window of 1" if int(np.prod(window_of(layer), dtype=int)) == 1 else None)


# ---- svd


def _svd_most(window: tuple[int, ...], inputs: int, outputs: int) -> int:
    return min(int(np.prod(window, dtype=int)) * inputs, outputs)


def _svd_pieces(layer: Any, rank: int) -> tuple[Piece, ...]:
    return _core(layer, "reduce", rank), _pointwise(layer, "expand", _outputs(layer))


def _svd_solver(problem: Problem, most: int) -> Solver:
    window, inputs, outputs = sizes(problem)
    if outputs <= problem.linear.shape[0]:
        return _Principal(problem, most)
    columns = whitened_basis(problem.wanted, problem.gram, most)
    basis = Basis(problem, columns, orthonormal=problem.gram is None)
    return Solver(problem, basis, lambda rank: [basis.first(rank).reshape(*window, inputs, rank)])


class _Principal(Solver):
    """W V V' with the eigenvectors V of the outputs' second moments W' G W, of which nothing but V is held.

    V is orthonormal, so that what is lost is exactly tr(W' G W) less what V explains, whatever the directions.
    """

    def __init__(self, problem: Problem, most: int):
        self.problem, wanted = problem, problem.wanted
        second = wanted.T @ problem.times(wanted)
        self._total = float(np.trace(second, dtype="float64"))
        self._directions = largest_eigenvectors(second, most)
        explained = np.einsum("om,om->m", self._directions, second @ self._directions, dtype="float64")
        self._lost = self._total - np.append(0.0, np.cumsum(np.maximum(explained, 0)))

    def losses(self, ranks: Sequence[Any]) -> np.ndarray:
        return np.maximum(0, self._lost[np.asarray(ranks, dtype=int)])

    def factors(self, rank: int) -> tuple[list[np.ndarray], Any]:
        window, inputs, _ = sizes(self.problem)
        directions = self._directions[:, :rank]
        first, last = self.problem.wanted @ directions, directions.T
        product = ops.matmul(first, last) if first.dtype == "float32" else first @ last
        return [first.reshape(*window, inputs, rank), last], product


# ---- spatial


def _spatial_why_not(layer: Any) -> str | None:
    why = _linear(layer)
    flat = why is None and (len(window_of(layer)) != 2 or 1 in layer.kernel_size)
    return "has no window of two axes" if flat else why


def _spatial_most(window: tuple[int, ...], inputs: int, outputs: int) -> int:
    return min(window[0] * inputs, window[1] * outputs)


def _spatial_pieces(layer: Any, rank: int) -> tuple[Piece, ...]:
    kind = "transposed" if is_transposed(layer) else "conv"
    (h, w), (sh, sw), (dh, dw) = layer.kernel_size, layer.strides, layer.dilation_rate
    return (
        Piece("vertical", kind, (h, 1), rank, (sh, 1), (dh, 1)),
        Piece("horizontal", kind, (1, w), layer.filters, (1, sw), (1, dw)),
    )


def _spatial_solver(problem: Problem, most: int) -> Solver:
    (h, w), inputs, outputs = sizes(problem)
    kernel = problem.wanted.reshape(h, w, inputs, outputs)
    folded = kernel.transpose(0, 2, 1, 3).reshape(h * inputs, w * outputs)
    gram = None
    if problem.gram is not None:
        blocks = problem.gram.reshape(h, w, inputs, h, w, inputs)
        gram = np.einsum("hwsgwt->hsgt", blocks).reshape(h * inputs, h * inputs)
    vertical = whitened_basis(folded, gram, most)
    most = vertical.shape[1]
    # Every rank has one column for each place along the horizontal window.
    columns = np.zeros((h, w, inputs, most, w))
    for at in range(w):
        columns[:, at, :, :, at] = vertical.reshape(h, inputs, most)
    basis = Basis(problem, columns.reshape(h * w * inputs, most * w), w, problem.gram is None)
    return _Horizontal(problem, basis, lambda rank: [vertical[:, :rank].reshape(h, 1, inputs, rank)])


class _Horizontal(Solver):
    def _shaped(self, rank: int, last: np.ndarray) -> np.ndarray:
        return last.reshape(rank, 1, -1, last.shape[1]).transpose(1, 2, 0, 3)


# ---- depthwise


def _depthwise_why_not(layer: Any) -> str | None:
    why = _has_window(layer)
    if why is None and is_transposed(layer):
        why = "is a transposed convolution, of which there is no depthwise one"
    if why is None and len(window_of(layer)) > 2:
        why = "has three spatial axes, for which Keras has no depthwise convolution"
    if why is None and (len(set(layer.strides)) > 1 or (max(layer.strides) > 1 and max(layer.dilation_rate) > 1)):
        why = "has strides that depthwise convolutions cannot have"
    if why is None and layer.padding == "causal":
        why = "is padded causally, which depthwise convolutions are not"
    return why


def _depthwise_most(window: tuple[int, ...], inputs: int, outputs: int) -> int:
    return min(int(np.prod(window, dtype=int)), outputs)


def _depthwise_pieces(layer: Any, rank: int) -> tuple[Piece, ...]:
    first = Piece("depthwise", "depthwise", layer.kernel_size, rank, layer.strides, layer.dilation_rate)
    return first, _pointwise(layer, "pointwise", layer.filters)


def _depthwise_solver(problem: Problem, most: int) -> Solver:
    window, inputs, outputs = sizes(problem)
    area = int(np.prod(window, dtype=int))
    kernel = problem.wanted.reshape(area, inputs, outputs)
    blocks = None if problem.gram is None else problem.gram.reshape(area, inputs, area, inputs)
    columns = np.zeros((area, inputs, most, inputs))
    for s in range(inputs):
        gram = None if blocks is None else blocks[:, s, :, s]
        columns[:, s, :, s] = whitened_basis(kernel[:, s], gram, most)
    basis = Basis(problem, columns.reshape(area * inputs, most * inputs), inputs, problem.gram is None)
    own = columns[:, np.arange(inputs), :, np.arange(inputs)]

    def kernels(rank: int) -> list[np.ndarray]:
        return [own[:, :, :rank].transpose(1, 0, 2).reshape(*window, inputs, rank)]

    return _Pointwise(problem, basis, kernels)


class _Pointwise(Solver):
    def _shaped(self, rank: int, last: np.ndarray) -> np.ndarray:
        # Keras has the outputs of one input channel side by side.
        return last.reshape(rank, -1, last.shape[1]).swapaxes(0, 1).reshape(-1, last.shape[1])


# ---- cp


def _cp_most(window: tuple[int, ...], inputs: int, outputs: int) -> int:
    area = int(np.prod(window, dtype=int))
    return min(inputs, area * outputs) * min(area, outputs)


def _cp_pieces(layer: Any, rank: int) -> tuple[Piece, ...]:
    middle = Piece("depthwise", "depthwise", layer.kernel_size, 1, layer.strides, layer.dilation_rate)
    return _pointwise(layer, "reduce", rank), middle, _pointwise(layer, "expand", layer.filters)


class _Canonical(Solver):
    """Factors of a rank are no part of those of a higher one: each is found by itself."""

    def __init__(self, problem: Problem, most: int):
        self.problem, self._most = problem, most
        self._found: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def _at(self, rank: int) -> tuple[Basis, np.ndarray, np.ndarray]:
        window, inputs, outputs = sizes(self.problem)
        area = int(np.prod(window, dtype=int))
        if rank not in self._found:
            self._found[rank] = cp_basis(self.problem.wanted.reshape(area, inputs, outputs), self.problem.gram, rank)
        places, channels = self._found[rank]
        columns = np.einsum("dr,sr->dsr", places, channels).reshape(area * inputs, rank)
        return Basis(self.problem, columns), places, channels

    def losses(self, ranks: Sequence[Any]) -> np.ndarray:
        found = [self._at(int(rank))[0].losses([rank])[0] for rank in ranks]
        return np.array(found)

    def factors(self, rank: int) -> tuple[list[np.ndarray], np.ndarray]:
        basis, places, channels = self._at(rank)
        window, inputs, _ = sizes(self.problem)
        ones, last = (1,) * len(window), basis.last(rank)
        kernels = [channels.reshape(*ones, inputs, rank), places.reshape(*window, rank, 1), last]
        return kernels, basis.columns @ last


# ---- tucker


def _tucker_why_not(layer: Any) -> str | None:
    return _has_window(layer)


def _tucker_most(window: tuple[int, ...], inputs: int, outputs: int) -> int:
    return min(outputs, int(np.prod(window, dtype=int)) * inputs)


def tucker_ranks(rank: Any, inputs: int, outputs: int) -> tuple[int, int]:
    """(R3, R4): a pair as it is; one number is R4, with R3 the same share of the input channels."""
    if isinstance(rank, tuple | list):
        return int(rank[0]), int(rank[1])
    return min(inputs, -(-int(rank) * inputs // outputs)), int(rank)


def _tucker_pieces(layer: Any, rank: Any) -> tuple[Piece, ...]:
    inputs = layer.kernel.shape[-1 if is_transposed(layer) else -2]
    r3, r4 = tucker_ranks(rank, inputs, layer.filters)
    core, last = _core(layer, "core", r4), _pointwise(layer, "expand", layer.filters)
    return _pointwise(layer, "reduce", r3), core, last


class _Tucker(Solver):
    def __init__(self, problem: Problem, most: int):
        self.problem = problem
        self.window, self.inputs, self.outputs = sizes(problem)

    @cached_property
    def _reduce(self) -> np.ndarray:
        """Directions among the input channels, shape (S, S)."""
        area, inputs, outputs = int(np.prod(self.window, dtype=int)), self.inputs, self.outputs
        folded = self.problem.wanted.reshape(area, inputs, outputs).swapaxes(0, 1).reshape(inputs, area * outputs)
        gram = None
        if self.problem.gram is not None:
            gram = np.einsum("dsdt->st", self.problem.gram.reshape(area, inputs, area, inputs))
        return whitened_basis(folded, gram, inputs)

    @cached_property
    def _basis(self) -> Basis:
        area, most = int(np.prod(self.window, dtype=int)), self._reduce.shape[1]
        columns = np.zeros((area, self.inputs, most, area))
        for at in range(area):
            columns[at, :, :, at] = self._reduce
        flat = columns.reshape(area * self.inputs, most * area)
        return Basis(self.problem, flat, area, self.problem.gram is None)

    def _ranks(self, rank: Any) -> tuple[int, int]:
        r3, r4 = tucker_ranks(rank, self.inputs, self.outputs)
        return min(r3, self._reduce.shape[1]), r4

    def losses(self, ranks: Sequence[Any]) -> np.ndarray:
        found = []
        for r3, r4 in map(self._ranks, ranks):
            explained = self._basis.explained[: r3 * self._basis.each]
            values = np.linalg.eigvalsh(explained.T @ explained)
            found.append(max(0.0, self.problem.total - float(values[len(values) - min(r4, len(values)) :].sum())))
        return np.array(found)

    def factors(self, rank: Any) -> tuple[list[np.ndarray], np.ndarray]:
        r3, r4 = self._ranks(rank)
        explained = self._basis.explained[: r3 * self._basis.each]
        expand = largest_eigenvectors(explained.T @ explained, r4)
        core = self._basis.last(r3, explained @ expand)
        ones = (1,) * len(self.window)
        kernels = [
            self._reduce[:, :r3].reshape(*ones, self.inputs, r3),
            core.reshape(r3, *self.window, r4).transpose(*range(1, len(self.window) + 1), 0, len(self.window) + 1),
            expand.T.reshape(*ones, r4, self.outputs),
        ]
        return kernels, self._basis.first(r3) @ core @ expand.T


FACTORIZATIONS: dict[str, Kind] = {
    "svd": Kind(_linear, _svd_most, _svd_pieces, _svd_solver),
    "spatial": Kind(_spatial_why_not, _spatial_most, _spatial_pieces, _spatial_solver),
    "tucker": Kind(_tucker_why_not, _tucker_most, _tucker_pieces, _Tucker),
    "cp": Kind(_depthwise_why_not, _cp_most, _cp_pieces, _Canonical),
    "depthwise": Kind(_depthwise_why_not, _depthwise_most, _depthwise_pieces, _depthwise_solver),
}


def unfoldings(kind: str, problem: Problem) -> tuple[np.ndarray, ...]:
    """The matrices whose ranks a factorization lowers, one per rank: what EVBMF looks at."""
    window, inputs, outputs = sizes(problem)
    matrix = problem.matrix
    kernel = matrix.reshape(int(np.prod(window, dtype=int)), inputs, outputs)
    if kind == "spatial":
        folded = matrix.reshape(*window, inputs, outputs).transpose(0, 2, 1, 3)
        return (folded.reshape(window[0] * inputs, window[1] * outputs),)
    if kind == "tucker":
        return kernel.swapaxes(0, 1).reshape(inputs, -1), matrix
    if kind == "depthwise":
        # All channels' multiplier is one number: the largest that a channel asks for is that of all together.
        return (kernel.reshape(len(kernel), inputs * outputs),)
    return (matrix,)
