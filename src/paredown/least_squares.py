"""A change of a layer's matrix and bias by linear least squares, from sums over rows alone."""

from dataclasses import dataclass

import numpy as np

from paredown.moments import Sums

#: How strongly weights are held where they were, as shares of the inputs' mean variance. What does best on rows that
#: the fit has not seen is taken: a fit to few examples must not follow their noise.
RIDGES = (1e-5, 1e-3, 1e-1, 10.0)


@dataclass(frozen=True, eq=False)
class Fit:
    """A change of a layer's matrix and bias.

    Args:
        step: Added to the matrix, shape (n, o).
        shift: Added to the bias, shape (o,).
    """

    step: np.ndarray
    shift: np.ndarray

    @staticmethod
    def shift_alone(sums: Sums) -> "Fit":
        """Puts the mean right."""
        return Fit(np.zeros(sums.cross.shape), sums.target / sums.count)

    @staticmethod
    def solved(sums: Sums, ridge: float, with_bias: bool) -> "Fit":
        """The least-squares fit, held back by `ridge` as a share of the rows' mean variance."""
        row, target = sums.row / sums.count * with_bias, sums.target / sums.count * with_bias
        covariance = sums.gram / sums.count - np.outer(row, row)
        cross = sums.cross / sums.count - np.outer(row, target)
        damping = ridge * (np.diag(covariance).mean() or 1.0)
        step = np.linalg.solve(covariance + damping * np.eye(len(row)), cross)
        return Fit(step, target - row @ step)

    @staticmethod
    def best(fitted: Sums, held_out: Sums, with_bias: bool) -> "Fit":
        """The fit to all rows, with the ridge with which the fit to `fitted` does best on `held_out`."""
        everything = fitted + held_out
        if not held_out.count or not fitted.count:
            return Fit.solved(everything, RIDGES[-1], with_bias)
        tried = [Fit.solved(fitted, ridge, with_bias).left(held_out) for ridge in RIDGES]
        if with_bias and min(tried) > Fit.shift_alone(fitted).left(held_out):
            return Fit.shift_alone(everything)
        return Fit.solved(everything, RIDGES[int(np.argmin(tried))], with_bias)

    def left(self, sums: Sums) -> float:
        """Mean over rows of the squared difference that is left, summed over outputs."""
        gram, row, cross, target = (a / sums.count for a in (sums.gram, sums.row, sums.cross, sums.target))
        square = sums.square / sums.count - 2 * (self.step * cross).sum() + (self.step * (gram @ self.step)).sum()
        square += (self.shift**2).sum() - 2 * self.shift @ (target - row @ self.step)
        return max(0.0, float(square))
