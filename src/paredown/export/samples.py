"""Inputs to try and to calibrate an export with, and the sizes that they give a network without fixed ones."""

from typing import Any

import numpy as np

from paredown.errors import DataError, SettingError
from paredown.network import Network

TRIAL_ROWS = 8


def first_rows(network: Network, data: Any, count: int) -> list[np.ndarray]:
    """The first rows of the calibration inputs, one array (n, ...) per input, in the inputs' own types.

    Raises:
        DataError: If number or shape of the inputs do not fit the network.
    """
    x, _ = data.calibration.rows(np.arange(min(count, len(data.calibration))))
    columns = x if isinstance(x, tuple) else (x,)
    if len(columns) != len(network.inputs):
        raise DataError(
            f"Calibration inputs must be one array per input of the network ({len(network.inputs)}). "
            f"Received: {len(columns)}. Give several inputs as a tuple of arrays."
        )
    return [_fitting(np.asarray(column), tensor) for column, tensor in zip(columns, network.inputs, strict=True)]


def shapes(network: Network, data: Any) -> list[tuple[int, ...]]:
    """One shape per input without the batch axis; free axes take their size from the calibration inputs.

    Raises:
        SettingError: If an axis is free and there are no data.
    """
    own = [tuple(tensor.shape[1:]) for tensor in network.inputs]
    if all(None not in shape for shape in own):
        return own
    if data is None:
        tensor = next(t for t, shape in zip(network.inputs, own, strict=True) if None in shape)
        raise SettingError(
            f"A .tflite file has one fixed input size. Received: input {tensor.name!r} of shape {tuple(tensor.shape)} "
            "and data=None. Give data= with inputs of the size that the phone will use."
        )
    return [tuple(column.shape[1:]) for column in first_rows(network, data, 1)]


def trial_inputs(network: Network, data: Any, sizes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """A handful of inputs: real ones where there are data, else uniform in [0, 1), always the same.

    Integer inputs without data are 0 or 1, which any table of an embedding has.
    """
    if data is not None:
        return first_rows(network, data, TRIAL_ROWS)
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 2, (TRIAL_ROWS, *size)).astype(tensor.dtype)
        if np.dtype(tensor.dtype).kind in "iub"
        else rng.random((TRIAL_ROWS, *size)).astype(tensor.dtype)
        for tensor, size in zip(network.inputs, sizes, strict=True)
    ]


def _fitting(column: np.ndarray, tensor: Any) -> np.ndarray:
    expected = tuple(tensor.shape[1:])
    fits = column.ndim == len(expected) + 1 and all(
        size is None or size == given for size, given in zip(expected, column.shape[1:], strict=True)
    )
    if not fits:
        raise DataError(
            f"Calibration inputs must fit input {tensor.name!r} of shape {tuple(tensor.shape)}. "
            f"Received: {column.shape}. Resize or reshape the data."
        )
    return column.astype(tensor.dtype)
