"""Values on an int8 grid: scale·q with whole q in -127 .. 127, as kernels are that a runtime multiplies at full speed.

A scale has at most 17 significant bits, and 17 + 7 = 24: scale·q is exact in float32, in whatever runtime. As the
largest |q| is 127, the scale can be read back from the values.
"""

import numpy as np

#: The largest |q|; -128 is left out, so that the grid has the same reach on both sides.
LARGEST = 127
_BITS = 17


def snapped(values: np.ndarray) -> np.ndarray:
    """Each value at the nearest place of the grid that the largest |value| sets; what is equal stays equal.

    Args:
        values: Any shape, float32.
    Returns:
        The same shape and type. What is on a grid already stays as it is.
    """
    scale = _scale(values)
    return (np.rint(values / scale) * scale).astype(values.dtype)


def scale_of(values: np.ndarray) -> float | None:
    """The scale of the grid that all values are on, as `snapped` leaves them; None where they are on none."""
    return _scale(values) if np.array_equal(values, snapped(values)) else None


def _scale(values: np.ndarray) -> float:
    largest = float(np.abs(values).max(initial=0))
    digits, exponent = np.frexp(largest / LARGEST if largest else 1.0)
    return float(np.ldexp(np.rint(np.ldexp(digits, _BITS)), int(exponent) - _BITS))
