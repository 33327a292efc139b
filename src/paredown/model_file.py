"""Reading and writing `.keras` files: every way in which one can be no good becomes one line."""

import errno
import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from paredown.errors import ModelError, OutputError
from paredown.files import replacing, writable_folder

# What other files than `.keras` begin with, and what to do with them.
_HDF5 = "an HDF5 file. Convert it: keras.models.load_model(path, compile=False).save('model.keras')"
_MAGIC = {
    b"\x89HDF": _HDF5,
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF",
    b"\x1f\x8b": "a gzip archive. Unpack it first",
}


def load_model(path: str | os.PathLike, trust: bool = False) -> Any:
    """Loads a `.keras` file; the file is only read.

    Args:
        path: The file.
        trust: Run the code that the file holds (Lambda layers); without it such a file is refused.
    Returns:
        The model, as it was compiled.
    Raises:
        ModelError: If there is no such file, it is not a whole `.keras` file, or a class in it cannot be found.
    """
    path = Path(path)
    config = _read_config(path)
    import keras

    import paredown.blocks  # noqa: F401  Its layers are known to Keras once it is imported.

    if not trust and (found := _first_code(config)):
        raise ModelError(
            f"A .keras file must hold no code. Received: {path}, with Python code in layer {found!r}. If you trust "
            "where it comes from, say --trust; better, put a layer or keras.ops in its place."
        )
    try:
        return keras.saving.load_model(path, safe_mode=not trust)
    except MemoryError:
        raise
    except Exception as error:
        raise ModelError(_why(path, error)) from error


def check_model(model: Any) -> None:
    """Sees that a network can be treated at all: Functional or Sequential, built, of finite weights.

    Raises:
        ModelError: At the first thing that is not so; names layer and weight.
    """
    from paredown.network import Network

    for call in Network(model).all_calls():
        for weight in getattr(call.operation, "weights", ()):
            values = np.asarray(weight)
            if values.dtype.kind in "fV" and not np.isfinite(values.astype("float32")).all():
                wrong = values.astype("float32")
                raise ModelError(
                    f"Weights must be finite numbers. Received: {int((~np.isfinite(wrong)).sum())} NaN or infinite "
                    f"values in {weight.name!r} of layer {call.path!r}. Train again, or take an earlier checkpoint."
                )


def save_model(model: Any, path: str | os.PathLike) -> Path:
    """Writes a `.keras` file whole or not at all: beside its place first, then moved there.

    Args:
        path: Ends in `.keras`; its folder exists or is made. A file that is there is replaced.
    Returns:
        The path.
    Raises:
        OutputError: If it cannot be written (full disk, no permission); nothing is left behind.
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise OutputError(
            f"A model's file name must end in .keras. Received: {path}. Use {path.with_suffix('.keras')}."
        )
    writable_folder(path.parent)
    with replacing(path) as aside:
        try:
            model.save(aside)
        except RuntimeError as error:  # What h5py makes of a full disk.
            raise OSError(errno.ENOSPC, f"{' '.join(str(error).split())[:100]}") from error
    return path


def _read_config(path: Path) -> dict[str, Any]:
    """The architecture in the file, read without running or building anything."""
    if path.is_dir():
        what = "a SavedModel folder" if (path / "saved_model.pb").is_file() else "a folder"
        raise ModelError(
            f"The model must be a .keras file. Received: {path}, {what}. Save it with model.save('m.keras')."
        )
    try:
        start = path.open("rb").read(8)
    except FileNotFoundError as error:
        raise ModelError(
            f"The model file must exist. Received: {path}, which is not there (seen from {Path.cwd()})."
        ) from error
    except OSError as error:
        raise ModelError(f"The model file must be readable. Received: {path}: {error.strerror}.") from error
    if not start.startswith(b"PK"):
        raise ModelError(f"The model must be a .keras file. Received: {path}, {_kind(path, start)}.")
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if "config.json" not in names:
                raise ModelError(
                    f"The model must be a .keras file. Received: {path}, a zip archive without config.json that holds "
                    f"{', '.join(sorted(names)[:3]) or 'nothing'}. Save the model with model.save('m.keras')."
                )
            damaged = archive.testzip()
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, EOFError, ValueError, OSError, NotImplementedError) as error:
        raise ModelError(_damaged(path, str(error).rstrip("."))) from error
    if damaged is not None:
        raise ModelError(_damaged(path, f"{damaged} does not fit its checksum"))
    return config


def _damaged(path: Path, reason: str) -> str:
    return (
        f"The .keras file must be whole. Received: {path} of {path.stat().st_size} bytes, truncated or damaged "
        f"({reason}). Copy or download it again."
    )


def _kind(path: Path, start: bytes) -> str:
    if not start:
        return "an empty file"
    if start[4:8] == b"TFL3":
        return "a .tflite file. Give the .keras file that it was made from"
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            return kind
    return f"which begins with {start[:4]!r}. Save the model with model.save('m.keras')"


def _first_code(config: Any, layer: str = "") -> str | None:
    """Name of the first layer anywhere in a config that carries Python code (a lambda); None where there is none."""
    if isinstance(config, list):
        return next((found for value in config if (found := _first_code(value, layer))), None)
    if not isinstance(config, dict):
        return None
    if config.get("class_name") == "__lambda__":
        return layer or "a lambda"
    inner = config.get("config")
    if isinstance(inner, dict) and "name" in inner:
        layer = str(inner["name"])
    return next((found for value in config.values() if (found := _first_code(value, layer))), None)


def _why(path: Path, error: Exception) -> str:
    text = " ".join(str(error).split())
    if unknown := re.search(r"Could not locate \w+ '([^']+)'", text):
        name = unknown[1]
        return (
            f"Every class in a .keras file must be known. Received: {path} with {name!r}, which is neither Keras's nor "
            "registered. Import the module that defines it, with @keras.saving.register_keras_serializable(), first."
        )
    if "safe_mode" in text:
        return f"A .keras file must hold no code. Received: {path}, which does. If you trust it, say --trust."
    return (
        f"The .keras file must load with this Keras. Received: {path}: {type(error).__name__}: {text[:200]}. "
        "Save it again with the Keras version in use."
    )
