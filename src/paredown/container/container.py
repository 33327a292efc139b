"""The container of a .tflite file, from which it comes back byte for byte.

    "PDZ", version      4 bytes
    length              8 bytes, little endian: of the whole container
    SHA-256             32 bytes: of the .tflite file
    stream              the table, in LEB128 numbers: length of the .tflite file, number of coded buffers, and for each
                        of them bytes before it since the last, bytes of a value, values, codebook length, codebook,
                        and how many are not the most common value; 0: it has no gaps. With gaps the codebook starts
                        with the most common value.
    stream              all that is in no coded buffer, one after the other
    streams             of each buffer its gaps, where it has them, and its codes
    CRC-32              4 bytes, little endian: of all before it

Damage is found by the CRC before anything is decoded. What is decoded is bounded by what the table says, and that by
`most_bytes`, so that a file made to burst does not; the SHA-256 vouches for the result.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from paredown.container.codes import LEAST_BYTES, Codes, find_codes
from paredown.container.numbers import Reader, leb128
from paredown.container.runs import Runs
from paredown.container.streams import PIECE, Stream, packed_stream
from paredown.errors import ModelError
from paredown.tflite import find_buffers

MARK, VERSION = b"PDZ", 1
#: A flatbuffer's own limit.
MOST_BYTES = 1 << 31
_LENGTH = struct.Struct("<Q")
_CHECK = struct.Struct("<I")
_MOST_TABLE = 1 << 26
_FRAME = len(MARK) + 1 + _LENGTH.size + _CHECK.size


@dataclass(frozen=True)
class Coded:
    """A buffer in the table: `before` bytes behind the one before, as codes or as gaps and codes."""

    before: int
    form: Codes | Runs

    def entry(self) -> bytes:
        form = self.form
        codes, others, first = (
            (form.others, form.others.count, form.common.tobytes()) if isinstance(form, Runs) else (form, 0, b"")
        )
        codebook = first + codes.codebook.tobytes()
        numbers = (self.before, codes.item, form.count, len(codebook) // codes.item)
        return b"".join([*map(leb128, numbers), codebook, leb128(others)])

    @staticmethod
    def read(reader: Reader) -> "Coded":
        before, item, count, values = (reader.number() for _ in range(4))
        codebook, others = reader.take(item * values), reader.number()
        if not others:
            return Coded(before, Codes.read(item, count, codebook))
        rest = Codes.read(item, others, codebook[item:])
        return Coded(before, Runs(np.frombuffer(codebook[:item], rest.codebook.dtype), rest, count))


def pack(content: bytes) -> bytes:
    """The container of a file.

    Args:
        content: Any bytes; those of a .tflite file whose weights take few values shrink most.
    """
    # What is found decides how well the file is packed, never whether it is restored.
    found = [(start, end, find_codes(content[start:end])) for start, end in find_buffers(content, LEAST_BYTES)]
    coded = [(start, end, codes) for start, end, codes in found if codes is not None]
    packed = _container(content, coded)
    # A codebook is chosen by an estimate: where all of them together are no gain, there are none.
    return min(packed, _container(content, []), key=len) if coded else packed


def _container(content: bytes, coded: list[tuple[int, int, Codes]]) -> bytes:
    table, rest, last = [leb128(len(content)), leb128(len(coded))], [], 0
    streams: list[bytes] = []
    for start, end, codes in coded:
        rest.append(content[last:start])
        form, packed = _best(codes, content[start:end])
        table.append(Coded(start - last, form).entry())
        streams += packed
        last = end
    rest.append(content[last:])
    first = [packed_stream(b"".join(table)), packed_stream(b"".join(rest))]
    body = b"".join([hashlib.sha256(content).digest(), *first, *streams])
    head = MARK + bytes([VERSION]) + _LENGTH.pack(_FRAME + len(body))
    return head + body + _CHECK.pack(zlib.crc32(head + body))


def _best(codes: Codes, buffer: bytes) -> tuple[Codes | Runs, list[bytes]]:
    """The shorter of a buffer's forms, and its streams."""
    runs = Runs.of(codes, buffer)
    forms = [(codes, [codes.pack(buffer)]), *([(runs, runs.pack(buffer))] if runs else [])]
    packed = [(form, [packed_stream(plain) for plain in plains]) for form, plains in forms]
    return min(packed, key=lambda one: sum(map(len, one[1])))


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
    if rest.length + sum(one.form.size_bytes for one in coded) != length:
        raise ValueError(f"the parts do not add up to {length} bytes")
    others = _Rest(rest.pieces(), rest.length)
    for one in coded:
        yield from others.take(one.before)
        yield from _form(one.form, reader)
    yield from others.take(None)
    if reader.left:
        raise ValueError(f"{reader.left} bytes belong to no stream")


def _table(reader: Reader) -> tuple[int, list[Coded]]:
    length, coded = reader.number(), []
    for _ in range(reader.number()):
        coded.append(Coded.read(reader))
    if reader.left:
        raise ValueError(f"{reader.left} bytes stand behind the table")
    return length, coded


def _form(form: Codes | Runs, reader: Reader) -> Iterator[bytes]:
    if isinstance(form, Codes):
        yield from _values(form, Stream(reader))
        return
    gaps = Stream(reader)
    others = _Rest(_values(form.others, Stream(reader)), form.others.size_bytes)
    yield from form.values(gaps, lambda count: b"".join(others.take(count)))
    for _ in others.take(None):
        raise ValueError("values are left over behind the last gap")


def _values(codes: Codes, stream: Stream) -> Iterator[bytes]:
    if stream.length != codes.packed_bytes:
        raise ValueError(f"{stream.length} bytes of codes stand where {codes.packed_bytes} belong")
    left = codes.size_bytes
    for piece in stream.pieces(PIECE):  # an even number of bytes: no code is cut
        values = codes.unpack(piece)[:left]
        left -= len(values)
        yield values


class _Rest:
    """Pieces of `length` bytes in all, handed out in other portions."""

    def __init__(self, pieces: Iterator[bytes], length: int):
        self._left, self._pieces, self._held = length, pieces, b""

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
