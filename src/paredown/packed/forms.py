"""THE table of forms, and a file rewritten in one of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from paredown.errors import SettingError
from paredown.packed.bits import MOST
from paredown.packed.codes import Codes, codes_of
from paredown.packed.editor import Editor, Kernel
from paredown.packed.piece import ROUNDED, Form, Piece
from paredown.packed.run import RUN
from paredown.packed.ship import SHIP
from paredown.transform import Skip

#: Name -> how a file holds packed kernels.
FORMS: Mapping[str, Form] = {"ship": SHIP, "run": RUN}
#: Stands for the form that measuring chooses.
AUTO = "auto"
_TOO_MANY = f"a channel of it has more than {MOST} different values"
#: A kernel is moved to a grid that changes it by at most this share of its own size.
TOLERANCE = 0.02


@dataclass(frozen=True)
class PackedKernel:
    """A kernel as a file holds it.

    Args:
        name: Of its layer, or of its tensor where no network tells it.
        kind: Of the operation that reads it.
        bits: That an index, or a number on the grid, takes.
        values: Of the largest codebook.
        codebooks: How many it has.
        plain_bytes: As float32.
        payload_bytes: What weights and whatever decodes them take.
        error: Root mean square of its change, as a share of the kernel's own.
    """

    name: str
    kind: str
    bits: int
    values: int
    codebooks: int
    plain_bytes: int
    payload_bytes: int
    error: float


@dataclass(frozen=True, eq=False)
class Written:
    """A file in some form: its content, the kernels that are packed, and why others are not."""

    content: bytes
    kernels: tuple[PackedKernel, ...]
    skips: tuple[Skip, ...]


class Source:
    """A file to be packed, its codes found once for all forms.

    Args:
        content: The .tflite file.
        layers: Name of a tensor -> the layer that it comes from, as far as it is known.
    """

    def __init__(self, content: bytes, layers: Mapping[str, str] | None = None):
        self.content, self._layers = content, layers or {}
        self._kernels, skips = Editor(content).kernels()
        self._codes: dict[int, Codes | None] = {k.index: codes_of(k.rows) for k in self._kernels}
        self._skips = [Skip(self._layers.get(name, name), reason) for name, reason in skips]

    def written(self, form: str, tolerance: float = TOLERANCE) -> Written:
        """The file in a form of the table.

        Args:
            tolerance: Largest change of a kernel, as a share of its own size.
        """
        row = FORMS[form]
        pieces: list[Piece] = []
        skips = list(self._skips)
        for kernel in self._kernels:
            codes = self._codes[kernel.index]
            piece = None if codes is None else row.prepare(kernel, codes)
            reason = _TOO_MANY if piece is None else _why_not(piece, tolerance)
            if reason:
                skips.append(Skip(self._name(kernel), reason))
            elif piece is not None:
                pieces.append(piece)
        if not pieces:
            return Written(self.content, (), tuple(skips))
        editor = Editor(self.content)
        row.write(editor, pieces)
        return Written(editor.content(), tuple(map(self._told, pieces)), tuple(skips))

    def _told(self, piece: Piece) -> PackedKernel:
        kernel, codebooks = piece.kernel, piece.codes.codebooks
        return PackedKernel(
            self._name(kernel),
            kernel.kind,
            piece.bits,
            codebooks.shape[1],
            len(codebooks),
            kernel.values.nbytes,
            piece.payload_bytes,
            piece.error,
        )

    def _name(self, kernel: Kernel) -> str:
        return self._layers.get(kernel.name, kernel.name)


def check_form(form: Any) -> str:
    """`form` where there is such a one, "auto" included; SettingError otherwise."""
    if not isinstance(form, str) or form not in (*FORMS, AUTO):
        raise SettingError(
            f"pack must be one of {', '.join((*FORMS, AUTO))}. Received: pack={form!r}. "
            "Use ship for the smallest file, run for full speed, auto to have both measured."
        )
    return form


def check_tolerance(tolerance: Any) -> float:
    """`tolerance` where it is a number from 0 up to 1; SettingError otherwise."""
    number = isinstance(tolerance, int | float) and not isinstance(tolerance, bool)
    if not number or not 0 <= tolerance < 1:
        raise SettingError(
            f"tolerance must be in [0, 1). Received: tolerance={tolerance!r}. Use {TOLERANCE} to let kernels change by "
            "2 % of their size, 0 to move none."
        )
    return float(tolerance)


def _why_not(piece: Piece, tolerance: float) -> str | None:
    values, takes = piece.kernel.values, piece.payload_bytes + piece.overhead_bytes
    if takes >= values.nbytes:
        different = len(np.unique(values))
        return (
            f"its {values.nbytes:,} bytes would become up to {takes:,}, with what decodes its {different:,} different "
            "values"
        )
    if piece.error > max(tolerance, ROUNDED):
        return (
            f"its values do not lie on an int8 grid: moving them there changes it by {100 * piece.error:.2g} % of its "
            f"size, more than {100 * tolerance:g} %"
        )
    return None
