"""Data and trained networks that experiments need, found by name.

They lie in one folder: `data/load.py` with one function for each data set, `data/models/NAME.keras` for the networks.
The folder is `PAREDOWN_SHARED` (`--material DIR`), else `shared` beside the project. What is not there and Keras knows
(mnist, cifar10) comes from Keras's cache or the network; digits are scikit-learn's own.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from paredown.data import Data
from paredown.data.sources import BUILTIN, KERAS_FILES, keras_cache
from paredown.errors import DataError

VARIABLE = "PAREDOWN_SHARED"
_BESIDE_THE_PROJECT = Path(__file__).parents[4] / "shared"


def folder() -> Path:
    """Where material is looked for."""
    return Path(os.environ.get(VARIABLE) or _BESIDE_THE_PROJECT)


def data(name: str) -> Data:
    """A data set by name.

    Raises:
        DataError: If it is neither in the folder, nor Keras's and to be had; it names every place.
    """
    if _has_function(name):
        return Data.load(f"{folder() / 'data' / 'load.py'}:{name}")
    if name not in BUILTIN:
        raise _missing(name)
    try:
        return Data.load(name)
    except DataError as error:
        raise DataError(f"{error} An experiment also looks for {_function(name)}; {_HOW}") from error


def network(name: str) -> Path:
    """The file of a trained network by name: a `.keras` file unless the name ends otherwise.

    Raises:
        DataError: If it is not there.
    """
    path = _network_path(name)
    if not path.is_file():
        raise _missing(name)
    return path


def at_hand(name: str) -> bool:
    """Whether a data set or network can be had without the network."""
    cached = name in KERAS_FILES and keras_cache(KERAS_FILES[name]).exists()
    builtin = name in BUILTIN and name not in KERAS_FILES
    return builtin or cached or _has_function(name) or _network_path(name).is_file()


def check(needs: Iterable[str]) -> None:
    """Sees that everything is there; data that Keras can fetch are fetched.

    Raises:
        DataError: At the first that cannot be had.
    """
    for name in needs:
        if at_hand(name):
            continue
        if name not in BUILTIN:
            raise _missing(name)
        data(name)


_HOW = f"give its folder with --material DIR or {VARIABLE}."


def _network_path(name: str) -> Path:
    return folder() / "data" / "models" / (name if Path(name).suffix else f"{name}.keras")


def _function(name: str) -> str:
    return f"a function {name}() in {folder() / 'data' / 'load.py'}"


def _has_function(name: str) -> bool:
    """Whether load.py defines it, told from its text: running it is for whoever wants the data."""
    try:
        text = (folder() / "data" / "load.py").read_text(encoding="utf-8")
    except OSError:
        return False
    return f"\ndef {name}(" in f"\n{text}"


def _missing(name: str) -> DataError:
    return DataError(
        f"An experiment's data and networks must be at hand. Received: {name!r}, and there is neither "
        f"{_function(name)} nor {_network_path(name)}. If you have it, {_HOW}"
    )
