"""Indices at their true width: bit planes that fill whole bytes.

A plane of 1, 2, 4 or 8 bits puts 8, 4, 2 or 1 numbers into a byte, the first into its lowest bits. Other widths are two
planes: 3 = 2 + 1, 5 = 4 + 1, 6 = 4 + 2; each number is what its planes hold, the later one shifted left by the
earlier one's width.
"""

import math

import numpy as np

#: Width of an index -> widths of its planes, the lowest bits first.
PLANES = {1: (1,), 2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 8: (8,)}
#: Most values that an index can tell apart.
MOST = 256


def width_of(values: int) -> int:
    """The narrowest width of `PLANES` that tells so many values apart."""
    return next(width for width in PLANES if 2**width >= values)


def packed_bytes(count: int, width: int) -> int:
    """Bytes of so many indices of a width."""
    return sum(math.ceil(count * plane / 8) for plane in PLANES[width])


def pack(numbers: np.ndarray, plane: int) -> np.ndarray:
    """Numbers below 2**plane, uint8 (count,), as bytes; the last is filled up with zeros."""
    each = 8 // plane
    filled = np.zeros(math.ceil(len(numbers) / each) * each, np.uint8)
    filled[: len(numbers)] = numbers
    shifted = filled.reshape(-1, each) << (plane * np.arange(each, dtype=np.uint8))
    return np.bitwise_or.reduce(shifted, axis=1)


def digits(plane: int) -> np.ndarray:
    """What each of the 256 bytes holds, uint8 (256, 8 // plane)."""
    return (np.arange(256)[:, None] >> (plane * np.arange(8 // plane)) & (2**plane - 1)).astype(np.uint8)


def planes(indices: np.ndarray, width: int) -> list[tuple[int, int, np.ndarray]]:
    """Indices, uint8 (count,), plane by plane: (its width, how far its numbers are to be shifted left, its bytes)."""
    found, shift = [], 0
    for plane in PLANES[width]:
        found.append((plane, shift, pack(indices >> shift & (2**plane - 1), plane)))
        shift += plane
    return found
