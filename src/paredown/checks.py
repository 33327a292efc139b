"""An equality that was tried, with the figure that came out: a change proves itself or is refused."""

import dataclasses
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Check:
    """One measured equality.

    Args:
        name: What was compared, e.g. `"pruned equals masked"`.
        value: Largest absolute difference as a share of the reference's range, unitless.
        tolerance: Largest `value` that passes.
    """

    name: str
    value: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return bool(self.value <= self.tolerance)

    def to_dict(self) -> dict:
        return {**dataclasses.asdict(self), "passed": self.passed}


def largest_difference(reference, other) -> float:
    """Largest |reference - other| over all outputs, each as a share of that reference output's range.

    Args:
        reference, other: Sequences of arrays, pairwise of one shape.
    Returns:
        Unitless; infinity where shapes differ or a value of either is not finite. An output that is nearly
        constant is held against a thousandth of its magnitude, below which float32 cannot tell values apart to
        the tolerances used here; one that is all zero against 1.
    """
    worst = 0.0
    for a, b in zip(reference, other, strict=True):
        a, b = np.asarray(a, "float64"), np.asarray(b, "float64")
        if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
            return float("inf")
        if a.size:
            scale = max(np.ptp(a), 1e-3 * np.abs(a).max()) or 1.0
            worst = max(worst, float(np.abs(a - b).max() / scale))
    return worst


def root_mean_square_difference(reference, other) -> float:
    """The worst output's root mean square difference over its own root mean square.

    Args:
        reference, other: Sequences of arrays, pairwise of one shape.
    Returns:
        Unitless; an output that is all zero is held against 1.
    """
    worst = 0.0
    for a, b in zip(reference, other, strict=True):
        a, b = np.asarray(a, "float64"), np.asarray(b, "float64")
        if a.shape != b.shape:
            return float("inf")
        size = np.sqrt(np.mean(np.square(a))) or 1.0
        worst = max(worst, float(np.sqrt(np.mean(np.square(a - b))) / size))
    return worst
