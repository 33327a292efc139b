"""Data from a user's own function: `module:function` or `folder/file.py:function`."""

import importlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from paredown.data.parts import Data
from paredown.data.split import Split, hold_out
from paredown.errors import DataError

HELD_OUT = 0.1


def from_function(place: str, function: str) -> Data:
    """The data that `function` of the module or file `place` returns; see `Data.load`."""
    source = f"{place}:{function}"
    with _importable(Path(place).parent if place.endswith(".py") else Path.cwd()):
        loader = _find(place, function)
        returned = _guarded(loader, f"{source}() must return data")
    try:
        return _as_data(returned, f"{Path(place).name}:{function}")
    except DataError as error:
        raise DataError(f"{source}: {error}") from error


def with_validation(train: Any, validation: Any = None, calibration: Any = None, *, name: str, note: str = "") -> Data:
    """`Data`, with a tenth of train held out as validation where there is no validation."""
    if validation is None and train is not None and len(train) > 1:
        train, validation = hold_out(train, HELD_OUT)
        note = "; ".join(filter(None, [note, f"validation: {len(validation)} rows held out of train"]))
    return Data(train, validation, calibration, name=name, note=note)


def one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")


def _as_data(value: Any, name: str) -> Data:
    if isinstance(value, Data):
        return Data(value.train, value.validation, value.calibration, name=name, note=value.note)
    if isinstance(value, Split):
        return with_validation(value, name=name)
    if isinstance(value, tuple) and len(value) == 2:
        if all(isinstance(part, tuple) for part in value):
            return Data(*value, name=name)
        return with_validation(Split(*value), name=name)
    if hasattr(value, "shape"):
        return with_validation(Split(value), name=name)
    count = f" of {len(value)}" if isinstance(value, tuple | list | dict) else ""
    raise DataError(
        "The function must return a Data, ((x, y), (x, y)), (x, y) or x. "
        f"Received: {type(value).__name__}{count}. For anything else return Data(train=…, validation=…)."
    )


def _find(place: str, function: str) -> Any:
    module = _guarded(lambda: _module(place), f"{place} must be importable")
    loader = getattr(module, function, None)
    if not callable(loader):
        offered = ", ".join(_functions(module)) or "no function"
        raise DataError(f"{place} must hold the function that is asked for. Received: {function!r}; it has: {offered}.")
    return loader


def _module(place: str) -> ModuleType:
    if not place.endswith(".py"):
        return importlib.import_module(place)
    path = Path(place)
    if not path.is_file():
        raise DataError(f"The file of a data function must exist. Received: {path}, which is not there.")
    name = f"paredown_data_{path.stem}"
    module = ModuleType(name)
    module.__file__ = str(path)
    # Dataclasses and pickles in the file look their module up by name.
    sys.modules[name] = module
    SourceFileLoader(name, str(path)).exec_module(module)
    return module


def _guarded(function: Any, rule: str) -> Any:
    """Runs the user's code; whatever goes wrong in it becomes one line that names the place."""
    try:
        return function()
    except DataError:
        raise
    except (Exception, SystemExit) as error:
        raise DataError(f"{rule}. Received: {one_line(error)}{_place(error)}. Try it in Python alone.") from error


def _place(error: BaseException) -> str:
    """The innermost line that is neither a library's nor the import system's: most likely the user's own."""
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename and "importlib" not in frame.filename and frame.filename != __file__
    ]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


def _functions(module: ModuleType) -> list[str]:
    """The first functions that a module offers; a message has no room for the hundreds of a library."""
    return sorted(
        name
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    )[:12]


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Lets a data module import what lies beside it; a console command has not the working folder on its path."""
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)
