"""Codebooks on a grid: every value a step times a whole number from -127 to 127."""

import numpy as np

LIMIT = 127


def on_grid(values: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, np.ndarray]:
    """The grid that moves the values least.

    The largest value falls on each of 1 to 127 in turn; the step is then refitted by least squares.

    Args:
        values: (k,).
        weights: What the square of each value's change counts, (k,); None: all the same.
    Returns:
        The step, above 0; the whole numbers (k,), int8. Among equally good grids the coarsest.
    """
    values = np.asarray(values, np.float64)
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    extreme = np.abs(values).max(initial=0.0)
    if extreme == 0:
        return 1.0, np.zeros(len(values), np.int8)
    steps = extreme / np.arange(1, LIMIT + 1)
    numbers = np.rint(values / steps[:, None])  # [127, k]
    fitted = (weights * values * numbers).sum(1) / np.maximum((weights * numbers**2).sum(1), 1e-300)
    steps = np.where(fitted > 0, fitted, steps)
    errors = (weights * (steps[:, None] * numbers - values) ** 2).sum(1)
    # What rounding to float32 leaves is no difference.
    nothing = 1e-13 * (weights * values**2).sum()
    best = int(np.argmax(errors <= max(errors.min(), nothing)))
    return float(steps[best]), numbers[best].astype(np.int8)
