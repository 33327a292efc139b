"""Full speed: whole numbers of one byte and their step, which XNNPACK turns into floats while it prepares.

    int8 [kernel's shape] -DEQUANTIZE-> float32     value = step * number, one step for a kernel or for each channel

The values of a codebook must lie on a grid, step times -127 to 127; those that do not are moved there.
"""

import numpy as np

from paredown.packed.codes import Codes
from paredown.packed.editor import Editor, Kernel
from paredown.packed.grid import on_grid
from paredown.packed.piece import Form, Piece, change

# A step is a float and, for the same quantization parameters, a zero point of 8 bytes.
_STEP_BYTES = 4 + 8
# What its operation and tensor were seen to take in a file, rounded up.
_KERNEL_BYTES = 300
#: The version of the operation that takes a step for each channel.
_DEQUANTIZE = 5


def _prepare(kernel: Kernel, codes: Codes) -> Piece:
    scales = np.ones(len(codes.indices)) if codes.scales is None else codes.scales.astype(np.float64)
    numbers, steps = np.empty(codes.indices.shape, np.int8), np.empty(len(scales))
    for group, codebook in enumerate(codes.codebooks):
        rows = codes.groups == group
        uses = np.bincount(
            codes.indices[rows].ravel(),
            np.broadcast_to(np.square(scales[rows])[:, None], codes.indices[rows].shape).ravel(),
            minlength=len(codebook),
        )
        step, on = on_grid(np.where(uses > 0, codebook, 0), uses)
        # A negative scale turns the numbers round: steps are positive.
        numbers[rows] = on[codes.indices[rows]] * np.sign(scales[rows]).astype(np.int8)[:, None]
        steps[rows] = step * np.abs(scales[rows])
    narrow = steps.astype(np.float32)
    # A channel of zeros has no step of its own.
    narrow[narrow < np.finfo(np.float32).tiny] = 1.0
    if (narrow == narrow[0]).all():
        narrow = narrow[:1]
    error = change(kernel.rows, narrow[:, None] * numbers)
    payload = numbers.size + _STEP_BYTES * len(narrow)
    return Piece(kernel, codes, 8, payload, _KERNEL_BYTES, error, numbers, narrow)


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
