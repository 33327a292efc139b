"""Whole numbers in as few bytes as they need, and a reader that never reads beyond the end."""

_LONGEST = 9


def leb128(value: int) -> bytes:
    """Seven bits a byte, lowest first; the highest bit says that more follow."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


class Reader:
    """Takes bytes from the front.

    Raises:
        ValueError: By each method, if the content is too short.
    """

    def __init__(self, content: bytes | memoryview):
        self._content, self.at = memoryview(content), 0

    @property
    def left(self) -> int:
        return len(self._content) - self.at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise ValueError(f"{count} bytes are asked for where {self.left} are left")
        self.at += count
        return bytes(self._content[self.at - count : self.at])

    def number(self) -> int:
        value = 0
        for place in range(_LONGEST):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return value
        raise ValueError(f"a number has more than {_LONGEST} bytes")
