"""A read-only view of a Keras Functional or Sequential model: its calls, in the order of execution.

Everything that follows a network from its inputs to its outputs is one `walk`; only what flows differs: labels
(channels), symbolic tensors (rebuild), arrays (masking, statistics) or shapes (cost). This is the one file that
knows how Keras keeps its graph.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
from keras import tree
from keras.src.ops.symbolic_arguments import SymbolicArguments

from paredown.composites import look_into, may_look_into
from paredown.errors import ModelError

Step = Callable[["Call", tuple, dict], list[Any]]


@dataclass(frozen=True, eq=False)
class Call:
    """One call of one layer or operation.

    Args:
        operation: The Keras layer or `keras.ops` operation.
        path: Its name, behind the names of the nested models that hold it: `"encoder/conv"`. One operation has one
            path, wherever and however often it is called.
        inputs, outputs: The symbolic tensors that it reads and gives, in order.
        inner: The view of the nested model, where the operation is one, or of the calls of a custom layer that is
            made of others.
        not_seen: Why a custom layer was not looked into.
    """

    operation: Any
    path: str
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    inner: "Network | None"
    _arguments: Any
    not_seen: str = ""

    def fill(self, values: dict[int, Any]) -> tuple[tuple, dict]:
        """The call's arguments with every symbolic tensor replaced by `values[id(tensor)]`."""
        return self._arguments.fill_in(values)

    @property
    def arguments(self) -> tuple[tuple, dict]:
        """The call's positional and keyword arguments, symbolic tensors in their places."""
        return self._arguments.args, self._arguments.kwargs

    @property
    def named(self) -> dict[str, Any]:
        """The call's arguments by the names that the operation's `call` gives them."""
        args, kwargs = self.arguments
        return inspect.signature(self.operation.call).bind(*args, **kwargs).arguments

    def within(self, operation: Any, inputs: Sequence[Any], outputs: Sequence[Any]) -> "Call":
        """The call of an operation that a wrapper makes inside this call, with the same path."""
        return Call(operation, self.path, tuple(inputs), tuple(outputs), None, SymbolicArguments(*inputs))

    def infer(self, args: tuple, kwargs: dict, weights: dict[int, Any] | None = None) -> list[Any]:
        """What the operation gives on arrays at inference, whatever `training` its call was written with.

        Args:
            weights: `id` of a variable of the layer -> the value to use in its place.
        """
        operation = self.operation
        replaced = [(v, weights[id(v)]) for v in operation.variables if id(v) in weights] if weights else []
        with keras.StatelessScope(replaced) if replaced else contextlib.nullcontext():
            return self.run(args, kwargs, training=False)

    def run(self, args: tuple, kwargs: dict, training: bool | None) -> list[Any]:
        """What the operation gives on arrays; `training` goes before that of the call, as when Keras runs a network."""
        if training is not None and "training" in getattr(self.operation, "_call_context_args", ()):
            kwargs = {**kwargs, "training": training}
        return tree.flatten(self.operation(*args, **kwargs))

    @property
    def is_composite(self) -> bool:
        """Whether it is a custom layer that was looked into."""
        return self.inner is not None and not _is_network(self.operation)

    @property
    def is_layer(self) -> bool:
        return isinstance(self.operation, keras.layers.Layer)


class Network:
    """The calls of a model in order of execution.

    Args:
        model: A built Functional or Sequential model.
        prefix, known: For nested models: what stands before their paths, and the operations seen so far.
        graph: For custom layers that were looked into: the functional view of their call.
    Raises:
        ModelError: For a subclassed or unbuilt model, whose calls cannot be seen.
    """

    def __init__(
        self,
        model: Any,
        prefix: str = "",
        known: "dict[int, tuple[str, Network | None, str]] | None" = None,
        graph: Any = None,
    ):
        self.model = model
        self._graph = graph or _functional(model)
        self._prefix = prefix
        self._known = {} if known is None else known
        self.inputs = tuple(self._graph.inputs)
        self.outputs = tuple(self._graph.outputs)

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        graph, calls = self._graph, []
        for depth in sorted(graph._nodes_by_depth, reverse=True):
            for node in graph._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                path, inner, not_seen = self._look_up(node)
                inputs, outputs = tuple(node.arguments.keras_tensors), tuple(node.outputs)
                _check_ranks(path, inputs, inner)
                calls.append(Call(node.operation, path, inputs, outputs, inner, node.arguments, not_seen))
        return tuple(calls)

    def _look_up(self, node: Any) -> "tuple[str, Network | None, str]":
        """An operation's path, and its view where it has one; a shared one has those of its first place."""
        operation = node.operation
        if id(operation) not in self._known:
            path, inner, not_seen = self._prefix + operation.name, None, ""
            if _is_network(operation):
                inner = Network(operation, path + "/", self._known)
            elif may_look_into(operation):
                graph, not_seen = self._graph_of(node)
                inner = Network(operation, path + "/", self._known, graph) if graph else None
            self._known[id(operation)] = path, inner, not_seen
        return self._known[id(operation)]

    def _graph_of(self, node: Any) -> tuple[Any, str]:
        """The functional view of a custom layer, or why there is none."""
        nodes = [other for others in self._graph._nodes_by_depth.values() for other in others]
        calls = [(n.arguments.args, n.arguments.kwargs) for n in nodes if n.operation is node.operation]
        if len({_shapes(call) for call in calls}) > 1:
            return None, "it is called on tensors of several shapes"
        trace = look_into(node.operation, node.arguments.args, node.arguments.kwargs)
        return trace.graph, trace.reason

    def all_calls(self) -> Iterator[Call]:
        """Every call, those inside nested models in the place of the nested model."""
        for call in self.calls:
            if call.inner is None:
                yield call
            else:
                yield from call.inner.all_calls()

    def walk(self, inputs: Sequence[Any], step: Step, descend: bool = True) -> list[Any]:
        """Follows the network from `inputs` to its outputs.

        Args:
            inputs: One value per input tensor, in order.
            step: `step(call, args, kwargs)` gives the call's output values, a list in order.
            descend: Walk through nested models with the same step; False hands them to `step` as one call.
        Returns:
            One value per output tensor, in order.
        """
        values = {id(tensor): value for tensor, value in zip(self.inputs, inputs, strict=True)}
        for call in self.calls:
            args, kwargs = call.fill(values)
            if call.inner is not None and descend:
                given = [values[id(tensor)] for tensor in call.inputs]
                results = call.inner.walk(given, step)
            else:
                results = step(call, args, kwargs)
            for tensor, value in zip(call.outputs, results, strict=True):
                values[id(tensor)] = value
        return [values[id(tensor)] for tensor in self.outputs]

    def cast_inputs(self, arrays: Sequence[Any]) -> list[Any]:
        """Arrays or tensors as tensors of the types that the network takes, as Keras itself does before it runs one."""
        return [keras.ops.cast(array, t.dtype) for array, t in zip(arrays, self.inputs, strict=True)]

    def pack_inputs(self, inputs: Sequence[Any]) -> Any:
        """`inputs` in the structure (tensor, list or dict) that the model was made with."""
        return tree.pack_sequence_as(self._graph._inputs_struct, list(inputs))

    def pack_outputs(self, outputs: Sequence[Any]) -> Any:
        """`outputs` in the structure (tensor, list or dict) that the model was made with."""
        return tree.pack_sequence_as(self._graph._outputs_struct, list(outputs))


def _shapes(arguments: Any) -> str:
    return repr([leaf if not hasattr(leaf, "shape") else tuple(leaf.shape) for leaf in tree.flatten(arguments)])


def _check_ranks(path: str, inputs: tuple, inner: "Network | None") -> None:
    """Keras adds or drops a last axis of 1 where a nested model is called; nothing here would see that."""
    for given, own in zip(inputs, inner.inputs if inner else (), strict=False):
        if len(given.shape) != len(own.shape):
            raise ModelError(
                f"A nested model must be called on tensors with as many axes as its inputs. Received: {given.shape} "
                f"for {path}, whose input is {own.shape}. Put a Reshape before it."
            )


def _is_network(operation: Any) -> bool:
    return isinstance(operation, keras.Function | keras.Sequential)


def _functional(model: Any) -> Any:
    if isinstance(model, keras.Sequential):
        if not model.built or getattr(model, "_functional", None) is None:
            raise ModelError(
                f"A Sequential model must be built. Received: {model.name!r} without a known input shape. "
                "Give it a keras.Input first, or call model.build(input_shape)."
            )
        return model._functional
    if isinstance(model, keras.Function):
        return model
    raise ModelError(
        "The model must be a Keras Functional or Sequential network, so that its layers' calls can be seen. "
        f"Received: {getattr(model, 'name', model)!r} of class {type(model).__name__}. "
        "Rebuild it with keras.Model(inputs, outputs)."
    )
