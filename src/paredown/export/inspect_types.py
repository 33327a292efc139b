"""Looks at the type of every tensor of a .tflite file: the quantizer leaves out silently what it cannot treat."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paredown.network import Network
from paredown.transform import Skip

_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
_WEIGHT_TYPES = ("FLOAT32", "FLOAT16", "INT8", "INT4", "INT2", "UINT8")
# Whose constants are weights even when they are only one number wide.
_WEIGHTED = ("CONV", "FULLY_CONNECTED", "BATCH_MATMUL", "EMBEDDING", "GATHER", "LSTM", "RNN", "SVDF")


@dataclass(frozen=True)
class Wanted:
    """What tensors a format should leave behind.

    Args:
        weights: Type of the weights.
        activations: Whether activations have that type, too.
        kept: Operations that the format leaves out on purpose -> why.
    """

    weights: str
    activations: bool = False
    kept: Mapping[str, str] = field(default_factory=dict)


def stayed_behind(
    content: bytes, network: Network, wanted_of: Callable[[str], tuple[str, Wanted | None]]
) -> tuple[Skip, ...]:
    """One Skip per layer and operation whose weights or activations have another type than the format's.

    Args:
        content: The quantized .tflite file.
        network: What the file was made from: operations are named by its layers, by their tensor where none fits.
        wanted_of: A layer's path -> the format's name, and its types; None for float32.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    layers = {call.path: call.operation for call in network.all_calls()}
    last = _last_layers(network, model.subgraphs[0])
    skips = {}
    for graph in model.subgraphs:
        view = _Graph(model, graph)
        for operation, name in view.operations():
            names = view.names(operation)
            layer = layer_of(names, layers) or last.get(int(operation.outputs[0]), names[-1])
            quantization, wanted = wanted_of(layer)
            reason = _reason(view, operation, name, quantization, wanted) if wanted else None
            if reason:
                skips[Skip(layer, reason)] = None
    return tuple(skips)


def outputs_of_layers(content: bytes, network: Network) -> dict[str, list[list[str]]]:
    """Layer -> for each of its operations the names of the tensors that it gives."""
    from ai_edge_litert.tools import flatbuffer_utils

    graph = flatbuffer_utils.read_model_from_bytearray(bytearray(content)).subgraphs[0]
    found: dict[str, list[list[str]]] = {}
    for operation, layer in zip(graph.operators, layers_of_operations(content, network), strict=True):
        made = [graph.tensors[int(i)].name.decode() for i in operation.outputs]
        if layer is not None:
            found.setdefault(layer, []).append(made)
    return found


def layers_of_operations(content: bytes, network: Network) -> list[str | None]:
    """The layer of each operation of a file's first graph; None where nothing tells it."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    layers = {call.path: call.operation for call in network.all_calls()}
    graph = model.subgraphs[0]
    view, last = _Graph(model, graph), _last_layers(network, graph)
    known = [
        layer_of(view.names(o), layers) or last.get(int(o.outputs[0]) if len(o.outputs) else -1)
        for o in graph.operators
    ]
    return by_kernel(list(map(view.kernel, graph.operators)), known, network)


def _last_layers(network: Network, graph: Any) -> dict[int, str]:
    """Output tensor -> the layer that it comes out of; the converter gives outputs names of its own."""
    made_by = {id(tensor): call.path for call in network.calls for tensor in call.outputs}
    return {
        int(index): made_by[id(tensor)]
        for index, tensor in zip(graph.outputs, network.outputs, strict=True)
        if id(tensor) in made_by
    }


def _reason(view: "_Graph", operation: Any, name: str, quantization: str, wanted: Wanted) -> str | None:
    weights = view.weight_types(operation, name)
    wrong = sorted(weights - {wanted.weights})
    if wrong:
        why = wanted.kept.get(name, "the quantizer does not treat it")
        return f"{name} keeps its weights in {wrong[0].lower()}, not {quantization}: {why}"
    if wanted.activations and "FLOAT32" in view.activation_types(operation):
        return f"{name} computes in float32, not {quantization}: the quantizer does not treat it"
    return None


class _Graph:
    """One subgraph of a flatbuffer, read by the types of its tensors."""

    def __init__(self, model: Any, graph: Any):
        from ai_edge_litert.tools import flatbuffer_utils

        self._model, self._graph = model, graph
        schema = flatbuffer_utils.schema_fb
        self._types = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
        self._codes = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
        # Float16 weights reach their operation through a DEQUANTIZE: the constant behind it is what counts.
        self._behind = {
            int(op.outputs[0]): int(op.inputs[0]) for op in graph.operators if self._name(op) == "DEQUANTIZE"
        }

    def operations(self) -> Iterator[tuple[Any, str]]:
        for operation in self._graph.operators:
            name = self._name(operation)
            if name not in _CONVERSIONS:
                yield operation, name

    def weight_types(self, operation: Any, name: str) -> set[str]:
        """Types of an operation's weights: constants that vary along two axes or more; biases are none."""
        weighted = any(word in name for word in _WEIGHTED)
        types = set()
        for index in self._inputs(operation):
            tensor = self._graph.tensors[self._constant(index)]
            sizes = [] if tensor.shape is None else list(tensor.shape)
            matrix = len(sizes) >= 2 and (weighted or int(np.prod(sizes)) > max(sizes))
            if self._is_constant(tensor) and matrix and self._types[tensor.type] in _WEIGHT_TYPES:
                types.add(self._types[tensor.type])
        return types

    def activation_types(self, operation: Any) -> set[str]:
        inputs = [i for i in self._inputs(operation) if not self._is_constant(self._graph.tensors[i])]
        return {self._types[self._graph.tensors[i].type] for i in [*inputs, *operation.outputs]}

    def names(self, operation: Any) -> list[str]:
        """Names of an operation's constants, then of its outputs: fused operations are named after several layers."""
        inputs = [self._constant(i) for i in self._inputs(operation)]
        constants = [i for i in inputs if self._is_constant(self._graph.tensors[i])]
        return [self._graph.tensors[i].name.decode() for i in [*constants, *operation.outputs]]

    def kernel(self, operation: Any) -> tuple[int, ...] | None:
        """Shape of the kernel of a convolution or dense operation; None of any other."""
        if self._name(operation) not in ("CONV_2D", "FULLY_CONNECTED") or len(operation.inputs) < 2:
            return None
        return tuple(self._graph.tensors[self._constant(int(operation.inputs[1]))].shape)

    def _inputs(self, operation: Any) -> list[int]:
        return [int(i) for i in operation.inputs if i >= 0]

    def _constant(self, index: int) -> int:
        source = self._behind.get(index, index)
        return source if self._is_constant(self._graph.tensors[source]) else index

    def _is_constant(self, tensor: Any) -> bool:
        data = self._model.buffers[tensor.buffer].data
        return data is not None and len(data) > 0

    def _name(self, operation: Any) -> str:
        code = self._model.operatorCodes[operation.opcodeIndex]
        # Old files keep small codes in the deprecated field alone.
        return self._codes[max(code.builtinCode, code.deprecatedBuiltinCode)]


def layer_of(names: Sequence[str], layers: Mapping[str, Any]) -> str | None:
    """The layer that tensor names tell, else None: `functional_1/block_1/conv_1/convolution` is `block/conv`.

    Keras enters every layer's scope twice, so TensorFlow appends a number to each part. Fused operations name several
    layers; one with a kernel goes before a BatchNorm or activation that was folded into it.
    """
    found = [path for name in names for scope in name.split(";") if (path := _path(scope, layers))]
    kernels = [p for p in found if any(len(w.shape) > 1 for w in getattr(layers[p], "weights", []))]
    return next(iter(kernels or found), None)


def by_kernel(
    kernels: Sequence[tuple[int, ...] | None], known: Sequence[str | None], network: Network
) -> list[str | None]:
    """Names for operations that have none of their own: TensorFlow gives grouped convolutions no scope.

    Args:
        kernels: Shape of each operation's kernel in the file, [outputs, …, inputs]; None where it has none.
        known: The layer of each, as far as `layer_of` tells it.
        network: What the file was made from.
    Returns:
        `known`, and the rest by the shapes of kernels, in the order of execution.
    """
    open_layers = [
        (call.path, _sizes((call.operation.kernel.shape[-1], *call.operation.kernel.shape[:-1])))
        for call in network.all_calls()
        if hasattr(call.operation, "kernel") and call.path not in known
    ]
    found = list(known)
    for place, (shape, name) in enumerate(zip(kernels, known, strict=True)):
        match = next((one for one in open_layers if shape and not name and one[1] == _sizes(shape)), None)
        if match:
            found[place] = match[0]
            open_layers.remove(match)
    return found


def _sizes(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(size) for size in shape if size != 1)


def _path(scope: str, layers: Mapping[str, Any]) -> str | None:
    parts = [re.sub(r"_\d+$", "", part) for part in scope.split("/")]
    spans = [(start, stop) for start in range(len(parts)) for stop in range(len(parts), start, -1)]
    return next((path for start, stop in spans if (path := "/".join(parts[start:stop])) in layers), None)
