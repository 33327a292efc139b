"""Shared weights inside a .tflite file: few values for each kernel, stored as such, run by plain LiteRT."""

from paredown.packed.forms import AUTO, FORMS, TOLERANCE, PackedKernel, check_form
from paredown.packed.grid import on_grid
from paredown.packed.packing import Packing, Sizes, pack_litert, packed_content

__all__ = [
    "AUTO",
    "FORMS",
    "TOLERANCE",
    "PackedKernel",
    "Packing",
    "Sizes",
    "check_form",
    "on_grid",
    "pack_litert",
    "packed_content",
]
