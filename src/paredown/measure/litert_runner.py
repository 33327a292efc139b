"""Runs a .tflite file on many samples."""

import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from paredown.errors import DataError, ModelError, SettingError
from paredown.measure.quiet import one_line, quiet
from paredown.measure.size import read_tflite

# How `export_litert` and Keras number tensors in a file's signature.
_NUMBERED = re.compile(r"(?:input|args|output)_(\d+)")


class LiteRTRunner:
    """A loaded .tflite file of batch 1.

    Samples go through one by one, as on a phone: resizing such a file to a larger batch gained nothing on one
    thread, and files with a baked reshape refuse it.

    Args:
        source: Path of the file, or its content.
        threads: Threads of the interpreter, at least 1.
        one_sample: Refuse files that take none or several samples at once; others can only be timed.
    Raises:
        ModelError: If the file is missing, damaged, or not of batch 1 and a fixed size.
        SettingError: If `threads` is less than 1.
    """

    def __init__(self, source: str | os.PathLike | bytes, threads: int = 1, one_sample: bool = True):
        self.name = "the exported network" if isinstance(source, bytes) else str(source)
        content = source if isinstance(source, bytes) else read_tflite(source)
        self._interpreter = _load(content, check_threads(threads), self.name)
        self.inputs = _in_order(self._interpreter, "input")
        self.outputs = _in_order(self._interpreter, "output")
        for detail in self.inputs if one_sample else ():
            self._check_static(detail)

    def run(self, batch: Any) -> list[np.ndarray]:
        """Outputs for a batch.

        Args:
            batch: Array, shape (n, ...), n >= 1; a tuple or list of such for several inputs, in the Keras
                model's order.
        Returns:
            One array per output, shape (n, ...), in the Keras model's output order (for a file from elsewhere:
            in the order of its signature's output_0, output_1 … or, without one, of the file).
        Raises:
            DataError: If number, shape or type of the inputs do not fit the file.
        """
        columns = self._columns(batch)
        count = len(columns[0])
        results: list[np.ndarray] = []
        for row in range(count):
            self.set_inputs([column[row : row + 1] for column in columns])
            self.invoke()
            outputs = [self._interpreter.get_tensor(detail["index"]) for detail in self.outputs]
            if not results:
                results = [np.empty((count, *output.shape[1:]), output.dtype) for output in outputs]
            for result, output in zip(results, outputs, strict=True):
                result[row] = output[0]
        return results

    def set_inputs(self, sample: Sequence[np.ndarray]) -> None:
        """Hands over one array per input, each of the input's own shape and type."""
        for detail, array in zip(self.inputs, sample, strict=True):
            self._interpreter.set_tensor(detail["index"], array)

    def random_inputs(self) -> list[np.ndarray]:
        """One array per input to be timed with, always the same for inputs of one shape: 0 or 1 for integers, which
        may be indices of a table, else uniform in [0, 1)."""
        rng = np.random.default_rng(0)
        return [_random(rng, detail) for detail in self.inputs]

    def set_random_inputs(self) -> None:
        """Hands over `random_inputs`."""
        self.set_inputs(self.random_inputs())

    def invoke(self) -> None:
        """One inference on the inputs that were set."""
        self._interpreter.invoke()

    def _columns(self, batch: Any) -> list[np.ndarray]:
        columns = list(batch) if isinstance(batch, tuple | list) else [batch]
        if len(columns) != len(self.inputs):
            raise DataError(
                f"There must be one array per input of {self.name} ({len(self.inputs)}). Received: {len(columns)}. "
                "Give several inputs as a tuple of arrays."
            )
        return [self._column(np.asarray(c), detail) for c, detail in zip(columns, self.inputs, strict=True)]

    def _column(self, column: np.ndarray, detail: dict) -> np.ndarray:
        expected = tuple(int(size) for size in detail["shape"][1:])
        if column.ndim == 0 or column.shape[1:] != expected or not len(column):
            raise DataError(
                f"Inputs of {self.name} must have shape (n, {', '.join(map(str, expected))}), n >= 1. "
                f"Received: {column.shape}. Resize the data."
            )
        if column.dtype.kind == "f" and np.dtype(detail["dtype"]).kind != "f":
            raise DataError(
                f"{self.name} takes {np.dtype(detail['dtype']).name} inputs. Received: {column.dtype}. "
                "Export it with export_litert, which keeps inputs as the Keras network has them."
            )
        return np.ascontiguousarray(column, detail["dtype"])

    def _check_static(self, detail: dict) -> None:
        free = tuple(int(size) for size in detail["shape_signature"])
        if -1 in free[1:] or (free and int(detail["shape"][0]) != 1):
            raise ModelError(
                f"A .tflite file must take one sample of a fixed size. Received: {self.name} with an input of shape "
                f"{free}. Export the network with export_litert, which writes batch 1."
            )


def _random(rng: np.random.Generator, detail: dict) -> np.ndarray:
    dtype, shape = np.dtype(detail["dtype"]), tuple(detail["shape"])
    return rng.integers(0, 2, shape).astype(dtype) if dtype.kind in "iub" else rng.random(shape).astype(dtype)


def check_threads(threads: int) -> int:
    """`threads` where it is a whole number from 1 on; SettingError otherwise."""
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise SettingError(f"threads must be a whole number, at least 1. Received: threads={threads!r}. Use 1.")
    return threads


def _load(content: bytes, threads: int, name: str) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    try:
        with quiet():
            interpreter = Interpreter(model_content=content, num_threads=threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ModelError(
            f"LiteRT must be able to load the file. Received: {name}: {one_line(error)}. "
            "The file is damaged, or holds operations that LiteRT lacks; export it again."
        ) from error
    return interpreter


def _in_order(interpreter: Any, side: str) -> list[dict]:
    """Details of the inputs or outputs in the Keras model's order, which the signature's numbers tell.

    The converter is free to write outputs in another order, and two of one shape cannot be told apart by it.
    """
    details = getattr(interpreter, f"get_{side}_details")()
    if len(interpreter.get_signature_list()) != 1:
        return details
    named = getattr(interpreter.get_signature_runner(), f"get_{side}_details")()
    numbers = {name: _NUMBERED.fullmatch(name) for name in named}
    if len(named) != len(details) or not all(numbers.values()):
        return details
    by_index = {int(detail["index"]): detail for detail in details}
    ordered = sorted(named, key=lambda name: int(numbers[name][1]))  # pyright: ignore[reportOptionalSubscript]
    return [by_index[int(named[name]["index"])] for name in ordered]
