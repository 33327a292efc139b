"""A look into custom layers that are made of other layers: their `call` run on symbolic tensors.

What comes out is the functional view of one call, with the layer's own sublayers in it, so that a network can be
followed through it as through a nested model. The layer itself is not changed: what the trace writes down at its
sublayers is taken away again, and a layer whose call sets variables is not looked into.
"""

import inspect
import weakref
from dataclasses import dataclass
from typing import Any

import keras
from keras import tree

#: Classes that have a rule of their own, and are not looked into.
WHOLE: set[type] = set()
_traces: "weakref.WeakKeyDictionary[Any, Trace]" = weakref.WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Trace:
    """What looking into a layer gave.

    Args:
        graph: The functional view, None where there is none.
        reason: Why there is none.
        signature: On what the layer was called, and the weights that it had.
    """

    graph: Any
    reason: str
    signature: tuple


def may_look_into(operation: Any) -> bool:
    """Whether it is a custom layer without a rule and without weights that none of its sublayers holds."""
    if not isinstance(operation, keras.layers.Layer) or type(operation) in WHOLE:
        return False
    return not type(operation).__module__.startswith("keras.") and not _own_weights(operation)


def look_into(layer: Any, args: tuple, kwargs: dict) -> Trace:
    """Traces one call.

    Args:
        layer: For which `may_look_into` holds.
        args, kwargs: Of the call, symbolic tensors in their places.
    """
    kwargs = {name: value for name, value in kwargs.items() if name != "training"}
    signature = _signature(layer, args, kwargs)
    known = _traces.get(layer)
    if known is None or known.signature != signature:
        known = _traces[layer] = _traced(layer, args, kwargs, signature)
    return known


def _own_weights(layer: Any) -> list[Any]:
    below = {id(w) for sub in layer._flatten_layers(include_self=False) for w in sub.weights}
    return [weight for weight in layer.weights if id(weight) not in below]


def _signature(layer: Any, args: tuple, kwargs: dict) -> tuple:
    leaves = [
        (tuple(leaf.shape), leaf.dtype) if isinstance(leaf, keras.KerasTensor) else repr(leaf)
        for leaf in tree.flatten((args, kwargs))
    ]
    return (*leaves, *(id(weight) for weight in layer.weights))


def _traced(layer: Any, args: tuple, kwargs: dict, signature: tuple) -> Trace:
    def refused(reason: str) -> Trace:
        return Trace(None, reason, signature)

    given = [leaf for leaf in tree.flatten((args, kwargs)) if isinstance(leaf, keras.KerasTensor)]
    if any("float" in str(t.dtype) and t.dtype != layer.compute_dtype for t in given):
        return refused("it computes in another number format than it is given")
    takes_training = "training" in inspect.signature(layer.call).parameters
    try:
        graph = _graph(layer, args, kwargs)
        kinds = _kinds(graph)
        if takes_training and kinds != _kinds(_graph(layer, args, {**kwargs, "training": True})):
            return refused("its call does other work in training")
        names = [operation.name for operation in graph.operations]
        if len(names) != len(set(names)):
            return refused("two of its layers have one name")
        missing = {id(w) for w in layer.weights} - {
            id(w) for operation in graph.operations for w in getattr(operation, "weights", ())
        }
        if missing:
            return refused("its call uses weights outside their layers")
    except Exception as error:  # its call is code of any kind
        first = (str(error).strip().splitlines() or [""])[0]
        return refused(f"its call cannot be traced ({type(error).__name__}: {first[:120]})")
    return Trace(graph, "", signature)


def _graph(layer: Any, args: tuple, kwargs: dict) -> Any:
    """The functional view of the call; nothing stays behind at the layer's sublayers."""
    inputs: list[Any] = []

    def entered(leaf: Any) -> Any:
        if not isinstance(leaf, keras.KerasTensor):
            return leaf
        inputs.append(keras.Input(batch_shape=leaf.shape, dtype=leaf.dtype))
        return inputs[-1]

    sublayers = list(layer._flatten_layers(include_self=False))
    before = [(len(sub._inbound_nodes), len(sub._outbound_nodes)) for sub in sublayers]
    try:
        args, kwargs = tree.map_structure(entered, (args, kwargs))
        with keras.StatelessScope() as scope:
            outputs = layer.call(*args, **kwargs)
        if scope.state_mapping:
            raise RuntimeError("it sets variables")
        return keras.Function(inputs if len(inputs) > 1 else inputs[0], outputs, name=layer.name)
    finally:
        for sub, (into, out) in zip(sublayers, before, strict=True):
            del sub._inbound_nodes[into:], sub._outbound_nodes[out:]


def _kinds(graph: Any) -> list[str]:
    return sorted(type(operation).__name__ for operation in graph.operations)
