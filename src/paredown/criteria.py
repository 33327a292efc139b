"""A channel's worth, one small function each; higher means keep.

To add a criterion: write one function and one row in `CRITERIA`. What it is given depends on the row:
`kernel`, the weights that make the channels, shape (weights per channel, channels); `activations`, what the
layers that read the channels see of them (see `statistics`); or nothing but their number.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from paredown.statistics import ActivationStatistics
from paredown.surgeon import redundancy, structured_obs, thinet


@dataclass(frozen=True)
class Criterion:
    """One row.

    Args:
        score: The function.
        reads: What it is given.
        reductions: Names of the `statistics.REDUCTIONS` that it needs.
        comparable: Whether scores of different layers are in one unit. Where they are not, a global ranking divides
            each layer's scores by their mean.
    """

    score: Callable
    reads: Literal["kernel", "activations", "moments", "nothing"]
    reductions: tuple[str, ...] = ()
    comparable: bool = False


def l1_norm(kernel: np.ndarray) -> np.ndarray:
    """Sum of the absolute weights that make each channel.

    Args:
        kernel: Shape (weights per channel, channels).
    Returns:
        Shape (channels,), in units of the weights.
    Source:
        Li et al. 2017, arXiv:1608.08710, section 3.1.
    """
    return np.abs(kernel).sum(0)


def l2_norm(kernel: np.ndarray) -> np.ndarray:
    """Euclidean norm of the weights that make each channel.

    Args:
        kernel: Shape (weights per channel, channels).
    Returns:
        Shape (channels,), in units of the weights.
    Source:
        He et al. 2018, arXiv:1808.06866, section 3.
    """
    return np.sqrt(np.square(kernel).sum(0))


def activation_count(activations: ActivationStatistics) -> np.ndarray:
    """How often each channel is above zero, over all examples and positions.

    Returns:
        Shape (channels,), a count; `threshold=0` removes the channels that were never active.
    Source:
        Çallı 2017, Optimizing Neural Networks for Mobile Devices, section 2.2.2.
    """
    return activations.sums["positive"]


def apoz(activations: ActivationStatistics) -> np.ndarray:
    """One less the average percentage of zeros: a channel that is mostly zero goes first.

    Returns:
        Shape (channels,), a share in [0, 1].
    Source:
        Hu et al. 2016, arXiv:1607.03250, section 3.1 (where the *high* share of zeros is what goes).
    """
    return 1 - activations.sums["zero"] / activations.positions


def random(channels: int, generator: np.random.Generator) -> np.ndarray:
    """A random order: the baseline that every criterion must beat.

    Returns:
        Shape (channels,), uniform in [0, 1).
    """
    return generator.random(channels)


CRITERIA: dict[str, Criterion] = {
    "activation_count": Criterion(activation_count, "activations", ("positive",)),
    "apoz": Criterion(apoz, "activations", ("zero",), comparable=True),
    "l1_norm": Criterion(l1_norm, "kernel"),
    "l2_norm": Criterion(l2_norm, "kernel"),
    "random": Criterion(random, "nothing", comparable=True),
    "redundancy": Criterion(redundancy, "moments", comparable=True),
    "structured_obs": Criterion(structured_obs, "moments", comparable=True),
    "thinet": Criterion(thinet, "moments", comparable=True),
}
