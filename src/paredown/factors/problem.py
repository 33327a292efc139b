"""What a layer's factors are to give: the least-squares problem that all kinds of factorization share.

A layer is y = x W + b (`patches`). Factors give y = x K + b' with a K of low cost. What they lose is quadratic in K,

    error(K) = tr((K - W)' G (K - W)) + what no K avoids,        G = E[x x']

so that second moments of the rows x are all that is needed of the data. Without data G is the identity, and the error
is that of the kernel itself.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from paredown.errors import DataError, ModelError
from paredown.least_squares import Fit
from paredown.moments import Sums
from paredown.patches import LinearLayer

#: Share of the mean variance that is added to every variance: at the least, and for as many rows as inputs.
_RIDGE, _FEW = 1e-6, 1e-2
#: Share of the sum of all mean squares that is added to every variance.
_ROUNDING = 3e-7
#: A kernel of more weights than this is read in single precision where it is all that counts, half the memory.
_LARGE = 2**22


@dataclass(frozen=True, eq=False)
class Problem:
    """One layer's.

    Args:
        linear: The layer.
        step: What is added to the layer's own matrix for the one that gives the wanted outputs best, shape (n, o);
            0 where it reads what it always read.
        gram: G, shape (n, n); None: the identity.
        sums: Of the rows and of what is missing at the output with the layer's own matrix; None without data.
        with_bias: Whether a shift of the mean can be taken up.
        variance: Mean square of the wanted outputs around their mean (without `with_bias`: around zero), summed over
            outputs.
    """

    linear: LinearLayer
    step: np.ndarray | float
    gram: np.ndarray | None
    sums: Sums | None
    with_bias: bool
    variance: float

    @staticmethod
    def plain(linear: LinearLayer) -> "Problem":
        """Of the kernel alone."""
        square = _square_sum(_read(linear))
        if not math.isfinite(square):
            raise ModelError(
                "Kernels must be finite numbers. Received: NaN or infinity in that of "
                f"{linear.layer.name} (Factorize). Train the network anew, or exclude the layer."
            )
        return Problem(linear, 0.0, None, None, False, square)

    @staticmethod
    def unchanged(linear: LinearLayer, sums: Sums, with_bias: bool) -> "Problem":
        """Of the outputs on data, where the layer reads what it always read.

        Args:
            sums: Over the rows.
        """
        row = sums.row / sums.count * with_bias
        matrix, square = linear.read(), sums.gram / sums.count
        whole = float((matrix * (square @ matrix)).sum())
        variance = float((matrix * ((square - np.outer(row, row)) @ matrix)).sum())
        # Outputs that hardly vary are the bias's: what is lost in them is not to count without measure.
        return Problem.of_data(linear, sums, Sums(*linear.shape), max(variance, _ROUNDING * whole), with_bias)

    @staticmethod
    def of_data(linear: LinearLayer, fitted: Sums, held_out: Sums, variance: float, with_bias: bool) -> "Problem":
        """Of the outputs on data.

        Args:
            fitted, held_out: Sums over rows and what is missing at the output, in two parts, by the second of which it
                is chosen how far the wanted matrix may leave the layer's own. Nothing is missing where the layer reads
                what it always read.
            variance: As above.
        """
        sums = fitted + held_out
        step = Fit.best(fitted, held_out, with_bias).step if sums.square else 0.0
        row = sums.row / sums.count * with_bias
        gram = sums.gram / sums.count - np.outer(row, row)
        if not np.isfinite(gram).all():
            raise DataError(
                "Layers must read finite values on calibration data. Received: NaN or infinity at "
                f"{linear.layer.name} (Factorize). Look for it in the data, or in the weights of the layers before."
            )
        # Directions that few rows have shown are held where the kernel itself has them; and what single precision has
        # rounded, before the mean was taken off, must not make G indefinite.
        ridge = max(_RIDGE, _FEW * len(gram) / sums.count) * np.diag(gram).mean()
        gram[np.diag_indices_from(gram)] += max(ridge, _ROUNDING * np.trace(sums.gram) / sums.count) or 1.0
        return Problem(linear, step, gram, sums, with_bias, variance)

    @property
    def matrix(self) -> np.ndarray:
        """The layer's own, shape (n, o), read anew: the matrices of a whole network are not held at once."""
        return self.linear.read() if self.gram is not None else _read(self.linear)

    @property
    def wanted(self) -> np.ndarray:
        """The matrix W that gives the wanted outputs best, shape (n, o)."""
        return self.matrix if isinstance(self.step, float) else self.matrix + self.step

    @cached_property
    def total(self) -> float:
        """What K = 0 would lose beyond what no K avoids."""
        if self.gram is None:
            return self.variance
        wanted = self.wanted
        return float((wanted * self.times(wanted)).sum())

    def times(self, matrix: np.ndarray) -> np.ndarray:
        """G times a matrix."""
        return matrix if self.gram is None else self.gram @ matrix

    def shift(self, kernel: np.ndarray) -> np.ndarray:
        """What the bias gains so that the mean output is right with K = `kernel`, shape (o,)."""
        if self.sums is None or not self.with_bias:
            return np.zeros(kernel.shape[1])
        return (self.sums.target + self.sums.row @ (self.matrix - kernel)) / self.sums.count

    def error(self, kernel: np.ndarray) -> float:
        """Mean square of what the outputs lose with K = `kernel`, as a share of `variance`; on the data exactly."""
        if self.sums is None:
            lost = _square_sum(kernel - self.matrix)
        else:
            lost = Fit(kernel - self.matrix, self.shift(kernel)).left(self.sums)
        return lost / max(self.variance, 1e-30)


def _square_sum(matrix: np.ndarray) -> float:
    """In pieces, whose sums single precision holds well."""
    return sum(float(np.vdot(piece, piece)) for piece in np.array_split(matrix, 1 + matrix.size // 2**18))


def _read(linear: LinearLayer) -> np.ndarray:
    return linear.read("float32" if math.prod(linear.shape) > _LARGE else "float64")
