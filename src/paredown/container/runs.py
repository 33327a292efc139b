"""Buffers most of whose values are one and the same, as pruned weights are: how far it is from one other to the next.

    gaps    a byte for each other value: how many of the common one stand before it; 255: so many, and no value yet
    codes   the other values, as `codes.Codes`

The common value then costs nothing itself, where every code of its own would cost a coder about a bit.

Source:
    Han et al. 2016, arXiv:1510.00149, section 2 (relative indices).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from paredown.container.codes import ITEMS, Codes
from paredown.container.streams import PIECE, Stream

_LONG = 255
#: Gaps that are read at once: they stand for at most 255 values each.
_GAPS = 4096
#: The share of one value from which on gaps are worth trying.
_COMMON = 0.5


@dataclass(frozen=True)
class Runs:
    """A buffer.

    Args:
        common: The value that most are, shape (1,).
        others: The other values.
        count: Number of all values.
    """

    common: np.ndarray
    others: Codes
    count: int

    @property
    def size_bytes(self) -> int:
        return self.count * self.others.item

    def pack(self, buffer: bytes | memoryview) -> list[bytes]:
        """Gaps, and codes."""
        values = np.frombuffer(buffer, ITEMS[self.others.item])
        at = np.flatnonzero(values != self.common[0])
        gaps = np.diff(at, prepend=-1) - 1
        long = gaps // _LONG
        bytes_ = np.full(len(gaps) + long.sum(), _LONG, "u1")
        bytes_[np.arange(len(gaps)) + long.cumsum()] = gaps % _LONG
        return [bytes_.tobytes(), self.others.pack(values[at].tobytes())]

    def values(self, gaps: Stream, others: Callable[[int], bytes]) -> Iterator[bytes]:
        """The buffer in pieces; `others(n)` gives the next n bytes of the other values.

        Raises:
            ValueError: If gaps lead beyond the buffer.
        """
        left = self.count
        for piece in gaps.pieces(_GAPS):
            read = np.frombuffer(piece, "u1")
            ends = np.cumsum(np.where(read == _LONG, _LONG, read.astype("i8") + 1))
            if ends[-1] > left:
                raise ValueError(f"gaps lead {ends[-1] - left} values beyond a buffer of {self.count}")
            left -= int(ends[-1])
            out = np.full(ends[-1], self.common[0], self.common.dtype)
            at = ends[read < _LONG] - 1
            out[at] = np.frombuffer(others(len(at) * self.others.item), out.dtype)
            yield out.tobytes()
        while left:
            some = min(left, PIECE // self.others.item)
            left -= some
            yield np.full(some, self.common[0]).tobytes()

    @staticmethod
    def of(codes: Codes, buffer: bytes | memoryview) -> "Runs | None":
        """Of a buffer that has a codebook; None where no value is common enough, or is the only one."""
        values = np.frombuffer(buffer, ITEMS[codes.item])
        times = np.bincount(np.searchsorted(codes.codebook, values), minlength=len(codes.codebook))
        place = int(times.argmax())
        others = codes.count - int(times[place])
        if not others or times[place] < _COMMON * codes.count:
            return None
        rest = Codes(codes.item, np.delete(codes.codebook, place), others)
        return Runs(codes.codebook[place : place + 1], rest, codes.count)
