"""One kernel, ready to be written in some form."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from paredown.packed.codes import Codes
from paredown.packed.editor import Editor, Kernel

#: A kernel that changes by less was only rounded to float32.
ROUNDED = 1e-6


@dataclass(frozen=True, eq=False)
class Piece:
    """A kernel as a form writes it.

    Args:
        kernel: What it stands for.
        codes: Its indices and codebooks.
        bits: That each weight takes in the file.
        payload_bytes: What indices or numbers, codebooks, scales and steps take: what the bits say.
        overhead_bytes: What operations and tensors that decode them take in the file beside, at most.
        error: Root mean square of its change, as a share of the kernel's own.
        numbers, steps: Of a form with a grid: whole numbers (rows, n), and one step for each row.
    """

    kernel: Kernel
    codes: Codes
    bits: int
    payload_bytes: int
    overhead_bytes: int
    error: float
    numbers: np.ndarray | None = None
    steps: np.ndarray | None = None


@dataclass(frozen=True)
class Form:
    """A row of `FORMS`.

    Args:
        prepare: `prepare(kernel, codes)` gives the piece.
        write: `write(editor, pieces)` puts all pieces into the file.
        file_bytes: What the form takes in a file once, at most.
    """

    prepare: Callable[[Kernel, Codes], Piece]
    write: Callable[[Editor, list[Piece]], Any]
    file_bytes: int


def change(before: np.ndarray, after: np.ndarray) -> float:
    """Root mean square of a difference, as a share of the first array's own."""
    size = float(np.square(before, dtype="float64").mean()) or 1.0
    return float(np.sqrt(np.square(after.astype("float64") - before).mean() / size))
