"""Float16 biases for a .tflite file of float16 kernels.

The quantizer leaves biases in float32, and LiteRT for browsers then runs every such layer in its plain kernels, several
times slower than with float32 kernels: there XNNPACK takes a float16 kernel with a float16 bias, or none of both.
"""

import copy
from typing import Any

import numpy as np

#: Place of the bias among an operation's inputs.
_BIAS = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}


def with_half_biases(content: bytes) -> bytes:
    """The file with the biases of its float16 kernels in float16, too; those that float16 cannot hold stay."""
    from ai_edge_litert.tools import flatbuffer_utils

    schema = flatbuffer_utils.schema_fb
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    places = {getattr(schema.BuiltinOperator, kind): place for kind, place in _BIAS.items()}
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    for graph in model.subgraphs:
        unpacking = {int(o.outputs[0]): o for o in graph.operators if _unpacks_half(model, graph, o, codes, schema)}
        found: list[tuple[Any, int, Any]] = []
        for operation in graph.operators:
            place = places.get(codes[operation.opcodeIndex], len(operation.inputs))
            unpack = next((unpacking[int(i)] for i in operation.inputs if int(i) in unpacking), None)
            if place < len(operation.inputs) and unpack is not None:
                found.append((operation, place, unpack))
        made: dict[int, Any] = {}
        for operation, place, unpack in found:
            bias = int(operation.inputs[place])
            if bias not in made and _fits(model, graph, bias, schema):
                readers = sum(bias in o.inputs for o in graph.operators)
                alone = readers == sum(int(o.inputs[p]) == bias for o, p, _ in found)
                made[bias] = _halved(model, graph, bias, unpack, alone, schema)
        for operation, place, _ in found:
            inputs = [int(i) for i in operation.inputs]
            if inputs[place] in made:
                inputs[place] = int(made[inputs[place]].outputs[0])
                operation.inputs = inputs
        graph.operators = [*made.values(), *graph.operators]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _unpacks_half(model: Any, graph: Any, operation: Any, codes: list[int], schema: Any) -> bool:
    """Whether an operation is the DEQUANTIZE of a float16 constant."""
    if codes[operation.opcodeIndex] != schema.BuiltinOperator.DEQUANTIZE:
        return False
    source = graph.tensors[int(operation.inputs[0])]
    return source.type == schema.TensorType.FLOAT16 and model.buffers[source.buffer].data is not None


def _fits(model: Any, graph: Any, index: int, schema: Any) -> bool:
    """Whether a tensor is a float32 constant whose numbers float16 can hold; -1 stands for no bias."""
    tensor = graph.tensors[index]
    data = model.buffers[tensor.buffer].data
    known = index >= 0 and data is not None and tensor.type == schema.TensorType.FLOAT32
    return known and bool(np.isfinite(_half(data)).all())


def _half(data: Any) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.frombuffer(bytes(data), "<f4").astype("<f2")


def _halved(model: Any, graph: Any, index: int, unpack: Any, alone: bool, schema: Any) -> Any:
    """Makes a tensor float16, or a copy of it where others read it; gives the DEQUANTIZE of it, one like `unpack`."""
    tensor = graph.tensors[index]
    wide = copy.copy(tensor)
    wide.name, wide.buffer = tensor.name + b"_unpacked", 0
    old, buffer = model.buffers[tensor.buffer], schema.BufferT()
    buffer.data = np.frombuffer(_half(old.data).tobytes(), np.uint8)
    model.buffers.append(buffer)
    if alone:
        if sum(one.buffer == tensor.buffer for g in model.subgraphs for one in g.tensors) == 1:
            old.data = None
    else:
        index, tensor = len(graph.tensors), copy.copy(tensor)
        tensor.name += b"_float16"
        graph.tensors.append(tensor)
    tensor.type, tensor.buffer = schema.TensorType.FLOAT16, len(model.buffers) - 1
    graph.tensors.append(wide)
    made = copy.copy(unpack)
    made.inputs, made.outputs = [index], [len(graph.tensors) - 1]
    return made
