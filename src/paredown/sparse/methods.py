"""What a single weight is worth: one small function and one row each.

Every function gives a score per weight, shape (g, n, o), at least 0, higher = keep; of blocks the sum counts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from paredown.sparse.patterns import Pattern
from paredown.sparse.surgeon import removal_costs


@dataclass(frozen=True)
class Method:
    """One row.

    Args:
        score: The function.
        reads: What it is given beside the kernel: "nothing"; "random", a generator; "diagonal" or "hessian", of the
            layer-wise Hessian 2·mean(xxᵀ).
        refits: Whether the surviving weights are fitted to make up for those that go.
    """

    score: Callable[..., np.ndarray]
    reads: Literal["nothing", "random", "diagonal", "hessian"]
    refits: bool = False

    @property
    def needs_data(self) -> bool:
        return self.reads in ("diagonal", "hessian")


def magnitude(weights: np.ndarray) -> np.ndarray:
    """The absolute value.

    Args:
        weights: W[g, n, o].
    Source:
        Han et al. 2015, arXiv:1506.02626, section 3.
    """
    return np.abs(weights)


def obd(weights: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
    """Optimal Brain Damage, ½·h_kk·w_k², with the Hessian of the layer's own squared output error.

    Args:
        weights: W[g, n, o].
        diagonal: h_kk, shape (g, n).
    Source:
        LeCun, Denker & Solla 1990, NIPS 2, eq. 4.
    """
    return 0.5 * diagonal[:, :, None] * np.square(weights.astype("float64"))


def obs(weights: np.ndarray, hessian: np.ndarray, pattern: Pattern) -> np.ndarray:
    """Optimal Brain Surgeon: what removal costs once all other weights have made up for it; see `surgeon`.

    Args:
        weights: W[g, n, o].
        hessian: Shape (g, n, n), positive definite.
    Source:
        Hassibi & Stork 1993, NIPS 5; layer by layer: Dong et al. 2017, arXiv:1705.07565, section 3.
    """
    return removal_costs(weights, hessian, pattern)


def random(weights: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A random order: the baseline that every method must beat."""
    return generator.random(weights.shape)


METHODS: dict[str, Method] = {
    "magnitude": Method(magnitude, "nothing"),
    "obd": Method(obd, "diagonal"),
    "obs": Method(obs, "hessian", refits=True),
    "random": Method(random, "random"),
}
