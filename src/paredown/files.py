"""Files appear whole or not at all: written aside in the same folder, then renamed."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paredown.errors import OutputError


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a path beside `path` to write to, and renames it to `path` when the block ends without an error.

    Raises:
        OutputError: If the folder is missing or cannot be written, or the disk is full; nothing is left behind.
    """
    path = Path(path)
    aside = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        aside = Path(name)
        # mkstemp makes the file for its owner alone; the result gets what any new file here would get.
        mask = os.umask(0)
        os.umask(mask)
        aside.chmod(0o666 & ~mask)
        yield aside
        os.replace(aside, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if aside is not None:
            aside.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file whole or not at all."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def writable_folder(path: str | os.PathLike) -> Path:
    """The folder, made where it is missing.

    Raises:
        OutputError: If it cannot be made or written to.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):
            pass
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


def cache_folder() -> Path:
    """Where paredown keeps what it can make anew: in XDG_CACHE_HOME, else in ~/.cache. It need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paredown"


def cannot_write(path: Path, error: OSError) -> OutputError:
    """The error for a place that cannot be written."""
    return OutputError(
        f"The result must be writable. Received: {str(path)!r}: {error.strerror or error}. "
        "Give another place with --out (out=), or make room there."
    )
