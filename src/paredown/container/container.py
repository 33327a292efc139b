"""The container of a .tflite file, from which it comes back byte for byte.

    "PDZ", version      4 bytes
    length              8 bytes, little endian: of the whole container
    SHA-256             32 bytes: of the .tflite file
    stream              the table, in LEB128 numbers: length of the .tflite file, number of coded buffers, and for each
                        of them bytes before it since the last, bytes of a value, values, codebook length, codebook
    stream              all that is in no coded buffer, one after the other
    streams             the codes of each buffer
    CRC-32              4 bytes, little endian: of all before it

Damage is found by the CRC before anything is decoded. What is decoded is bounded by what the table says, and that by
`most_bytes`, so that a file made to burst does not; the SHA-256 vouches for the result.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from paredown.container.buffers import find_buffers
from paredown.container.codes import Codes, find_codes
from paredown.container.numbers import Reader, leb128
from paredown.container.streams import PIECE, Stream, packed_stream
from paredown.errors import ModelError

MARK, VERSION = b"PDZ", 1
#: A flatbuffer's own limit.
MOST_BYTES = 1 << 31
_LENGTH = struct.Struct("<Q")
_CHECK = struct.Struct("<I")
_MOST_TABLE = 1 << 26
_FRAME = len(MARK) + 1 + _LENGTH.size + _CHECK.size


@dataclass(frozen=True)
class Coded:
    """A buffer in the table: `gap` bytes behind the one before."""

    gap: int
    codes: Codes


def pack(content: bytes) -> bytes:
    """The container of a file.

    Args:
        content: Any bytes; those of a .tflite file whose weights take few values shrink most.
    """
    found = [(start, end, find_codes(content[start:end])) for start, end in find_buffers(content)]
    coded = [(start, end, codes) for start, end, codes in found if codes is not None]
    packed = _container(content, coded)
    # A codebook is chosen by an estimate: where all of them together are no gain, there are none.
    return min(packed, _container(content, []), key=len) if coded else packed


def _container(content: bytes, coded: list[tuple[int, int, Codes]]) -> bytes:
    table, rest, last = [leb128(len(content)), leb128(len(coded))], [], 0
    for start, end, codes in coded:
        rest.append(content[last:start])
        numbers = (start - last, codes.item, codes.count, len(codes.codebook))
        table += [*map(leb128, numbers), codes.codebook.tobytes()]
        last = end
    rest.append(content[last:])
    streams = [b"".join(table), b"".join(rest), *(codes.pack(content[start:end]) for start, end, codes in coded)]
    body = hashlib.sha256(content).digest() + b"".join(map(packed_stream, streams))
    head = MARK + bytes([VERSION]) + _LENGTH.pack(_FRAME + len(body))
    return head + body + _CHECK.pack(zlib.crc32(head + body))


def unpack(packed: bytes, most_bytes: int = MOST_BYTES, name: str = "the container") -> bytes:
    """The file in a container; arguments and errors as for `unpacked`."""
    return b"".join(unpacked(packed, most_bytes, name))


def unpacked(packed: bytes, most_bytes: int = MOST_BYTES, name: str = "the container") -> Iterator[bytes]:
    """The file in a container, in pieces of a few MB.

    Args:
        packed: What `pack` gave.
        most_bytes: A larger file is refused.
        name: What messages call the container.
    Raises:
        ModelError: If it is none, of another version, cut short, too long, damaged or too large; if the file does not
            fit its SHA-256, behind the last piece.
    """
    reader = Reader(_checked(packed, name))
    digest, wanted = hashlib.sha256(), reader.take(32)
    try:
        for piece in _pieces(reader, most_bytes):
            digest.update(piece)
            yield piece
    except ValueError as error:
        raise ModelError(
            f"A container must hold what its table says. Received: {name}, in which {error}. Pack the file again."
        ) from error
    if digest.digest() != wanted:
        raise ModelError(
            f"The restored file must fit its SHA-256. Received: {name}, {digest.hexdigest()[:16]}… for "
            f"{wanted.hex()[:16]}…. Pack the file again."
        )


def _checked(packed: bytes, name: str) -> memoryview:
    """What is between head and CRC-32."""

    def refuse(rule: str, received: str, instead: str) -> None:
        raise ModelError(f"{rule} Received: {name}, {received}. {instead}")

    start = packed[: len(MARK)]
    if start != MARK:
        refuse("A container must begin with PDZ.", f"which begins with {start!r}", "Make one with paredown pack.")
    if len(packed) < _FRAME:
        refuse("A container must be whole.", f"of {len(packed)} bytes, truncated", "Copy it again.")
    if packed[3] != VERSION:
        refuse(
            f"A container must be of version {VERSION}.",
            f"of version {packed[3]}",
            "Unpack it with the paredown that packed it.",
        )
    (length,) = _LENGTH.unpack_from(packed, 4)
    if length > len(packed):
        refuse("A container must be whole.", f"truncated to {len(packed)} of {length} bytes", "Copy it again.")
    if length < len(packed):
        behind = len(packed) - length
        refuse("Nothing may stand behind a container.", f"with {behind} bytes behind its {length}", "Copy it again.")
    (check,) = _CHECK.unpack_from(packed, length - _CHECK.size)
    found = zlib.crc32(memoryview(packed)[: -_CHECK.size])
    if found != check:
        refuse("A container must fit its CRC-32.", f"damaged ({found:08x} for {check:08x})", "Copy it again.")
    return memoryview(packed)[len(MARK) + 1 + _LENGTH.size : -_CHECK.size]


def _pieces(reader: Reader, most_bytes: int) -> Iterator[bytes]:
    length, coded = _table(Reader(Stream(reader).whole(_MOST_TABLE)))
    if length > most_bytes:
        raise ValueError(f"a file of {length} bytes stands where {most_bytes} are the most")
    rest = Stream(reader)
    if rest.length + sum(one.codes.size_bytes for one in coded) != length:
        raise ValueError(f"the parts do not add up to {length} bytes")
    others = _Rest(rest)
    for one in coded:
        yield from others.take(one.gap)
        yield from _values(one.codes, Stream(reader))
    yield from others.take(None)
    if reader.left:
        raise ValueError(f"{reader.left} bytes belong to no stream")


def _table(reader: Reader) -> tuple[int, list[Coded]]:
    length, coded = reader.number(), []
    for _ in range(reader.number()):
        gap, item, count, values = (reader.number() for _ in range(4))
        coded.append(Coded(gap, Codes.read(item, count, reader.take(item * values))))
    if reader.left:
        raise ValueError(f"{reader.left} bytes stand behind the table")
    return length, coded


def _values(codes: Codes, stream: Stream) -> Iterator[bytes]:
    if stream.length != codes.packed_bytes:
        raise ValueError(f"{stream.length} bytes of codes stand where {codes.packed_bytes} belong")
    left = codes.size_bytes
    for piece in stream.pieces(PIECE):  # an even number of bytes: no code is cut
        values = codes.unpack(piece)[:left]
        left -= len(values)
        yield values


class _Rest:
    """The stream of what is in no coded buffer, handed out bit by bit."""

    def __init__(self, stream: Stream):
        self._left, self._pieces, self._held = stream.length, stream.pieces(), b""

    def take(self, count: int | None) -> Iterator[bytes]:
        """The next `count` bytes; None: all that are left, which are then known to be all."""
        wanted = self._left if count is None else count
        if wanted > self._left:
            raise ValueError(f"{wanted} bytes are asked for where {self._left} are left")
        self._left -= wanted
        while wanted:
            self._held = self._held or next(self._pieces)
            piece, self._held = self._held[:wanted], self._held[wanted:]
            wanted -= len(piece)
            yield piece
        if count is None:
            for piece in self._pieces:
                raise ValueError(f"{len(piece)} bytes are left over")
