"""What every command does first: cheap checks while nothing heavy is loaded, then the backend, quietly."""

import os
from importlib.util import find_spec
from pathlib import Path

from paredown.errors import DataError, ModelError, ParedownError, SettingError

_BACKENDS = ("tensorflow", "jax", "torch")


def check_file(path: Path, what: str, error: type[ParedownError] = SettingError) -> None:
    """Raises `error` unless `path` is a file that can be read."""
    if path.is_dir():
        raise error(f"{what} must be a file. Received: {path}, a folder. Name the file itself.")
    try:
        with path.open("rb"):
            pass
    except OSError as reason:
        raise error(f"{what} must be a file that can be read. Received: {path} ({reason.strerror}).") from reason


def check_data(source: str) -> None:
    """Raises DataError where a source is none of the known forms, or its file is not there; imports no Keras."""
    from paredown.data import Data
    from paredown.data.sources import BUILTIN

    place, colon, _ = source.rpartition(":")
    if source.endswith(".npz") or place.endswith(".py"):
        check_file(Path(place if place.endswith(".py") else source), "Data", DataError)
    elif source not in BUILTIN and not colon:
        Data.load(source)  # Refuses the name, with the forms that it takes, before it loads anything.


def check_recipe(path: Path) -> None:
    """Raises SettingError unless `path` has the form of a recipe; its transforms are looked at when Keras is loaded."""
    from paredown.recipe import parse

    check_file(path, "A recipe")
    try:
        parse(path.read_text(encoding="utf-8"))
    except (SettingError, UnicodeDecodeError) as error:
        raise SettingError(f"{path}: {error}") from error


def check_tflite(path: Path) -> None:
    """Raises ModelError unless `path` begins as a .tflite file does."""
    check_file(path, "A .tflite model", ModelError)
    with path.open("rb") as file:
        head = file.read(8)
    if head[4:] != b"TFL3":
        raise ModelError(f"A .tflite model must start with the TFL3 mark at byte 4. Received: {path} without it.")


def prepare() -> None:
    """Chooses Keras's backend where the user has not, and loads it without its chatter."""
    choose_backend()
    from paredown.measure.quiet import quiet

    # The backend logs while it is imported, before any setting of its own is read.
    with quiet():
        import keras  # noqa: F401


def choose_backend() -> None:
    """Sets Keras's backend where the user has not, and how much it logs; imports neither.

    Raises:
        SettingError: If no backend is installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    chosen = os.environ.get("KERAS_BACKEND")
    found = next((name for name in _BACKENDS if find_spec(name)), None)
    if chosen is None and found is None:
        raise SettingError(
            f"Keras needs a backend. Received: none of {', '.join(_BACKENDS)} is installed. "
            'Install one with: pip install "paredown[cpu]"'
        )
    os.environ.setdefault("KERAS_BACKEND", found or "")
    if find_spec("absl"):
        from absl import logging

        logging.set_verbosity(logging.ERROR)
