"""How values are divided among k centroids: one function and one row each.

Every function takes `Points` and k, and gives edges of intervals, rising from 0 to the number of points.
"""

from collections.abc import Callable

import numpy as np

from paredown.sharing.lloyd import density, linear
from paredown.sharing.optimal import optimal
from paredown.sharing.points import Points

METHODS: dict[str, Callable[[Points, int], np.ndarray]] = {
    "optimal": optimal,
    "linear": linear,
    "density": density,
}
