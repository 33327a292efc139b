"""Where data come from by name: `Data.load(source)`."""

import os
import sys
import tempfile
import zipfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from paredown.data.functions import from_function, one_line, with_validation
from paredown.data.parts import Data
from paredown.data.split import Split
from paredown.errors import DataError

# What an `.npz` may hold: part -> the keys of its inputs and labels, first found first taken.
NPZ_KEYS = {
    "train": (("x_train", "y_train"), ("x", "y")),
    "validation": (("x_test", "y_test"), ("x_validation", "y_validation")),
    "calibration": (("x_calibration", ""),),
}


def load(source: str) -> Data:
    """See `Data.load`."""
    if source in BUILTIN:
        return BUILTIN[source]()
    if source.endswith(".npz"):
        return _from_npz(Path(source))
    place, _, function = source.rpartition(":")
    if place and function.isidentifier():
        return from_function(place, function)
    instead = (
        f"Name the function in it that returns the data, e.g. {source}:load."
        if source.endswith(".py")
        else "Use digits, data.npz, or load.py:my_data for the function my_data() in load.py."
    )
    raise DataError(
        f"A data source must be {', '.join(BUILTIN)}, a .npz file, or module:function. Received: {source!r}. {instead}"
    )


def _mnist() -> Data:
    train, test = _keras_dataset("mnist")
    return Data(*((x[..., None], y.astype("int64")) for x, y in (train, test)), name="mnist")


def _cifar10() -> Data:
    train, test = _keras_dataset("cifar10")
    return Data(*((x, y.astype("int64").ravel()) for x, y in (train, test)), name="cifar10")


def _digits() -> Data:
    """scikit-learn's 1797 digits, 8 x 8 in 0..16, enlarged and framed to 28 x 28 x 1, uint8 in 0..255."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    small = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype("uint8")
    x = np.pad(small.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2)))[..., None]
    x_train, x_test, y_train, y_test = train_test_split(
        x, labels.astype("int64"), test_size=0.2, stratify=labels, random_state=0
    )
    return Data((x_train, y_train), (x_test, y_test), name="digits")


#: What Keras's cache calls a data set.
KERAS_FILES = {"mnist": "mnist.npz", "cifar10": "cifar-10-batches-py-target_archive"}
BUILTIN = {"mnist": _mnist, "cifar10": _cifar10, "digits": _digits}


def keras_cache(file: str) -> Path:
    """Where Keras keeps a downloaded dataset file."""
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    if not os.access(home, os.W_OK):
        home = Path("/tmp" if os.path.isdir("/tmp") else tempfile.gettempdir()) / ".keras"
    return home / "datasets" / file


def _keras_dataset(name: str) -> Any:
    import keras

    try:
        # Keras announces a download on stdout, where a program may read JSON.
        with redirect_stdout(sys.stderr):
            return getattr(keras.datasets, name).load_data()
    except Exception as error:
        raise DataError(
            f"The data {name!r} are neither in Keras's cache nor to be had from the network. Received: "
            f"{one_line(error)}. Put the file at {keras_cache(KERAS_FILES[name])}, or use digits (bundled), a "
            ".npz file, or module:function."
        ) from error


def _from_npz(path: Path) -> Data:
    if not path.is_file():
        raise DataError(f"The data file must exist. Received: {path}, which is not there (seen from {Path.cwd()}).")
    if not zipfile.is_zipfile(path):
        raise DataError(f"A .npz file must be an archive of arrays. Received: {path}, which is none. Use np.savez.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return _from_keys(path, archive)
    except (ValueError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise DataError(
            f"A .npz file must hold plain arrays. Received: {path}: {one_line(error)}. Write numbers with np.savez; "
            "arrays of Python objects are not read, since they can hold code."
        ) from error


def _from_keys(path: Path, archive: Any) -> Data:
    parts, used = {}, set()
    for part, candidates in NPZ_KEYS.items():
        for x_key, y_key in candidates:
            if x_key in archive and part not in parts:
                used |= {x_key, y_key}
                parts[part] = Split(archive[x_key], archive.get(y_key))
    if "train" not in parts and "validation" not in parts:
        raise DataError(
            f"A .npz file must hold x_train, y_train, x_test, y_test; or x, y; or x. Received: {path} with "
            f"{', '.join(sorted(archive)) or 'no arrays'}."
        )
    left = sorted(set(archive) - used)
    note = f"{path.name}: {', '.join(left)} not used" if left else ""
    return with_validation(
        parts.get("train"), parts.get("validation"), parts.get("calibration"), name=path.name, note=note
    )
