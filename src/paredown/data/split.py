"""Inputs and labels of one part, read in pieces and never loaded whole."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from paredown.errors import DataError


@dataclass(frozen=True, eq=False)
class Split:
    """Inputs and their labels, one row per example.

    Args:
        x: Array-like with a length and slicing (NumPy array, np.memmap, h5py dataset, …), shape (n, ...); a tuple
            of such for a network with several inputs. A plain list becomes an array.
        y: Labels, shape (n,) or (n, ...); a tuple for several outputs; None where there are none.
    Raises:
        DataError: If a part has no rows to slice, or the lengths differ.
    """

    x: Any
    y: Any = None

    def __post_init__(self):
        object.__setattr__(self, "x", _columns(self.x, "x"))
        object.__setattr__(self, "y", None if self.y is None else _columns(self.y, "y"))
        lengths = {name: len(column) for name, column in self.columns()}
        if len(set(lengths.values())) > 1:
            raise DataError(
                "Inputs and labels must be of one length. Received: "
                + ", ".join(f"{name} with {length} rows" for name, length in lengths.items())
                + ". Give one label per example."
            )

    def columns(self) -> Iterator[tuple[str, Any]]:
        """Every array with its name: `("x", …)`, or `("x[0]", …), ("x[1]", …)` for several; the same for y."""
        for name, value in (("x", self.x), ("y", self.y)):
            if isinstance(value, tuple):
                yield from ((f"{name}[{i}]", column) for i, column in enumerate(value))
            elif value is not None:
                yield name, value

    def __len__(self) -> int:
        return len(self.x[0] if isinstance(self.x, tuple) else self.x)

    def __repr__(self) -> str:
        return f"Split({', '.join(f'{name}: {tuple(column.shape)}' for name, column in self.columns())})"

    def rows(self, indices: np.ndarray) -> tuple[Any, Any]:
        """The examples at `indices` as NumPy arrays: (x, y), y None without labels.

        Args:
            indices: Shape (m,), in any order.
        """
        return map_columns(self.x, lambda a: gather(a, indices)), map_columns(self.y, lambda a: gather(a, indices))

    def part(self, indices: np.ndarray) -> "Split":
        """The examples at `indices` as a split that still reads its rows only when they are asked for."""
        return Split(map_columns(self.x, lambda a: Rows(a, indices)), map_columns(self.y, lambda a: Rows(a, indices)))

    def take(self, n: int) -> "Split":
        """The first `n` examples (all, where there are fewer)."""
        return self.part(np.arange(min(n, len(self))))

    def sample(self, n: int, seed: int) -> "Split":
        """At most `n` examples, drawn without order."""
        return self.part(np.sort(np.random.default_rng(seed).permutation(len(self))[:n]))

    def batches(self, batch_size: int) -> Iterator[tuple[Any, Any]]:
        """The examples in order as (x, y) of at most `batch_size` rows, NumPy arrays, one batch in memory at a time."""
        for start in range(0, len(self), batch_size):
            yield self.rows(np.arange(start, min(start + batch_size, len(self))))

    def inputs_only(self) -> "Split":
        return self if self.y is None else Split(self.x)


class Rows:
    """Some rows of an array-like, in a given order, read only when they are asked for.

    Args:
        source: Array-like with a length and slicing.
        indices: Row numbers in `source`, shape (m,).
    """

    def __init__(self, source: Any, indices: np.ndarray):
        indices = np.asarray(indices)
        # A view of a view reads the source itself: no chain grows.
        self.source, self.indices = (
            (source.source, source.indices[indices]) if isinstance(source, Rows) else (source, indices)
        )
        self.shape: tuple[int, ...] = (len(self.indices), *source.shape[1:])
        self.dtype = source.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Any) -> np.ndarray:
        chosen = self.indices[key]
        return gather(self.source, chosen) if chosen.ndim else gather(self.source, chosen[None])[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def gather(source: Any, indices: np.ndarray) -> np.ndarray:
    """The rows at `indices` of an array-like that may offer nothing but slicing."""
    if isinstance(source, Rows):
        return gather(source.source, source.indices[indices])
    if len(indices) and np.array_equal(indices, np.arange(indices[0], indices[0] + len(indices))):
        return np.asarray(source[int(indices[0]) : int(indices[-1]) + 1])
    if isinstance(source, np.ndarray):
        return np.asarray(source[indices])
    if not len(indices):
        return np.asarray(source[0:0])
    return np.concatenate([np.asarray(source[int(i) : int(i) + 1]) for i in indices])


def hold_out(split: Split, share: float, seed: int = 0) -> tuple[Split, Split]:
    """Cuts a split in two at random: (kept, held out), always alike for one seed; at least one row in each.

    Args:
        share: Of the rows to hold out, in (0, 1).
    """
    order = np.random.default_rng(seed).permutation(len(split))
    held = min(max(1, round(share * len(split))), len(split) - 1)
    return split.part(np.sort(order[held:])), split.part(np.sort(order[:held]))


def map_columns(value: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(value, tuple):
        return tuple(function(v) for v in value)
    return None if value is None else function(value)


def _columns(value: Any, name: str) -> Any:
    if isinstance(value, tuple):
        return tuple(_column(v, f"{name}[{i}]") for i, v in enumerate(value))
    return _column(value, name)


def _column(value: Any, name: str) -> Any:
    if isinstance(value, list):
        try:
            value = np.asarray(value)
        except ValueError as error:
            raise DataError(f"The rows of {name} must be of one shape. Received: a list; {error}.") from error
    sliceable = hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, dict | str)
    if not sliceable or not getattr(value, "shape", ()):
        raise DataError(
            f"{name} must be an array with a length, a shape and slicing. Received: {type(value).__name__}. "
            "Give a NumPy array, np.memmap or h5py dataset, or a tuple of these for several inputs."
        )
    return value
