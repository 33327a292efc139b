"""How many dimensions of a matrix are signal: the rank that the matrix itself asks for."""

import numpy as np
import scipy.optimize


def evbmf_rank(matrix: np.ndarray) -> int:
    """The rank of a noisy matrix by empirical variational Bayes, at least 1.

    The global solution in closed form: a singular value counts where it stands out of what noise of the estimated
    variance gives.

    Args:
        matrix: Shape (rows, columns).
    Source:
        Nakajima et al. 2013, Global analytic solution of fully-observed variational Bayesian matrix factorization,
        JMLR 14, theorem 2 and section 4.3; used for networks by Kim et al. 2016, arXiv:1511.06530, section 3.1.
    """
    rows, columns = sorted(matrix.shape)
    squares = np.linalg.svd(matrix, compute_uv=False) ** 2
    ratio = rows / columns
    tau = 2.5129 * np.sqrt(ratio)
    edge = (1 + tau) * (1 + ratio / tau)

    def free_energy(log_variance: float) -> float:
        x = squares / (columns * np.exp(log_variance))
        signal, noise = x[x > edge], x[x <= edge]
        shrunk = (signal - (1 + ratio) + np.sqrt((signal - (1 + ratio)) ** 2 - 4 * ratio)) / 2
        kept = np.log((shrunk + 1) / signal) + ratio * np.log(shrunk / ratio + 1) - shrunk
        return float((noise - np.log(noise)).sum() + (signal - np.log(signal) + kept + np.log(signal)).sum())

    squares = np.maximum(squares, 1e-12 * squares.max())
    # The noise lies between what is left when all that can be signal is taken out, and everything.
    most = max(1, min(int(np.ceil(rows / (1 + ratio))) - 1, rows - 1))
    upper = squares.sum() / (rows * columns)
    lower = max(squares[most:].mean() / columns if most < rows else 0, 1e-9 * upper)
    lower = max(lower, squares[min(most, rows - 1)] / (columns * edge))
    if not lower < upper:
        return 1
    found = scipy.optimize.minimize_scalar(free_energy, bounds=(np.log(lower), np.log(upper)), method="bounded")
    return max(1, int((squares > columns * np.exp(found.x) * edge).sum()))
