"""Buffers that hold few different values, as a codebook and codes.

codebook    the values, sorted as unsigned numbers of 1, 2 or 4 bytes
codes       each value's place in the codebook, of as many bits as that needs; as many whole codes to a byte as go
            (8 of one bit, 4 of two, 2 of three or four, else 1), so that equal codes look alike to the coder behind
"""

import math
from dataclasses import dataclass

import numpy as np

#: So many values at most: beyond, a codebook is as large as what it saves.
MOST_VALUES = 4096
#: Shorter buffers are not worth a codebook.
LEAST_BYTES = 64
#: Of a buffer's bytes as an order-0 coder packs them, the share that codes must stay below.
_WORTH = 0.98
ITEMS = {4: np.dtype("<u4"), 2: np.dtype("<u2"), 1: np.dtype("u1")}


@dataclass(frozen=True)
class Codes:
    """A buffer.

    Args:
        item: Bytes of one value.
        codebook: Different values, sorted.
        count: Number of values in the buffer.
    """

    item: int
    codebook: np.ndarray
    count: int

    def __post_init__(self):
        if self.item not in ITEMS or not 1 <= len(self.codebook) <= MOST_VALUES:
            raise ValueError(f"a codebook of {len(self.codebook)} values of {self.item} bytes cannot be")

    @property
    def width(self) -> int:
        """Bits of one code."""
        return max(1, math.ceil(math.log2(len(self.codebook))))

    @property
    def per_byte(self) -> int:
        return max(1, 8 // self.width)

    @property
    def size_bytes(self) -> int:
        """Of the buffer."""
        return self.count * self.item

    @property
    def packed_bytes(self) -> int:
        """Of the codes."""
        return 2 * self.count if self.width > 8 else -(-self.count // self.per_byte)

    def pack(self, buffer: bytes | memoryview) -> bytes:
        """The codes of the buffer's values."""
        codes = np.searchsorted(self.codebook, np.frombuffer(buffer, ITEMS[self.item]))
        if self.width > 8:
            return codes.astype("<u2").tobytes()
        rows = np.zeros((self.packed_bytes, self.per_byte), "u1")
        rows.reshape(-1)[: self.count] = codes
        return np.bitwise_or.reduce(rows << self._shifts, axis=1).astype("u1").tobytes()

    def unpack(self, packed: bytes) -> bytes:
        """The values of some whole bytes of codes; those beyond `count` behind the last byte are the caller's to cut.

        Raises:
            ValueError: If a code is beyond the codebook.
        """
        if self.width > 8:
            codes = np.frombuffer(packed, "<u2")
        else:
            codes = (np.frombuffer(packed, "u1")[:, None] >> self._shifts & (1 << self.width) - 1).reshape(-1)
        if codes.size and codes.max() >= len(self.codebook):
            raise ValueError(f"code {codes.max()} is beyond a codebook of {len(self.codebook)} values")
        return self.codebook[codes].tobytes()

    @property
    def _shifts(self) -> np.ndarray:
        return (np.arange(self.per_byte) * self.width).astype("u1")

    @staticmethod
    def read(item: int, count: int, values: bytes) -> "Codes":
        """From what `codebook.tobytes()` gave."""
        return Codes(item, np.frombuffer(values, ITEMS.get(item, np.dtype("u1"))), count)


def find_codes(buffer: bytes | memoryview) -> Codes | None:
    """The codebook that makes most of a buffer; None where its bytes are better left as they are."""
    if len(buffer) < LEAST_BYTES:
        return None
    best, least = None, _WORTH * _bits(_times(np.frombuffer(buffer, "u1"))) / 8
    for item, dtype in ITEMS.items():
        values = np.frombuffer(buffer, dtype) if len(buffer) % item == 0 else None
        if values is None or len(np.unique(values[: 4 * MOST_VALUES])) > MOST_VALUES:
            continue
        codebook, times = np.unique(values, return_counts=True)
        cost = _bits(times) / 8 + codebook.nbytes
        if len(codebook) <= MOST_VALUES and cost < least:
            found = Codes(item, codebook, len(values))
            if found.width < 8 * item:
                best, least = found, cost
    return best


def _times(bytes_: np.ndarray) -> np.ndarray:
    times = np.bincount(bytes_)
    return times[times > 0]


def _bits(times: np.ndarray) -> float:
    """What an ideal coder makes of so many of each, each by itself."""
    return float(-(times * np.log2(times / times.sum())).sum())
