"""Looks at the type of every tensor of a .tflite file: the quantizer leaves out silently what it cannot treat."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from paredown.export.layer_names import layers_of
from paredown.network import Network
from paredown.tflite import Operation, graphs
from paredown.transform import Skip

_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
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
    skips = {}
    for number, graph in enumerate(graphs(content)):
        for operation, path in zip(graph.operations, layers_of(graph, network, whole=number == 0), strict=True):
            layer = path or operation.names[-1]
            quantization, wanted = wanted_of(layer)
            reason = _reason(operation, quantization, wanted) if wanted else None
            if reason and operation.kind not in _CONVERSIONS:
                skips[Skip(layer, reason)] = None
    return tuple(skips)


def outputs_of_layers(content: bytes, network: Network) -> dict[str, list[list[str]]]:
    """Layer -> for each of its operations the names of the tensors that it gives."""
    graph = graphs(content)[0]
    found: dict[str, list[list[str]]] = {}
    for operation, layer in zip(graph.operations, layers_of(graph, network), strict=True):
        if layer is not None:
            found.setdefault(layer, []).append(list(operation.names[-len(operation.outputs) :]))
    return found


def _reason(operation: Operation, quantization: str, wanted: Wanted) -> str | None:
    wrong = sorted(_weight_types(operation) - {wanted.weights})
    if wrong:
        why = wanted.kept.get(operation.kind, "the quantizer does not treat it")
        return f"{operation.kind} keeps its weights in {wrong[0].lower()}, not {quantization}: {why}"
    if wanted.activations and "FLOAT32" in _activation_types(operation):
        return f"{operation.kind} computes in float32, not {quantization}: the quantizer does not treat it"
    return None


def _weight_types(operation: Operation) -> set[str]:
    """Types of an operation's weights: constants that vary along two axes or more; biases are none."""
    weighted = any(word in operation.kind for word in _WEIGHTED)
    weights = [t for t in operation.inputs if t and t.role == "weights" and len(t.shape) >= 2]
    return {t.type for t in weights if weighted or math.prod(t.shape) > max(t.shape)}


def _activation_types(operation: Operation) -> set[str]:
    """Types of what an operation reads and gives; of its weights where they are unpacked for it."""
    tensors = [t for t in (*operation.inputs, *operation.outputs) if t]
    return {t.through or t.type for t in tensors if t.role == "activation" or t.through}
