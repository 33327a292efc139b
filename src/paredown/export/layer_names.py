"""Which layer each operation of a .tflite file comes from."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from paredown.network import Network
from paredown.tflite import Graph, graphs


def layers_of(graph: Graph, network: Network, whole: bool = True) -> list[str | None]:
    """The path of each operation's layer; None where nothing tells it.

    Args:
        graph: Of the file.
        network: What the file was made from.
        whole: Whether the graph is the network itself, not what a loop of it runs.
    """
    layers = {call.path: call.operation for call in network.all_calls()}
    last = _last_layers(network, graph) if whole else {}
    known = [layer_of(o.names, layers) or last.get(o.writes[0] if o.writes else -1) for o in graph.operations]
    return _by_kernel([o.kernel and o.kernel.shape for o in graph.operations], known, network)


def layers_of_tensors(content: bytes, network: Network) -> dict[str, str]:
    """Name of a constant, or of what an operation gives, in a file's first graph -> the layer that it comes from."""
    graph = graphs(content)[0]
    found: dict[str, str] = {}
    for operation, layer in zip(graph.operations, layers_of(graph, network), strict=True):
        found |= {name: layer for name in operation.names if layer is not None and name not in found}
    return found


def _last_layers(network: Network, graph: Graph) -> dict[int, str]:
    """Output tensor -> the layer that it comes out of; the converter gives outputs names of its own."""
    made_by = {id(tensor): call.path for call in network.calls for tensor in call.outputs}
    return {
        index: made_by[id(tensor)]
        for index, tensor in zip(graph.outputs, network.outputs, strict=True)
        if id(tensor) in made_by
    }


def layer_of(names: Sequence[str], layers: Mapping[str, Any]) -> str | None:
    """The layer that tensor names tell, else None: `functional_1/block_1/conv_1/convolution` is `block/conv`.

    Keras enters every layer's scope twice, so TensorFlow appends a number to each part. Fused operations name several
    layers; one with a kernel goes before a BatchNorm or activation that was folded into it.
    """
    found = [path for name in names for scope in name.split(";") if (path := _path(scope, layers))]
    kernels = [p for p in found if any(len(w.shape) > 1 for w in getattr(layers[p], "weights", []))]
    return next(iter(kernels or found), None)


def _by_kernel(
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
