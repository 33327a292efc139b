"""A kernel as indices into codebooks.

    kernel[row, i] = scale[row] * codebook[row // size, index[row, i]]

A row is an output channel. A network whose BatchNormalization was folded into its kernels has a scale for each row:
the values that the layer's weights share lie in the file times gamma / sqrt(variance + epsilon).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from paredown.packed.bits import MOST, packed_bytes, width_of
from paredown.packed.scales import common_codebook

_FLOAT_BYTES = 4


@dataclass(frozen=True, eq=False)
class Codes:
    """A kernel's indices and codebooks.

    Args:
        indices: uint8 (rows, n).
        codebooks: float32 (codebooks, k); a shorter one is filled up with zeros.
        size: Neighbouring rows that have one codebook.
        scales: float32 (rows,); None where all are 1.
    """

    indices: np.ndarray
    codebooks: np.ndarray
    size: int
    scales: np.ndarray | None = None

    @property
    def bits(self) -> int:
        """Width of an index in a file."""
        return width_of(self.codebooks.shape[1])

    @property
    def groups(self) -> np.ndarray:
        """The codebook of each row, (rows,)."""
        return np.arange(len(self.indices)) // self.size

    @property
    def payload_bytes(self) -> int:
        """What indices at their width, codebooks, and a number for each row that has more than one codebook to choose
        from, or a scale, take."""
        rows = len(self.indices)
        by_row = (self.scales is not None) + (len(self.codebooks) > 1)
        return packed_bytes(self.indices.size, self.bits) + _FLOAT_BYTES * (self.codebooks.size + by_row * rows)

    def rows(self) -> np.ndarray:
        """The kernel again, float32 (rows, n)."""
        made = self.codebooks[self.groups[:, None], self.indices]
        return made if self.scales is None else made * self.scales[:, None]


def codes_of(rows: np.ndarray) -> Codes | None:
    """The codes of a kernel that take the fewest bytes.

    Args:
        rows: float32 (output channels, weights of each).
    Returns:
        None where no codebook of at most 256 values, nor one for each few channels, gives the kernel.
    """
    if any(len(np.unique(row)) > MOST for row in rows):
        return None
    found = list(_candidates(rows))
    return min(found, key=lambda codes: codes.payload_bytes) if found else None


def _candidates(rows: np.ndarray) -> Iterator[Codes]:
    values, indices = np.unique(rows, return_inverse=True)
    indices = indices.reshape(rows.shape)
    yield from _grouped(values, indices, None)
    widest = max(len(np.unique(row)) for row in indices)
    if len(values) > widest:
        scaled = common_codebook(rows)
        if scaled is not None:
            codebook, places, scales = scaled
            yield Codes(places.astype(np.uint8), codebook[None], len(rows), scales)


def _grouped(values: np.ndarray, indices: np.ndarray, scales: np.ndarray | None) -> Iterator[Codes]:
    """Codes with one codebook for all rows, and for each so many neighbouring ones."""
    count = len(indices)
    row, value = np.divmod(np.unique(np.arange(count)[:, None] * len(values) + indices), len(values))
    for size in _sizes(count):
        # Each value of each group of rows once, group by group.
        keys = np.unique(row // size * len(values) + value)
        groups, starts, lengths = np.unique(keys // len(values), return_index=True, return_counts=True)
        if lengths.max() > MOST:
            continue
        codebooks = np.zeros((len(groups), lengths.max()), np.float32)
        places = np.arange(len(keys)) - np.repeat(starts, lengths)
        codebooks[keys // len(values), places] = values[keys % len(values)]
        found = np.searchsorted(keys, (np.arange(count) // size)[:, None] * len(values) + indices)
        yield Codes(places[found].astype(np.uint8), codebooks, size, scales)


def _sizes(rows: int) -> list[int]:
    """Numbers of neighbouring rows to try: all, those that divide them evenly, and all small ones."""
    even = [size for size in range(1, math.isqrt(rows) + 1) if rows % size == 0]
    return sorted({rows, *even, *(rows // size for size in even), *range(1, min(rows, 17))})
