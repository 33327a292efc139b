"""The smallest file: indices at their true width and a codebook, decoded once, before the first inference.

A graph of its own turns bytes into kernels and hands them over as variables; CALL_ONCE runs it once per interpreter:

    bytes -CAST-> [m] -GATHER in the table of digits-> [m, 8 / plane] -RESHAPE-> [kernel's shape]
    (a second plane is added; and where it begins, if there are several codebooks)
    -GATHER in the codebook-> (-MUL by each channel's scale->) ASSIGN_VARIABLE

XNNPACK wants constant kernels: convolutions with these run in LiteRT's own kernels, slower on most machines. (It takes
computed ones in fully-connected operations; convolutions of 1 × 1 turned into those made MobileNetV2 faster on x86, but
slower in the browser and no cheaper on Arm.)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from paredown.packed.bits import PLANES, digits, planes
from paredown.packed.codes import Codes
from paredown.packed.editor import Editor, Kernel
from paredown.packed.piece import Form, Piece, change

# What a kernel's operations and tensors were seen to take in a file, rounded up.
_KERNEL_BYTES, _PLANE_BYTES = 600, 700


def _prepare(kernel: Kernel, codes: Codes) -> Piece:
    overhead = _KERNEL_BYTES + _PLANE_BYTES * len(PLANES[codes.bits])
    return Piece(kernel, codes, codes.bits, codes.payload_bytes, overhead, change(kernel.rows, codes.rows()))


def _write(editor: Editor, pieces: list[Piece]) -> None:
    number = editor.new_graph("unpack")
    unpack = _Unpack(editor, editor.model.subgraphs[number])
    operations, editor.graph.operators = list(editor.graph.operators), []
    editor.operation(editor.graph, "CALL_ONCE", 1, [], [], of="CallOnceOptions", initSubgraphIndex=number)
    by_place = {piece.kernel.operation: piece for piece in pieces}
    for place, operation in enumerate(operations):
        if place in by_place:
            unpack.kernel(by_place[place])
        editor.graph.operators.append(operation)


class _Unpack:
    """The graph that decodes."""

    def __init__(self, editor: Editor, graph: Any):
        self.editor, self.graph = editor, graph
        self.tables: dict[tuple[int, int], int] = {}
        self.names = 0

    def kernel(self, piece: Piece) -> None:
        """Decodes a kernel into a variable, and lets the first graph read it in the constant's place."""
        kernel, codes, shape = piece.kernel, piece.codes, piece.kernel.values.shape
        self.names += 1
        found = self._indices(kernel, codes)
        if len(codes.codebooks) > 1:
            begins = kernel.along_channels(codes.groups * codes.codebooks.shape[1])
            found = self._add(found, self.editor.constant(self.graph, "INT32", begins), shape)
        codebook = self.editor.constant(self.graph, "FLOAT32", codes.codebooks.ravel())
        values = self._gather(codebook, found, "FLOAT32", shape)
        if codes.scales is not None:
            scales = self.editor.constant(self.graph, "FLOAT32", kernel.along_channels(codes.scales))
            values = self._result("MUL", [values, scales], "FLOAT32", shape, of="MulOptions")
        name = f"kernel_{self.names}"
        handle = _handle(self.editor, self.graph, name)
        self.editor.operation(self.graph, "ASSIGN_VARIABLE", 1, [handle, values], [], of="AssignVariableOptions")
        self.editor.release(kernel.index)
        handle = _handle(self.editor, self.editor.graph, name)
        self.editor.operation(self.editor.graph, "READ_VARIABLE", 1, [handle], [kernel.index], of="ReadVariableOptions")

    def _indices(self, kernel: Kernel, codes: Codes) -> int:
        """int32 indices in the kernel's shape."""
        shape, count = kernel.values.shape, kernel.values.size
        total = None
        for plane, shift, packed in planes(kernel.whole(codes.indices).ravel(), codes.bits):
            each, size = 8 // plane, len(packed)
            found = self._cast(self.editor.constant(self.graph, "UINT8", packed), [size])
            if each > 1:
                found = self._gather(self._table(plane, shift), found, "INT32", [size, each])
            if size * each > count:
                found = self._first(self._reshape(found, [size * each]), count)
            if (size, each) != (count, 1) or list(shape) != [size]:
                found = self._reshape(found, shape)
            total = found if total is None else self._add(total, found, shape)
        assert total is not None
        return total

    def _table(self, plane: int, shift: int) -> int:
        """What the digits of every byte are worth, int32; one for the file."""
        key = (plane, shift)
        if key not in self.tables:
            table = digits(plane) << np.uint8(shift)
            self.tables[key] = self._cast(self.editor.constant(self.graph, "UINT8", table), table.shape)
        return self.tables[key]

    def _first(self, tensor: int, count: int) -> int:
        begin, size = (self.editor.constant(self.graph, "INT32", [number]) for number in (0, count))
        return self._result("SLICE", [tensor, begin, size], "INT32", [count], of="SliceOptions")

    def _cast(self, tensor: int, shape: Sequence[int]) -> int:
        types = self.editor.schema.TensorType
        return self._result(
            "CAST", [tensor], "INT32", shape, of="CastOptions", inDataType=types.UINT8, outDataType=types.INT32
        )

    def _gather(self, table: int, indices: int, kind: str, shape: Sequence[int]) -> int:
        return self._result("GATHER", [table, indices], kind, shape, of="GatherOptions")

    def _reshape(self, tensor: int, shape: Sequence[int]) -> int:
        told = self.editor.constant(self.graph, "INT32", shape)
        return self._result("RESHAPE", [tensor, told], "INT32", shape, of="ReshapeOptions")

    def _add(self, a: int, b: int, shape: Sequence[int]) -> int:
        return self._result("ADD", [a, b], "INT32", shape, of="AddOptions")

    def _result(self, operation: str, inputs: list[int], kind: str, shape: Sequence[int], **options: Any) -> int:
        made = self.editor.tensor(self.graph, kind, shape)
        self.editor.operation(self.graph, operation, 1, inputs, [made], **options)
        return made


def _handle(editor: Editor, graph: Any, name: str) -> int:
    made = editor.tensor(graph, "RESOURCE", [])
    editor.operation(graph, "VAR_HANDLE", 1, [], [made], of="VarHandleOptions", container="", sharedName=name)
    return made


# Six tables of digits come to 8,704 bytes.
SHIP = Form(_prepare, _write, file_bytes=10_000)
