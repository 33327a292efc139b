"""Files into containers and back."""

import os
from dataclasses import dataclass
from pathlib import Path

from paredown.container.container import MOST_BYTES, pack, unpacked
from paredown.errors import CheckError, ModelError, SettingError
from paredown.files import replacing
from paredown.measure.size import deflated_bytes, read_tflite


@dataclass(frozen=True)
class Packed:
    """A file and its container.

    Args:
        path: The container.
        size_bytes: Of the .tflite file.
        zipped_bytes: Of it after deflate at level 9.
        packed_bytes: Of the container.
    """

    path: Path
    size_bytes: int
    zipped_bytes: int
    packed_bytes: int


def pack_file(path: str | os.PathLike, out: str | os.PathLike) -> Packed:
    """Writes the container of a .tflite file, once it has been seen to give the file back.

    Args:
        path: The .tflite file.
        out: The container; what is there is replaced.
    Raises:
        ModelError: If it is no .tflite file.
        OutputError: If `out` cannot be written; nothing is left there.
    """
    _apart(path, out)
    content = read_tflite(path)
    packed = pack(content)
    if b"".join(unpacked(packed)) != content:
        raise CheckError(f"A container must give its file back. Received: {path}, which came back changed.")
    with replacing(out) as aside:
        aside.write_bytes(packed)
    return Packed(Path(out), len(content), deflated_bytes(content), len(packed))


def unpack_file(path: str | os.PathLike, out: str | os.PathLike, most_bytes: int = MOST_BYTES) -> int:
    """Restores the file of a container, piece by piece.

    Args:
        path: The container.
        out: The .tflite file; what is there is replaced once all of it is restored and fits its SHA-256.
        most_bytes: A larger file is refused.
    Returns:
        Size of the restored file, bytes.
    Raises:
        ModelError: If it is no container, or is damaged; see `unpacked`.
        OutputError: If `out` cannot be written; nothing is left there.
    """
    _apart(path, out)
    try:
        packed = Path(path).read_bytes()
    except OSError as error:
        raise ModelError(f"A container must be readable. Received: {path} ({error.strerror}).") from error
    size = 0
    with replacing(out) as aside, aside.open("wb") as file:
        for piece in unpacked(packed, most_bytes, str(path)):
            size += file.write(piece)
    return size


def _apart(path: str | os.PathLike, out: str | os.PathLike) -> None:
    if Path(path).resolve() == Path(out).resolve():
        raise SettingError(f"The result must not take its source's place. Received: {path} for both. Use another name.")
