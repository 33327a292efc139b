"""Weights that share few values: which values, what that loses, and how many bits it takes."""

from paredown.sharing.codebook import VALUE_BITS, WIDTHS, different, error, index_bits, shared, spread, total_bits
from paredown.sharing.fisher import fisher
from paredown.sharing.grid import scale_of, snapped
from paredown.sharing.methods import METHODS
from paredown.sharing.points import Points

__all__ = [
    "METHODS",
    "VALUE_BITS",
    "WIDTHS",
    "Points",
    "different",
    "error",
    "fisher",
    "index_bits",
    "scale_of",
    "shared",
    "snapped",
    "spread",
    "total_bits",
]
