"""A .tflite file of one operation, written straight: a millisecond's work, where a conversion takes a second."""

import math
from typing import Any

import numpy as np

from paredown.tflite.operation import BITS, DTYPES, Operation, Tensor


def single(operation: Operation) -> bytes:
    """The file.

    Args:
        operation: Its weights get random numbers, always the same, which take no less time than trained ones.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    made = _Maker(flatbuffer_utils.schema_fb).made(operation)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(made))


class _Maker:
    def __init__(self, schema: Any):
        self.schema, self.random = schema, np.random.default_rng(0)
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version, self.model.description = 3, "one operation"
        # Buffer 0 is the empty one, by convention.
        self.model.buffers, self.model.subgraphs, self.model.operatorCodes = [schema.BufferT()], [self.graph], []
        self.graph.tensors, self.graph.operators = [], []

    def made(self, operation: Operation) -> Any:
        inputs = [-1 if t is None else self.read(t) for t in operation.inputs]
        outputs = [self.tensor(t) for t in operation.outputs]
        given = zip(inputs, operation.inputs, strict=True)
        self.graph.inputs = [i for i, t in given if t is not None and t.role == "activation"]
        self.graph.outputs = outputs
        options = None
        if operation.options_type:
            options = getattr(self.schema, f"{operation.options_type}T")()
            for key, value in operation.options:
                setattr(options, key, list(value) if isinstance(value, tuple) else value)
        self.operator(operation.kind, operation.version, inputs, outputs, options)
        return self.model

    def read(self, tensor: Tensor) -> int:
        """A tensor that the operation reads; float16 weights by way of a DEQUANTIZE."""
        index = self.tensor(tensor)
        if not tensor.through:
            return index
        unpacked = self.tensor(Tensor(tensor.shape, tensor.through))
        self.operator("DEQUANTIZE", 3, [index], [unpacked], self.schema.DequantizeOptionsT())
        return unpacked

    def tensor(self, tensor: Tensor) -> int:
        made = self.schema.TensorT()
        made.name, made.shape = f"tensor_{len(self.graph.tensors)}".encode(), list(tensor.shape)
        made.type = getattr(self.schema.TensorType, tensor.type)
        made.buffer = 0 if tensor.role == "activation" else self.buffer(tensor)
        if tensor.scales:
            made.quantization = self.schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = list(tensor.scales), list(tensor.zeros)
            made.quantization.quantizedDimension = tensor.axis
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def buffer(self, tensor: Tensor) -> int:
        made, count = self.schema.BufferT(), math.prod(tensor.shape)
        if tensor.role == "constant":
            data = np.array(tensor.values, DTYPES[tensor.type]).tobytes()
        elif tensor.type in ("FLOAT32", "FLOAT16"):
            data = self.random.uniform(-0.1, 0.1, count).astype(DTYPES[tensor.type]).tobytes()
        else:
            data = self.random.integers(0, 100, math.ceil(count * BITS[tensor.type] / 8), np.uint8).tobytes()
        made.data = np.frombuffer(data, np.uint8)
        self.model.buffers.append(made)
        return len(self.model.buffers) - 1

    def operator(self, kind: str, version: int, inputs: list[int], outputs: list[int], options: Any) -> None:
        code, made = self.schema.OperatorCodeT(), self.schema.OperatorT()
        code.builtinCode = getattr(self.schema.BuiltinOperator, kind)
        # Where old readers look; 127 says that the number does not fit there.
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
        self.model.operatorCodes.append(code)
        made.opcodeIndex, made.inputs, made.outputs = len(self.model.operatorCodes) - 1, inputs, outputs
        if options is not None:
            made.builtinOptions = options
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.graph.operators.append(made)
