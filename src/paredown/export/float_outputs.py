"""Float outputs for a .tflite file that is quantized up to its outputs.

The quantizer can leave outputs in float itself, but where an output is also read by another operation it hands the
float tensor to that operation's int8 kernel, and LiteRT refuses the file.
"""

from typing import Any


def with_float_outputs(content: bytes) -> bytes:
    """The file with every int8 output replaced by the float32 tensor that it stands for.

    An output that was float32 before a final QUANTIZE is taken from before it: nothing is rounded twice.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    schema = flatbuffer_utils.schema_fb
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = model.subgraphs[0]
    replaced = {
        int(index): _float_source(model, graph, int(index), schema)
        for index in graph.outputs
        if graph.tensors[index].type == schema.TensorType.INT8
    }
    if not replaced:
        return content
    graph.outputs = [replaced.get(int(index), int(index)) for index in graph.outputs]
    for signature in model.signatureDefs or []:
        for output in signature.outputs:
            output.tensorIndex = replaced.get(int(output.tensorIndex), int(output.tensorIndex))
    _drop_unread(model, graph, set(replaced), schema)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _float_source(model: Any, graph: Any, index: int, schema: Any) -> int:
    quantize = _code(model, schema.BuiltinOperator.QUANTIZE)
    for operation in graph.operators:
        if operation.opcodeIndex == quantize and int(operation.outputs[0]) == index:
            source = int(operation.inputs[0])
            if graph.tensors[source].type == schema.TensorType.FLOAT32:
                return source
    return _dequantized(model, graph, index, schema)


def _dequantized(model: Any, graph: Any, index: int, schema: Any) -> int:
    """Appends a DEQUANTIZE of tensor `index` and gives its result's index."""
    tensor = schema.TensorT()
    tensor.name = bytes(graph.tensors[index].name) + b"_float"
    tensor.shape, tensor.shapeSignature = graph.tensors[index].shape, graph.tensors[index].shapeSignature
    tensor.type, tensor.buffer = schema.TensorType.FLOAT32, 0  # Buffer 0 is the empty one, by convention.
    graph.tensors.append(tensor)
    operation = schema.OperatorT()
    operation.opcodeIndex = _code(model, schema.BuiltinOperator.DEQUANTIZE)
    if operation.opcodeIndex is None:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
        code.version = 2  # The first that takes int8.
        model.operatorCodes.append(code)
        operation.opcodeIndex = len(model.operatorCodes) - 1
    operation.inputs, operation.outputs = [index], [len(graph.tensors) - 1]
    graph.operators.append(operation)
    return len(graph.tensors) - 1


def _drop_unread(model: Any, graph: Any, indices: set[int], schema: Any) -> None:
    """Takes out the QUANTIZE operations whose results `indices` nobody reads any more."""
    read = {int(i) for operation in graph.operators for i in operation.inputs}
    quantize = _code(model, schema.BuiltinOperator.QUANTIZE)
    graph.operators = [
        operation
        for operation in graph.operators
        if operation.opcodeIndex != quantize or int(operation.outputs[0]) not in indices - read
    ]


def _code(model: Any, builtin: int) -> int | None:
    """Index of an operation in the file's table; None where it is not in use."""
    for i, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin:
            return i
    return None
