"""Streams of bytes, each compressed by the method that suits it best, read back in pieces of bounded size.

    stream := method (1 byte), plain length, packed length (both LEB128), packed bytes

The methods are all of Python's own library. Codes go best through LZMA's adaptive range coder, or, where none is more
likely than a half (`runs` sees to that), through Huffman codes alone; zstd has the latter, too, and nothing better.
"""

import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from paredown.container.numbers import Reader, leb128

PIECE = 1 << 20
#: How much of a stream is tried with every method, from its middle.
_SAMPLE = 1 << 17
_LEVEL = 9
#: So much is handed to a decompressor at once: zlib gives back what it did not take, a copy each time.
_FEED = 1 << 16


@dataclass(frozen=True)
class Method:
    """One row.

    Args:
        pack: pack(plain) gives the packed bytes.
        unpacker: unpacker(plain length) gives an object with `decompress(bytes, most)`, `needs_input` and `eof`.
    """

    pack: Callable[[bytes], bytes]
    unpacker: Callable[[int], Any] | None


def _lzma(lc: int, lp: int, pb: int) -> Method:
    """LZMA whose contexts are lc bits of the byte before and lp bits of the position.

    The window is as large as the content, 64 MiB at most: what reading needs of memory, too.
    """

    def filters(length: int) -> list[dict]:
        window = min(max(4096, length), 64 << 20)
        return [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": window, "lc": lc, "lp": lp, "pb": pb}]

    return Method(
        lambda plain: lzma.compress(plain, lzma.FORMAT_RAW, filters=filters(len(plain))),
        lambda length: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters(length)),
    )


class _Inflate:
    """zlib's decompressor with the interface of lzma's."""

    def __init__(self, length: int):
        self._inner = zlib.decompressobj(-zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    def decompress(self, packed: bytes, most: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + packed, most)


def _deflate(strategy: int) -> Method:
    def pack(plain: bytes) -> bytes:
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, strategy)
        return packer.compress(plain) + packer.flush()

    return Method(pack, _Inflate)


#: A method's number in the file is its place here.
METHODS: tuple[Method, ...] = (
    Method(lambda plain: plain, None),
    _deflate(zlib.Z_DEFAULT_STRATEGY),
    _lzma(0, 0, 0),  # codes: nothing but how frequent each is
    _lzma(0, 2, 2),  # four-byte numbers: each of their bytes has frequencies of its own
    _lzma(3, 0, 2),  # anything
    _deflate(zlib.Z_HUFFMAN_ONLY),  # codes that nothing but their frequencies tells apart, none of them above a half
)
DEFLATE = 1


def packed_stream(plain: bytes) -> bytes:
    """The stream of some bytes: the shortest of deflate, of the method that does best on a sample, and of none."""
    middle = max(0, (len(plain) - _SAMPLE) // 2)
    sample = plain[middle : middle + _SAMPLE]
    best = min(range(2, len(METHODS)), key=lambda number: len(METHODS[number].pack(sample)))
    tried = {number: METHODS[number].pack(plain) for number in (0, DEFLATE, best)}
    method = min(tried, key=lambda number: len(tried[number]))
    packed = tried[method]
    return bytes([method]) + leb128(len(plain)) + leb128(len(packed)) + packed


class Stream:
    """One stream, read from its beginning to its end.

    Args:
        reader: At the stream's first byte; it is left behind its last one.
    Raises:
        ValueError: If the stream cannot be; also from `pieces`.
    """

    def __init__(self, reader: Reader):
        number = reader.take(1)[0]
        if number >= len(METHODS):
            raise ValueError(f"method {number} is unknown")
        self._method, self.length = METHODS[number], reader.number()
        self._packed = reader.take(reader.number())

    def pieces(self, size: int = PIECE) -> Iterator[bytes]:
        """The plain bytes in pieces of `size`, the last one shorter; never more than `length` of them."""
        held, given = bytearray(), 0
        for piece in self._inflated(size):
            given += len(piece)
            if given > self.length:
                raise ValueError(f"a stream holds more than its {self.length} bytes")
            held += piece
            while len(held) >= size:
                yield bytes(held[:size])
                del held[:size]
        if given != self.length:
            raise ValueError(f"a stream holds {given} of its {self.length} bytes")
        if held:
            yield bytes(held)

    def _inflated(self, size: int) -> Iterator[bytes]:
        if self._method.unpacker is None:
            yield from (self._packed[at : at + size] for at in range(0, len(self._packed), size))
            return
        unpacker, packed, at = self._method.unpacker(self.length), self._packed, 0
        try:
            while not unpacker.eof:
                more = packed[at : at + _FEED] if unpacker.needs_input else b""
                at += len(more)
                piece = unpacker.decompress(more, size)
                if not piece and not more and at == len(packed) and not unpacker.eof:
                    raise ValueError("a stream breaks off")
                yield piece
        except (lzma.LZMAError, zlib.error) as error:
            raise ValueError(f"a stream cannot be read ({error})") from error

    def whole(self, most: int) -> bytes:
        """All of it, where that is no more than `most` bytes."""
        if self.length > most:
            raise ValueError(f"a stream of {self.length} bytes stands where {most} are the most")
        return b"".join(self.pieces())
