"""Reads a .tflite file: its graphs, and their operations lifted out of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from paredown.tflite.operation import DTYPES, Operation, Tensor

_ONCE = ("CALL_ONCE", "VAR_HANDLE")


@dataclass(frozen=True)
class Graph:
    """One graph of a file; the first is the network, the others are what its loops run.

    Args:
        operations: In order of execution, without what LiteRT runs once, before the first inference: a DEQUANTIZE of
            a constant, which belongs to what reads it, CALL_ONCE, and what names the variables that it fills.
        outputs: Numbers of the tensors that it gives.
    """

    operations: tuple[Operation, ...]
    outputs: tuple[int, ...]


def graphs(content: bytes) -> list[Graph]:
    """All graphs of a .tflite file."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    return [
        Graph(tuple(_Reader(model, graph, flatbuffer_utils.schema_fb).operations()), tuple(map(int, graph.outputs)))
        for graph in model.subgraphs
    ]


def operations(content: bytes) -> list[Operation]:
    """The operations of a .tflite file's first graph, in order of execution."""
    return list(graphs(content)[0].operations)


class _Reader:
    def __init__(self, model: Any, graph: Any, schema: Any):
        self.model, self.graph = model, graph
        self.types, self.kinds = _names(schema.TensorType), _names(schema.BuiltinOperator)

    def operations(self) -> Iterator[Operation]:
        unpacked = {
            int(o.outputs[0]): int(o.inputs[0])
            for o in self.graph.operators
            if self.kind(o) == "DEQUANTIZE" and self.is_constant(int(o.inputs[0]))
        }
        for operator in self.graph.operators:
            outputs = [int(i) for i in operator.outputs]
            if self.kind(operator) in _ONCE or (outputs and outputs[0] in unpacked):
                continue
            inputs = [int(i) for i in operator.inputs]
            sources = [unpacked.get(i, i) for i in inputs]
            given = [i for i in sources if i >= 0]
            options = operator.builtinOptions
            yield Operation(
                self.kind(operator),
                self.model.operatorCodes[operator.opcodeIndex].version,
                "" if options is None else type(options).__name__.removesuffix("T"),
                () if options is None else tuple(sorted((k, _plain(v)) for k, v in vars(options).items())),
                tuple(None if s < 0 else self.tensor(s, i != s) for i, s in zip(inputs, sources, strict=True)),
                tuple(self.tensor(i) for i in outputs),
                tuple(self.name(i) for i in [*filter(self.is_constant, given), *outputs]),
                tuple(i for i in given if not self.is_constant(i)),
                tuple(outputs),
            )

    def kind(self, operator: Any) -> str:
        code = self.model.operatorCodes[operator.opcodeIndex]
        # Old files keep small codes in the deprecated field alone.
        return self.kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def name(self, index: int) -> str:
        return self.graph.tensors[index].name.decode()

    def data(self, index: int) -> Any:
        return self.model.buffers[self.graph.tensors[index].buffer].data

    def is_constant(self, index: int) -> bool:
        data = self.data(index)
        return data is not None and len(data) > 0

    def tensor(self, index: int, unpacked: bool = False) -> Tensor:
        tensor: Any = self.graph.tensors[index]
        quantized: Any = tensor.quantization
        kind = self.types[tensor.type]
        shape = tuple(int(size) for size in (() if tensor.shape is None else tensor.shape))
        scales, zeros, axis = (), (), 0
        if quantized is not None and quantized.scale is not None and len(quantized.scale):
            scales, zeros = tuple(map(float, quantized.scale)), tuple(map(int, quantized.zeroPoint))
            axis = int(quantized.quantizedDimension)
        if not self.is_constant(index):
            return Tensor(shape, kind, "activation", (), scales, zeros, axis)
        if kind in ("INT32", "INT64", "BOOL") and not scales:
            return Tensor(shape, kind, "constant", tuple(np.frombuffer(bytes(self.data(index)), DTYPES[kind]).tolist()))
        return Tensor(shape, kind, "weights", (), scales, zeros, axis, "FLOAT32" if unpacked else "")


def _names(enumeration: Any) -> dict[int, str]:
    return {code: name for name, code in vars(enumeration).items() if isinstance(code, int)}


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
