"""A .tflite file taken apart: its kernels, and room for new tensors, operations and graphs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Operations whose kernels are packed -> the axis of the kernel along which output channels lie.
KINDS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0}
#: Which input of those operations the kernel is.
_KERNEL = 1
_TYPES = {"FLOAT32": np.float32, "INT32": np.int32, "INT64": np.int64, "UINT8": np.uint8, "INT8": np.int8}


@dataclass(frozen=True, eq=False)
class Kernel:
    """A constant that an operation multiplies by.

    Args:
        index: Of its tensor in the first graph.
        name: Of its tensor.
        kind: Of the operation that reads it first.
        operation: That operation's place in the first graph.
        axis: Along which the output channels lie.
        values: float32, in the file's own layout.
    """

    index: int
    name: str
    kind: str
    operation: int
    axis: int
    values: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """Its values, (output channels, weights of each)."""
        return np.moveaxis(self.values, self.axis, 0).reshape(self.values.shape[self.axis], -1)

    def whole(self, rows: np.ndarray) -> np.ndarray:
        """What `rows` was made from: numbers in the file's own layout."""
        shape = self.values.shape
        moved = (shape[self.axis], *shape[: self.axis], *shape[self.axis + 1 :])
        return np.ascontiguousarray(np.moveaxis(rows.reshape(moved), 0, self.axis))

    def along_channels(self, numbers: np.ndarray) -> np.ndarray:
        """One number for each output channel, in a shape that spreads over the kernel."""
        return numbers.reshape([-1 if axis == self.axis else 1 for axis in range(self.values.ndim)])


class Editor:
    """A file that tensors and operations are added to.

    Args:
        content: The .tflite file.
    """

    def __init__(self, content: bytes):
        from ai_edge_litert.tools import flatbuffer_utils

        self._utils, self.schema = flatbuffer_utils, flatbuffer_utils.schema_fb
        self.model: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
        self.graph: Any = self.model.subgraphs[0]
        self._kinds = {code: name for name, code in vars(self.schema.BuiltinOperator).items() if isinstance(code, int)}
        self._types = {code: name for name, code in vars(self.schema.TensorType).items() if isinstance(code, int)}

    def kernels(self) -> tuple[list[Kernel], list[tuple[str, str]]]:
        """The float32 kernels of the first graph, each once; and for every other large constant its name and why it is
        none."""
        found: dict[int, Kernel] = {}
        skips: dict[tuple[int, int], tuple[str, str]] = {}
        for number, graph in enumerate(self.model.subgraphs):
            for place, operation in enumerate(graph.operators):
                kind = self._kind(operation)
                for slot, index in enumerate(map(int, operation.inputs)):
                    if index < 0 or not self._is_large(graph, index):
                        continue
                    name, reason = self.name(graph, index), self._why_not(number, graph, index, kind, slot)
                    if reason:
                        skips.setdefault((number, index), (name, reason))
                    elif index not in found:
                        found[index] = Kernel(index, name, kind, place, KINDS[kind], self._values(index))
        # What one operation cannot have packed, another can: the tensor is computed for both.
        return list(found.values()), [told for (number, index), told in skips.items() if number or index not in found]

    def name(self, graph: Any, index: int) -> str:
        """Of a tensor; its number where it has none."""
        return (graph.tensors[index].name or b"").decode() or f"tensor {index}"

    def release(self, index: int) -> None:
        """Makes a constant of the first graph a tensor that is computed; its data go, where no one else has them."""
        buffer = self.graph.tensors[index].buffer
        self.graph.tensors[index].buffer = 0
        if not any(t.buffer == buffer for graph in self.model.subgraphs for t in graph.tensors):
            self.model.buffers[buffer].data = None

    def new_graph(self, name: str) -> int:
        """An empty graph; its number."""
        made = self.schema.SubGraphT()
        made.name, made.tensors, made.operators, made.inputs, made.outputs = name.encode(), [], [], [], []
        self.model.subgraphs.append(made)
        return len(self.model.subgraphs) - 1

    def tensor(self, graph: Any, kind: str, shape: Sequence[int], data: np.ndarray | None = None) -> int:
        """A new tensor of a graph, a constant where there are data.

        Args:
            kind: Type, as the schema names it.
            data: Anything of that type and shape.
        """
        made = self.schema.TensorT()
        made.name, made.shape, made.type = b"", list(map(int, shape)), getattr(self.schema.TensorType, kind)
        # Buffer 0 is the empty one, by convention.
        made.buffer = 0 if data is None else self._buffer(np.ascontiguousarray(data, _TYPES[kind]))
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    def constant(self, graph: Any, kind: str, data: Any) -> int:
        """A new constant tensor."""
        data = np.asarray(data, _TYPES[kind])
        return self.tensor(graph, kind, data.shape, data)

    def operation(
        self, graph: Any, kind: str, version: int, inputs: Sequence[int], outputs: Sequence[int], **options: Any
    ) -> Any:
        """A new operation at a graph's end.

        Args:
            options: `of`, the schema's class of its options without the T; then that class's fields.
        """
        made, of = self.schema.OperatorT(), options.pop("of", None)
        made.opcodeIndex, made.inputs, made.outputs = self._code(kind, version), list(inputs), list(outputs)
        if of:
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, of)
            made.builtinOptions = getattr(self.schema, f"{of}T")()
            for key, value in options.items():
                setattr(made.builtinOptions, key, value)
        graph.operators.append(made)
        return made

    def content(self) -> bytes:
        """The file."""
        return bytes(self._utils.convert_object_to_bytearray(self.model))

    def _code(self, kind: str, version: int) -> int:
        number = getattr(self.schema.BuiltinOperator, kind)
        for place, code in enumerate(self.model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == number and not code.customCode:
                code.version = max(code.version, version)
                return place
        made = self.schema.OperatorCodeT()
        # Where old readers look; 127 says that the number does not fit there.
        made.builtinCode, made.deprecatedBuiltinCode, made.version = number, min(number, 127), version
        self.model.operatorCodes.append(made)
        return len(self.model.operatorCodes) - 1

    def _buffer(self, data: np.ndarray) -> int:
        made = self.schema.BufferT()
        made.data = np.frombuffer(data.tobytes(), np.uint8)
        self.model.buffers.append(made)
        return len(self.model.buffers) - 1

    def _kind(self, operation: Any) -> str:
        code = self.model.operatorCodes[operation.opcodeIndex]
        # Old files keep small codes in the deprecated field alone.
        return self._kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def _is_large(self, graph: Any, index: int) -> bool:
        """Whether a tensor is a constant of numbers along two axes or more."""
        tensor = graph.tensors[index]
        data = self.model.buffers[tensor.buffer].data
        shape = [] if tensor.shape is None else [int(size) for size in tensor.shape]
        integers = self._types[tensor.type] in ("INT32", "INT64", "BOOL") and tensor.quantization is None
        wide = sum(size > 1 for size in shape) > 1
        return data is not None and len(data) > 0 and not integers and wide

    def _why_not(self, number: int, graph: Any, index: int, kind: str, slot: int) -> str | None:
        tensor = graph.tensors[index]
        if self._types[tensor.type] != "FLOAT32":
            return f"it is {self._types[tensor.type].lower()} already"
        if kind not in KINDS or slot != _KERNEL:
            return f"a constant of {kind}, which packing does not treat"
        if number:
            return f"a kernel of {kind} inside a loop, which packing does not treat"
        if tensor.sparsity is not None:
            return "it is stored without its zeros already"
        return None

    def _values(self, index: int) -> np.ndarray:
        tensor = self.graph.tensors[index]
        data = np.frombuffer(bytes(self.model.buffers[tensor.buffer].data), np.float32)
        return data.reshape([int(size) for size in tensor.shape])
