"""Bytes of a .tflite file, as it lies on a disk and as it travels."""

import os
import zlib
from pathlib import Path

from paredown.errors import ModelError

DEFLATE_LEVEL = 9
# Flatbuffers carry their format's name here.
_MARK, _PLACE = b"TFL3", slice(4, 8)


def read_tflite(path: str | os.PathLike) -> bytes:
    """The content of a .tflite file.

    Raises:
        ModelError: If the file is missing, unreadable or not a .tflite file.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"A .tflite file must exist. Received: {path}, which is no file. Check the path.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"A .tflite file must be readable. Received: {path} ({error.strerror}).") from error
    if content[_PLACE] != _MARK:
        raise ModelError(
            f"The file must be a LiteRT network (.tflite). Received: {path}, which begins with {content[:8]!r}. "
            "Make one with export_litert or paredown compress."
        )
    return content


def size_bytes(path: str | os.PathLike) -> int:
    """Size of the .tflite file, bytes."""
    return len(read_tflite(path))


def zipped_bytes(path: str | os.PathLike) -> int:
    """Size of the .tflite file alone after deflate at level 9, bytes: what a store or a web server sends."""
    return deflated_bytes(read_tflite(path))


def deflated_bytes(content: bytes) -> int:
    """Size of `content` as a raw deflate stream at level 9, bytes."""
    packer = zlib.compressobj(DEFLATE_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return len(packer.compress(content)) + len(packer.flush())
