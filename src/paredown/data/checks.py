"""Whether data fit a network: shapes, labels, NaN. Reads every row once, batch by batch; changes nothing."""

from typing import Any

import numpy as np

from paredown.data.parts import Data
from paredown.data.split import Split, gather
from paredown.errors import DataError

ROWS_PER_BATCH = 1024


def check(data: Data, model: Any) -> None:
    """See `Data.check`."""
    for name, split in data.parts():
        check_split(split, model, name)


def check_split(split: Split, model: Any, part: str) -> None:
    """As `Data.check`, for one part, which messages call `part`."""
    _check_inputs(split, model, part)
    if split.y is not None:
        _check_labels(split, model, part)


def label_kind(y: Any, output_shape: tuple[int | None, ...], activation: str | None = None) -> str | None:
    """What labels mean to an output.

    Args:
        y: Labels, shape (n, ...).
        output_shape: The output's shape, (None, ...); None for a free axis.
        activation: Name of the output's activation where it is known.
    Returns:
        "classes": integers, one per score vector along the last axis; "binary": 0 or 1 for a single sigmoid;
        "targets": values of the output's own shape; None: they do not fit.
    """
    rows, out = tuple(y.shape[1:]), tuple(output_shape[1:])
    integer = np.dtype(y.dtype).kind in "iub"
    if out and integer and out[-1] != 1 and (_fits(rows, out[:-1]) or _fits(rows, (*out[:-1], 1))):
        return "classes"
    if out and out[-1] == 1 and (_fits(rows, out) or _fits(rows, out[:-1])):
        return "binary" if integer and activation == "sigmoid" else "targets"
    return "targets" if _fits(rows, out) else None


def last_activation(tensor: Any) -> str | None:
    """Name of the activation that an output tensor comes out of, e.g. "softmax"; None where there is none to see."""
    layer = tensor._keras_history.operation
    if type(layer).__name__ in ("Softmax", "ReLU", "LeakyReLU"):
        return type(layer).__name__.lower()
    return getattr(getattr(layer, "activation", None), "__name__", None)


def _fits(shape: tuple, expected: tuple) -> bool:
    return len(shape) == len(expected) and all(e is None or s == e for s, e in zip(shape, expected, strict=True))


def _check_inputs(split: Split, model: Any, part: str) -> None:
    columns = [(name, column) for name, column in split.columns() if name.startswith("x")]
    if len(columns) != len(model.inputs):
        raise DataError(
            f"Data must have one x per input of the network ({len(model.inputs)}). Received: {len(columns)} ({part}). "
            "For several inputs give x as a tuple of arrays, in the order of model.inputs."
        )
    for (name, column), tensor in zip(columns, model.inputs, strict=True):
        shape, expected = tuple(column.shape), tuple(tensor.shape)
        if not _fits(shape[1:], expected[1:]):
            raise DataError(
                f"{name} must have the shape that the network's input {tensor.name!r} takes, {_text(expected)}. "
                f"Received: {_text(shape)} ({part}). {_shape_hint(name, shape, expected)}"
            )
        if np.dtype(column.dtype).kind not in "iubf":
            raise DataError(f"{name} must hold numbers. Received: {column.dtype} ({part}). Convert it to float32.")
        _check_finite(name, column, part)


def _check_labels(split: Split, model: Any, part: str) -> None:
    """A single y belongs to the first output; a tuple has one array per output."""
    columns = [(name, column) for name, column in split.columns() if name.startswith("y")]
    if len(columns) not in (1, len(model.outputs)):
        raise DataError(
            f"Labels must be one array, or one per output of the network ({len(model.outputs)}). "
            f"Received: {len(columns)} ({part})."
        )
    for (name, column), tensor in zip(columns, model.outputs, strict=False):
        if np.dtype(column.dtype).kind not in "iubf":
            raise DataError(f"{name} must hold numbers. Received: {column.dtype} ({part}). Number the classes from 0.")
        kind = label_kind(column, tensor.shape, last_activation(tensor))
        if kind is None:
            raise DataError(
                f"{name} must fit the network's output {tensor.name!r}, {_text(tensor.shape)}. Received: "
                f"{_text(column.shape)} of {column.dtype} ({part}). {_label_hint(name, column, tensor.shape)}"
            )
        if kind == "targets":
            _check_finite(name, column, part)
        else:
            _check_classes(name, column, 2 if kind == "binary" else tensor.shape[-1], part)


def _check_classes(name: str, column: Any, classes: int | None, part: str) -> None:
    for start, block in _blocks(column):
        wrong = block < 0
        if classes is not None:
            wrong = wrong | (block >= classes)
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            index = ", ".join(str(i) for i in (place[0] + start, *place[1:]))
            raise DataError(
                f"Labels must be classes of the network, 0 to {'…' if classes is None else classes - 1}. "
                f"Received: {name}[{index}] = {block[place]} ({part}). Number the classes from 0."
            )


def _check_finite(name: str, column: Any, part: str) -> None:
    if np.dtype(column.dtype).kind != "f":
        return
    for start, block in _blocks(column):
        finite = np.isfinite(block)
        if not finite.all():
            place = tuple(int(i) for i in np.argwhere(~finite)[0])
            raise DataError(
                f"Data must be finite numbers. Received: {block[place]} in {name}[{place[0] + start}] ({part}). "
                "Remove or repair that row."
            )


def _blocks(column: Any):
    for start in range(0, len(column), ROWS_PER_BATCH):
        yield start, gather(column, np.arange(start, min(start + ROWS_PER_BATCH, len(column))))


def _shape_hint(name: str, shape: tuple, expected: tuple) -> str:
    rows, want = shape[1:], expected[1:]
    if _fits((*rows, 1), want):
        return f"Add the channel axis: {name}[..., None]."
    if rows and rows[-1] == 1 and _fits(rows[:-1], want):
        return f"Drop the last axis: {name}[..., 0]."
    if len(rows) == len(want) == 3 and _fits((*rows[1:], rows[0]), want):
        return f"Move the channels last: np.moveaxis({name}, 1, -1)."
    if len(rows) == len(want) == 3 and _fits((rows[2], *rows[:2]), want):
        return f"Move the channels first: np.moveaxis({name}, -1, 1)."
    if len(rows) + 1 == len(want) and _fits(shape, want):
        return f"Add the axis of examples: {name}[None]."
    return "Resize or reshape the data to that shape."


def _label_hint(name: str, column: Any, output_shape: tuple) -> str:
    if np.dtype(column.dtype).kind == "f" and label_kind(column.astype("int64"), output_shape) == "classes":
        return f"If these are classes, make them integers: {name}.astype('int64')."
    return "Give one class index per score vector, or targets of the output's shape."


def _text(shape: Any) -> str:
    return "(" + ", ".join("n" if i == 0 and size is None else str(size) for i, size in enumerate(shape)) + ")"
