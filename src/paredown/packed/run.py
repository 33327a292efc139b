"""Full speed: whole numbers of one byte and their step, which XNNPACK turns into floats while it prepares.

    int8 [kernel's shape] -DEQUANTIZE-> float32     value = step * number, one step for a kernel or for each channel

The values of a codebook must lie on a grid, step times -127 to 127. Those that do not are moved there: then each
channel has a step of its own, for the values that it has.
"""

import numpy as np

from paredown.packed.codes import Codes
from paredown.packed.editor import Editor, Kernel
from paredown.packed.grid import on_grid
from paredown.packed.piece import ROUNDED, Form, Piece, change

# A step is a float and, for the same quantization parameters, a zero point of 8 bytes.
_STEP_BYTES = 4 + 8
# What its operation and tensor were seen to take in a file, rounded up.
_KERNEL_BYTES = 300
#: The version of the operation that takes a step for each channel.
_DEQUANTIZE = 5


def _prepare(kernel: Kernel, codes: Codes) -> Piece:
    best = np.inf, np.empty(0), np.empty(0)
    # The fewest steps first.
    for grids in (_of_kernel, _of_codebooks, _of_channels):
        numbers, steps = grids(kernel, codes)
        best = min(best, (change(kernel.rows, steps[:, None] * numbers), numbers, steps), key=lambda one: one[0])
        if best[0] <= ROUNDED:
            break
    error, numbers, steps = best
    if (steps == steps[0]).all():
        steps = steps[:1]
    payload = numbers.size + _STEP_BYTES * len(steps)
    return Piece(kernel, codes, 8, payload, _KERNEL_BYTES, error, numbers, steps)


def _of_kernel(kernel: Kernel, codes: Codes) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (rows, n) and steps (rows,): one grid, and each channel's scale."""
    return _from_codebooks(codes, np.zeros(len(codes.codebooks), int))


def _of_codebooks(kernel: Kernel, codes: Codes) -> tuple[np.ndarray, np.ndarray]:
    """The same, a grid for each codebook."""
    return _from_codebooks(codes, np.arange(len(codes.codebooks)))


def _of_channels(kernel: Kernel, codes: Codes) -> tuple[np.ndarray, np.ndarray]:
    """The same, a grid for each channel, for the values that it has."""
    rows = kernel.rows
    numbers, steps = np.empty(rows.shape, np.int8), np.empty(len(rows))
    for place, row in enumerate(rows):
        values, where, uses = np.unique(row, return_inverse=True, return_counts=True)
        steps[place], on = on_grid(values, uses)
        numbers[place] = on[where.ravel()]
    return numbers, _positive(steps)


def _from_codebooks(codes: Codes, grids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and steps.

    Args:
        grids: The grid of each codebook.
    """
    scales = np.ones(len(codes.indices)) if codes.scales is None else codes.scales.astype(np.float64)
    k = codes.codebooks.shape[1]
    where = codes.groups[:, None] * k + codes.indices
    uses = np.bincount(where.ravel(), np.repeat(np.square(scales), where.shape[1]), codes.codebooks.size)
    values = np.where(uses > 0, codes.codebooks.ravel(), 0)
    on, steps = np.empty(values.shape, np.int8), np.empty(len(scales))
    for grid in np.unique(grids):
        members = np.repeat(grids == grid, k)
        step, on[members] = on_grid(values[members], uses[members])
        steps[(grids == grid)[codes.groups]] = step
    # A negative scale turns the numbers round: steps are positive.
    return on[where] * np.sign(scales).astype(np.int8)[:, None], _positive(steps * np.abs(scales))


def _positive(steps: np.ndarray) -> np.ndarray:
    """Steps as a file holds them; a channel of zeros has none of its own."""
    narrow = steps.astype(np.float32)
    return np.where(narrow < np.finfo(np.float32).tiny, np.float32(1), narrow)


def _write(editor: Editor, pieces: list[Piece]) -> None:
    operations, editor.graph.operators = list(editor.graph.operators), []
    for piece in pieces:
        assert piece.numbers is not None
        assert piece.steps is not None
        kernel = piece.kernel
        made = editor.constant(editor.graph, "INT8", kernel.whole(piece.numbers))
        quantization = editor.schema.QuantizationParametersT()
        quantization.scale = [float(step) for step in piece.steps]
        quantization.zeroPoint = [0] * len(piece.steps)
        quantization.quantizedDimension = kernel.axis if len(piece.steps) > 1 else 0
        editor.graph.tensors[made].quantization = quantization
        editor.release(kernel.index)
        editor.operation(editor.graph, "DEQUANTIZE", _DEQUANTIZE, [made], [kernel.index], of="DequantizeOptions")
    editor.graph.operators += operations


RUN = Form(_prepare, _write, file_bytes=200)
