"""A channel's worth, one small function each; higher means keep.

To add a criterion: write one function and one row in `CRITERIA`. What it is given depends on the row's `reads`:
`kernel`, the weights that make the channels, shape (weights per channel, channels); `scale`, the factors by which a
BatchNormalization multiplies them, shape (channels,); `activations`, what the layers that read the channels see of
them (see `statistics`); `gradients`, what the loss makes of them (see `gradients`); or `nothing` but their number.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from paredown.gradients import GradientStatistics
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
    reads: Literal["kernel", "scale", "activations", "gradients", "moments", "nothing"]
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


def geometric_median(kernel: np.ndarray) -> np.ndarray:
    """Sum of the Euclidean distances to the layer's other channels: the one closest to all the others goes first.

    Args:
        kernel: Shape (weights per channel, channels).
    Returns:
        Shape (channels,), in units of the weights.
    Source:
        He et al. 2019 (FPGM), arXiv:1811.00250, section 3.2, equation 6.
    """
    w = kernel.astype("float64")
    products = w.T @ w
    squares = np.diag(products)
    # |a - b|² = |a|² + |b|² - 2 ab, which rounding can bring just below zero.
    return np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0)).sum(1)


def batch_norm_scale(gamma: np.ndarray) -> np.ndarray:
    """Size of the factor by which BatchNormalization multiplies each channel.

    Channels that no BatchNormalization with a scale carries have no score and stay.

    Args:
        gamma: Shape (channels,).
    Returns:
        Shape (channels,), unitless.
    Source:
        Liu et al. 2017 (network slimming), arXiv:1708.06519, section 3.
    """
    return np.abs(gamma)


def activation_count(activations: ActivationStatistics) -> np.ndarray:
    """How often each channel is above zero, over all examples and positions.

    Returns:
        Shape (channels,), a count; `threshold=0` removes the channels that were never active.
    Source:
        Çallı 2017, Optimizing Neural Networks for Mobile Devices, section 2.2.2.
    """
    return activations.sums["positive"]


def activation_probability(activations: ActivationStatistics) -> np.ndarray:
    """The share of examples and positions at which each channel is above zero.

    Returns:
        Shape (channels,), a share in [0, 1].
    Source:
        Çallı 2017, Optimizing Neural Networks for Mobile Devices, section 2.2.3.
    """
    return activations.sums["positive"] / activations.positions


def apoz(activations: ActivationStatistics) -> np.ndarray:
    """One less the average percentage of zeros: a channel that is mostly zero goes first.

    Returns:
        Shape (channels,), a share in [0, 1].
    Source:
        Hu et al. 2016, arXiv:1607.03250, section 3.1 (where the *high* share of zeros is what goes).
    """
    return 1 - activations.sums["zero"] / activations.positions


def activation_mean(activations: ActivationStatistics) -> np.ndarray:
    """Each channel's mean activation over all examples and positions.

    Returns:
        Shape (channels,), in units of the activations.
    Source:
        Molchanov et al. 2016, arXiv:1611.06440, section 2.2, "Activation".
    """
    return activations.sums["value"] / activations.positions


def outliers(activations: ActivationStatistics) -> np.ndarray:
    """How many standard deviations each channel's mean activation lies above the mean of its layer's channels.

    Returns:
        Shape (channels,), unitless; `threshold=-2` removes the channels at or below mean - 2 * std. Zeros where all
        channels are alike.
    Source:
        Çallı 2017, Optimizing Neural Networks for Mobile Devices, section 2.2.3, "Pruning Outliers".
    """
    mean = activation_mean(activations)
    return (mean - mean.mean()) / (mean.std() or 1.0)


def taylor_2016(gradients: GradientStatistics) -> np.ndarray:
    """The first-order change of the loss without the channel, in absolute value per example, averaged.

    That is the mean over examples of |mean over positions of a * dL/da|, divided by its Euclidean norm over the
    layer's channels (in which the number of positions cancels).

    Returns:
        Shape (channels,), unitless, of Euclidean norm 1; zeros where no channel changes the loss.
    Source:
        Molchanov et al. 2016, arXiv:1611.06440, section 2.2, equations 7 and 8.
    """
    return gradients.absolute / (np.linalg.norm(gradients.absolute) or 1.0)


def taylor_2019(gradients: GradientStatistics) -> np.ndarray:
    """The square of the first-order change of a batch's mean loss when a gate on the channel closes, averaged.

    Returns:
        Shape (channels,), in units of the loss squared. It depends on `batch_size`: the larger a batch, the more
        the gradients of its examples cancel.
    Source:
        Molchanov et al. 2019, arXiv:1906.10771, section 3, equation 8, on a gate.
    """
    return gradients.batch_square


def fisher(gradients: GradientStatistics) -> np.ndarray:
    """The rise of the loss without the channel, from the diagonal of the empirical Fisher information.

    1/(2N) * sum over examples n of g_n², where g_n = -sum over positions of a * dL_n/da: squared per example.

    Returns:
        Shape (channels,), in units of the loss.
    Source:
        Theis et al. 2018, arXiv:1801.05787, section 2.1, equation 5.
    """
    return gradients.square / 2


def random(channels: int, generator: np.random.Generator) -> np.ndarray:
    """A random order: the baseline that every criterion must beat.

    Returns:
        Shape (channels,), uniform in [0, 1).
    """
    return generator.random(channels)


CRITERIA: dict[str, Criterion] = {
    "activation_count": Criterion(activation_count, "activations", ("positive",)),
    "activation_probability": Criterion(activation_probability, "activations", ("positive",), comparable=True),
    "apoz": Criterion(apoz, "activations", ("zero",), comparable=True),
    "activation_mean": Criterion(activation_mean, "activations", ("value",)),
    "outliers": Criterion(outliers, "activations", ("value",), comparable=True),
    "l1_norm": Criterion(l1_norm, "kernel"),
    "l2_norm": Criterion(l2_norm, "kernel"),
    "geometric_median": Criterion(geometric_median, "kernel"),
    "batch_norm_scale": Criterion(batch_norm_scale, "scale", comparable=True),
    "taylor_2016": Criterion(taylor_2016, "gradients", comparable=True),
    "taylor_2019": Criterion(taylor_2019, "gradients", comparable=True),
    "fisher": Criterion(fisher, "gradients", comparable=True),
    "random": Criterion(random, "nothing", comparable=True),
    "redundancy": Criterion(redundancy, "moments", comparable=True),
    "structured_obs": Criterion(structured_obs, "moments", comparable=True),
    "thinet": Criterion(thinet, "moments", comparable=True),
}
